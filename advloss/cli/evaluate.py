"""Attacks a trained network and prints its accuracies.

    advloss evaluate --workdir=runs/lmcl --config.evaluate.pgd.steps=200

The config is the run's own where --config names no other. What was measured
stays; an attack with the same settings on the same images is not repeated.
"""

from advloss import report
from advloss.cli import flags, idle
from advloss.evaluation.run import evaluate_run

FLAGS = ("config", "workdir", *flags.DEVICES)
SAVED_CONFIG = True
RESUMES = True


def main(given: flags.Given) -> None:
    """Attacks the network in --workdir. Raises as `evaluate_run`."""
    config = given.resolved()
    given.check_name()
    idle.warn([config], given.keys)
    idle.warn_in_evaluation([config], given.keys)
    devices = flags.devices(given, config.evaluate.batch_size)
    measured = evaluate_run(config, given.workdir, devices)
    flags.show(
        lambda: report.terminal_attack_table(
            report.load_row(given.workdir, measured[0])
        )
    )
