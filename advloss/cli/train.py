"""Trains one network.

    advloss train --config=configs/quickstart.py:lmcl --workdir=runs/lmcl

An interrupted run goes on when the same command is given again.
"""

import shlex
from pathlib import Path

from ml_collections import ConfigDict

from advloss.cli import flags, idle
from advloss.training import workdir as folders
from advloss.training.run import train_runs

FLAGS = ("config", "workdir", *flags.DEVICES)
RESUMES = True


def main(given: flags.Given) -> None:
    """Trains the config's network in --workdir. Raises as `train_runs`."""
    config = given.resolved()
    idle.warn([config], given.keys)
    devices = flags.devices(given, config.train.batch_size)
    train_runs([config], [given.workdir], devices)
    workdir = shlex.quote(given.flags.workdir)
    flags.show(
        lambda: (
            f"{config.name}: trained for {_steps(config, given.workdir)}. To attack "
            f"it:\npython -m experiments.evaluate --workdir={workdir}"
        )
    )


def _steps(config: ConfigDict, workdir: Path) -> str:
    """How many there were; of a run that its patience ended, fewer than asked for."""
    train = config.train
    if train.patience and (run := folders.load_run(workdir, config)).step < train.steps:
        ended = f"where train.patience={train.patience} ended it"
        return f"{run.step} of {train.steps} steps, {ended}"
    return f"{train.steps} steps"
