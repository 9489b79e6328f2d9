"""Trains one network.

    advloss train --config=configs/quickstart.py:lmcl --workdir=runs/lmcl

An interrupted run goes on when the same command is given again.
"""

import shlex

from advloss.cli import flags, idle
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
            f"{config.name}: trained for {config.train.steps} steps. To attack it:\n"
            f"python -m experiments.evaluate --workdir={workdir}"
        )
    )
