"""Attacks a trained network and prints its accuracies.

    advloss evaluate --workdir=runs/lmcl --config.evaluate.pgd.steps=200

The config is the run's own where --config names no other. What was measured
stays; an attack with the same settings on the same images is not repeated.
"""

import warnings
from collections.abc import Iterable

from ml_collections import ConfigDict

from advloss import report
from advloss.attacks import suite
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
    warn_of_idle(config, given.keys)
    devices = flags.devices(given, config.evaluate.batch_size)
    measured = evaluate_run(config, given.workdir, devices)
    flags.show(
        lambda: report.terminal_attack_table(
            report.load_row(given.workdir, measured[0])
        )
    )


def warn_of_idle(config: ConfigDict, keys: Iterable[str]) -> None:
    """Warns of keys of attacks that are not in `evaluate.attacks`."""
    asked = {name for each in config.evaluate.attacks for name in suite(each)}
    for key in keys:
        section, *path = key.split(".")
        if section == "evaluate" and len(path) > 1 and path[0] not in asked:
            warnings.warn(
                f"config.{key} changes nothing: {path[0]} is not in "
                f"config.evaluate.attacks={','.join(config.evaluate.attacks)}",
                stacklevel=2,
            )
