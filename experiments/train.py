"""Trains one network.

    python -m experiments.train --config=configs/quickstart.py:lmcl --workdir=runs/lmcl

An interrupted run goes on when the same command is given again.
"""

import shlex

from advloss import runs
from experiments import launcher

CONFIG = launcher.define_config()


def main() -> None:
    config = launcher.resolved(CONFIG)
    devices = launcher.devices(config.train.batch_size)
    workdir = launcher.WORKDIR.value
    state = runs.train_run(config, workdir, devices)
    print(
        f"{config.name}: trained for {int(state.step)} steps. To attack it:\n"
        f"python -m experiments.evaluate --workdir={shlex.quote(workdir)}"
    )


if __name__ == "__main__":
    launcher.run(main)
