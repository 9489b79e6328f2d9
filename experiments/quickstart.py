"""Trains, attacks and compares the three networks of configs/quickstart.py.

python -m experiments.quickstart --workdir=runs/quickstart
"""

from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import jax
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import fit, report, results, stopping
from advloss.errors import Stopped
from configs import quickstart
from experiments import launcher


def main() -> None:
    folder = Path(launcher.WORKDIR.value)
    recipes = [
        configs.resolve(quickstart.get_config(name)) for name in quickstart.VARIANTS
    ]
    sizes = {size for config in recipes for size in launcher.batch_sizes(config)}
    devices = launcher.devices(*sizes)

    def train(lane: Sequence[ConfigDict], devices: Sequence[jax.Device]) -> None:
        for config in lane:
            fit.train_run(config, folder / config.name, devices)

    # Side by side, each on its own share of the devices: no batch need be split. The
    # undefended network takes a seventh of the others' time.
    lanes = [recipes[:-1], recipes[-1:]]
    shares = _split(devices, len(lanes))
    with ThreadPoolExecutor(1 if shares[0] is devices else len(shares)) as pool:
        _finish(list(map(partial(pool.submit, train), lanes, shares)))
    for config in recipes:
        results.evaluate_run(config, folder / config.name, devices)
    workdirs = [folder / config.name for config in recipes]
    launcher.show(lambda: report.write(workdirs, folder))


def _finish(runs: Sequence[Future]) -> None:
    """Waits for all; where one fails the others are asked to save and end."""
    wait(runs, return_when=FIRST_EXCEPTION)
    if any(run.done() and run.exception() for run in runs):
        stopping.request()
    errors = [error for run in runs if (error := run.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error


def _split(devices: Sequence[jax.Device], parts: int) -> list[Sequence[jax.Device]]:
    """Equal shares, or all devices to each part where they can't be shared."""
    size, rest = divmod(len(devices), parts)
    if rest or jax.process_count() > 1:
        return [devices] * parts
    return [devices[i * size : (i + 1) * size] for i in range(parts)]


if __name__ == "__main__":
    launcher.run(main)
