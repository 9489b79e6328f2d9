"""Attacks a trained network and prints its accuracies.

    python -m experiments.evaluate --workdir=runs/lmcl --config.evaluate.pgd.steps=200

The config is the run's own where none is named. Earlier results on the same images
stay; an attack with the same settings is not repeated.
"""

from advloss import report, results
from experiments import launcher

CONFIG = launcher.define_config()


def main() -> None:
    config = launcher.resolved(CONFIG)
    devices = launcher.devices(config.evaluate.batch_size)
    results.evaluate_run(config, launcher.WORKDIR.value, devices)
    launcher.show(
        lambda: report.terminal_attack_table(report.load_row(launcher.WORKDIR.value))
    )


if __name__ == "__main__":
    launcher.run(main, saved_config=True)
