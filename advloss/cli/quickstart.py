"""Trains, attacks and compares the three networks of configs/quickstart.py.

    advloss quickstart --workdir=runs/quickstart

It takes minutes on two cores, and is to be run where the folder configs/ is.
An interrupted one goes on when the same command is given again.
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import report
from advloss.cli import configfile, flags
from advloss.errors import InputError, Stopped
from advloss.evaluation.run import evaluate_run
from advloss.runtime import signals
from advloss.training.run import train_runs

FLAGS = ("workdir", *flags.DEVICES)
RESUMES = True
NETWORKS = ("undefended", "softmax", "lmcl")


def main(given: flags.Given) -> None:
    """Trains, attacks and compares in --workdir. Raises as `train_runs`."""
    if not Path("configs/quickstart.py").exists():
        raise InputError(
            "configs/quickstart.py is not here: give the command where configs/ is"
        )
    recipes = [
        configs.resolve(configfile.load(f"configs/quickstart.py:{name}"))
        for name in NETWORKS
    ]
    workdirs = [given.workdir / config.name for config in recipes]
    report.check_runs(given.workdir, workdirs)  # Not after minutes.
    sizes = {size for config in recipes for size in flags.batch_sizes(config)}
    devices = flags.devices(given, *sizes)

    def train(lane: Sequence[ConfigDict], devices: Sequence[jax.Device]) -> None:
        for config in lane:
            train_runs([config], [given.workdir / config.name], devices)

    # Side by side, each on its own share of the devices: no batch need be split. The
    # undefended network takes a seventh of the others' time.
    lanes = [recipes[:-1], recipes[-1:]]
    shares = _split(devices, len(lanes))
    with ThreadPoolExecutor(1 if shares[0] is devices else len(shares)) as pool:
        _finish(list(map(partial(pool.submit, train), lanes, shares)))
    for config, workdir in zip(recipes, workdirs, strict=True):
        evaluate_run(config, workdir, devices)
    flags.show(
        lambda: report.write(
            "Three networks on 5,000 digits",
            report.sections_of_runs(workdirs, recipes),
            given.workdir,
            command=given.line,
        )
    )


def _finish(runs: Sequence[Future]) -> None:
    """Waits for all; where one fails the others are asked to save and end."""
    wait(runs, return_when=FIRST_EXCEPTION)
    if any(run.done() and run.exception() for run in runs):
        signals.request()
    errors = [error for run in runs if (error := run.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _split(devices: Sequence[jax.Device], parts: int) -> list[Sequence[jax.Device]]:
    """Equal shares, or all devices to each part where they can't be shared."""
    size, rest = divmod(len(devices), parts)
    if rest or jax.process_count() > 1:
        return [devices] * parts
    return [devices[i * size : (i + 1) * size] for i in range(parts)]
