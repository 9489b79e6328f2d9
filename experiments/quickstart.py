"""Trains, attacks and compares the three networks of configs/quickstart.py.

python -m experiments.quickstart --workdir=runs/quickstart
"""

from pathlib import Path

from advloss import config as configs
from advloss import fit, report, results
from configs import quickstart
from experiments import launcher


def main() -> None:
    workdir = Path(launcher.WORKDIR.value)
    recipes = [
        configs.resolve(quickstart.get_config(name)) for name in quickstart.VARIANTS
    ]
    sizes = {size for config in recipes for size in launcher.batch_sizes(config)}
    devices = launcher.devices(*sizes)
    for config in recipes:
        fit.train_run(config, workdir / config.name, devices)
        results.evaluate_run(config, workdir / config.name, devices)
    folders = [workdir / name for name in quickstart.VARIANTS]
    launcher.show(lambda: report.write(folders, workdir))


if __name__ == "__main__":
    launcher.run(main)
