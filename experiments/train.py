"""Trains one network.

    python -m experiments.train --config=configs/quickstart.py:lmcl --workdir=runs/lmcl

An interrupted run goes on when the same command is given again.
"""

import shlex

from advloss import fit
from experiments import launcher

CONFIG = launcher.define_config()


def main() -> None:
    config = launcher.resolved(CONFIG)
    devices = launcher.devices(config.train.batch_size)
    workdir = launcher.WORKDIR.value
    fit.train_run(config, workdir, devices)
    launcher.show(
        lambda: (
            f"{config.name}: trained for {config.train.steps} steps. To attack it:"
            f"\npython -m experiments.evaluate --workdir={shlex.quote(workdir)}"
        )
    )


if __name__ == "__main__":
    launcher.run(main)
