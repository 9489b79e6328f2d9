"""A run that is to be trained, with the teacher that its defence reads."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advloss.errors import InputError
from advloss.runtime import files
from advloss.training import teacher
from advloss.types import Dataset, PyTree

_KEY = "config.defence.teacher"
Load = Callable[[str | Path], Any]
"""`workdir.load_run`, which stands on no lower floor."""


class Member(NamedTuple):
    """A run.

    Attributes:
        config: resolved.
        workdir: where it is trained.
        data: the digests of what it is trained on.
        frozen: what its defence reads and never changes.
    """

    config: ConfigDict
    workdir: Path
    data: dict[str, str]
    frozen: PyTree


def member_of(
    config: ConfigDict, workdir: Path, data: dict[str, str], frozen: PyTree
) -> Member:
    """A run on data of these digests, with what it reads, if that is known."""
    if frozen is not None:
        data = {**data, teacher.FOLDER: files.digest(frozen)}
    return Member(config, workdir, data, frozen)


def named(config: ConfigDict, dataset: Dataset, load: Load) -> PyTree:
    """The variables of the teacher that a config names; None where it names none.

    Raises as `read`.
    """
    if not teacher.reads(config) or teacher.is_own(config):
        return None
    return read(config, config.defence.teacher, dataset, load)


def read(config: ConfigDict, where: str | Path, dataset: Dataset, load: Load) -> PyTree:
    """The variables of a teacher; warns where it had another temperature.

    Raises:
        InputError: there is no finished run, or one of another architecture.
    """
    files.check_folder(_KEY, where)
    said = f"{_KEY}={str(where)!r}"
    try:
        run = load(where)
    except InputError as error:
        raise InputError(f"{said}: {error}") from error
    if run.step < run.config.train.steps:
        raise InputError(
            f"{said} is trained for {run.step} of {run.config.train.steps} steps: "
            "finish it first"
        )
    teacher.check_form(run.variables, config, dataset.train.images.shape[1:])
    theirs, ours = run.config.defence.temperature or 1.0, config.defence.temperature
    if theirs != ours:
        warnings.warn(
            f"{said} was trained at temperature {theirs:g}, and "
            f"config.defence.temperature={ours:g}: distillation has one for both",
            stacklevel=2,
        )
    return run.variables
