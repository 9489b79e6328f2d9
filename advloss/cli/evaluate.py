"""Attacks a trained network and prints its accuracies.

    advloss evaluate --workdir=runs/lmcl --config.evaluate.pgd.steps=200

The config is the run's own where --config names no other. What was measured
stays; an attack with the same settings on the same images is not repeated.
"""

from advloss import config as configs
from advloss import report
from advloss.cli import flags
from advloss.errors import InputError
from advloss.evaluation.run import evaluate_run

FLAGS = ("config", "workdir", *flags.DEVICES)
SAVED_CONFIG = True
RESUMES = True


def main(given: flags.Given) -> None:
    """Attacks the network in --workdir. Raises as `evaluate_run`."""
    config = given.resolved()
    saved = configs.load_config(given.workdir).name
    if given.flags.config is None and config.name != saved:
        raise InputError(
            f"config.name={config.name!r} is not valid: the run's name is {saved!r}"
        )
    devices = flags.devices(given, config.evaluate.batch_size)
    measured = evaluate_run(config, given.workdir, devices)
    flags.show(
        lambda: report.terminal_attack_table(
            report.load_row(given.workdir, measured[0])
        )
    )
