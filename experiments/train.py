"""Trains one network.

    python -m experiments.train --config=configs/quickstart.py:lmcl --workdir=runs/lmcl

An interrupted run goes on when the same command is given again.
"""

from advloss import runs
from experiments import launcher

CONFIG = launcher.define_config()


def main() -> None:
    config = launcher.resolved(CONFIG)
    devices = launcher.devices(config.train.batch_size)
    runs.train_run(config, launcher.WORKDIR.value, devices)


if __name__ == "__main__":
    launcher.run(main)
