"""Checks whether a network's accuracy under attack can be trusted.

    advloss diagnose --workdir=runs/lmcl --surrogates=runs/softmax

The experts' checks are run on its first test images, at most 200, and the
number that is judged is that of config.evaluate.pgd on its training loss. The
report is written into the folder diagnosis/ of --workdir.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from advloss import report
from advloss.cli import flags, idle
from advloss.config import build
from advloss.config.trees import invalid
from advloss.errors import InputError
from advloss.evaluation import examples
from advloss.evaluation.diagnosis import Diagnosis, diagnose
from advloss.training import workdir as workdirs
from advloss.types import Classifier

FLAGS = ("config", "workdir", "surrogates", *flags.DEVICES)
SAVED_CONFIG = True
FOLDER = "diagnosis"
_HEEDED = tuple(
    f"evaluate.{key}"
    for key in (
        "examples", "batch_size", "seed", "pgd.epsilon", "pgd.steps", "pgd.step_size"
    )
)  # fmt: skip
_MOST = 200  # Images; more take long and say little more.
_AT_A_TIME = 50  # What is fooled leaves between batches.


def main(given: flags.Given) -> None:
    """Diagnoses the network in --workdir.

    Raises:
        InputError: no finished run there or in a folder of --surrogates, or of other
            data; or as `diagnose`.
        OSError: the report can't be written.
    """
    config = given.resolved()
    for key, said in given.keys.items():
        if key.startswith("evaluate.") and key not in _HEEDED:
            raise invalid(key, said[-1], f"one of {', '.join(_HEEDED)}")
    given.check_name()
    idle.warn([config], given.keys)
    listed = given.flags.surrogates
    paths = [] if listed is None else flags.folders("surrogates", listed)
    if given.workdir.resolve() in [path.resolve() for path in paths]:
        raise InputError(
            f"--surrogates={listed} is not valid: {given.workdir} is the run itself; "
            "name others"
        )
    devices = flags.devices(given, config.evaluate.batch_size)
    run = workdirs.load_run(given.workdir, config)
    if not run.finished:
        raise InputError(
            f"--workdir={given.workdir} is trained for {run.step} of "
            f"{config.train.steps} steps: finish it with `advloss train` first"
        )
    others = [_surrogate(path) for path in paths]
    found = _diagnosed(config, given, run, others, devices)
    title = f"Diagnosis of {config.name}"
    sections = report.sections_of_diagnosis(found)
    folder = given.workdir / FOLDER
    flags.show(
        lambda: (
            f"{title}\n\n{found}\n\n"
            f"{report.write(title, sections, folder, command=given.line)}"
        )
    )


def _surrogate(path: Path) -> Classifier:
    """The network of a run in --surrogates. Raises InputError where there is none."""
    try:
        return workdirs.load_run(path).classifier
    except InputError as error:
        raise InputError(f"--surrogates={path}: {error}") from error


def _diagnosed(
    config: ConfigDict,
    given: flags.Given,
    run: workdirs.Run,
    others: Sequence[Any],
    devices: Sequence[jax.Device],
) -> Diagnosis:
    dataset = workdirs.load_data(config)
    workdirs.check_data(config, given.workdir, workdirs.digests(dataset))
    asked, size = config.evaluate.examples, config.evaluate.batch_size
    test = examples.first(dataset.test, min(asked or _MOST, _MOST))
    pgd = config.evaluate.pgd
    return diagnose(
        run.classifier,
        *test,
        epsilon=pgd.epsilon,
        objective=build.objective(config),
        steps=pgd.steps,
        step_size=pgd.step_size,
        surrogates=others,
        seed=config.evaluate.seed,
        batch_size=size if size < _AT_A_TIME else None,
        devices=devices,
    )
