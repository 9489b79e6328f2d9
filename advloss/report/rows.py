"""What a report knows of a run: its row.

Everything that a report reads is read here, and nothing that a damaged file holds is
let through: it is said in the row's status or notes.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from advloss.config import saved
from advloss.errors import InputError
from advloss.evaluation import results
from advloss.evaluation.asked import lacking
from advloss.evaluation.batches import unfinished
from advloss.evaluation.results import Measured, Summary
from advloss.report.reading import guarded
from advloss.report.training_log import Training, broke, points, seconds
from advloss.runtime import checkpoints, files, metrics
from advloss.training import teacher

_GALLERY_COLUMNS = 10


class Row(NamedTuple):
    """One run.

    Attributes:
        workdir: where it is.
        name: what its config calls it, or its folder's name where there is no config.
        config: None where it could not be read.
        environment: versions and devices of its training, {} where unknown.
        data: digests of its training images ("train") and of a teacher's weights
            ("teacher"), {} where unknown.
        measured: what is shown of its evaluation, () where there is nothing.
        summary: of `measured`, or None.
        training: its accuracy and loss, by steps, or None.
        seconds: that its training took; 0 where they are unknown.
        status: "" for an evaluated run, or what is missing or damaged.
        notes: sentences on what could not be read.
    """

    workdir: Path
    name: str
    config: ConfigDict | None = None
    environment: Mapping[str, Any] = {}
    data: Mapping[str, Any] = {}
    measured: Sequence[Measured] = ()
    summary: Summary | None = None
    training: Training | None = None
    seconds: float = 0.0
    status: str = ""
    notes: Sequence[str] = ()

    @property
    def images(self) -> int:
        """How many test images it was measured on."""
        return len(self.measured[0].labels) if self.measured else 0

    @property
    def measured_on(self) -> tuple[str, int, int]:
        """Digest and number of the test images, the seed of the attacks' draws."""
        identity = self.measured[0].identity
        return identity["data"], identity["examples"], identity["seed"]


def load_rows(
    workdirs: Sequence[str | Path], expected: Sequence[ConfigDict] | None = None
) -> list[Row]:
    """The row of every run, held to its config where these are given."""
    configs = [None] * len(workdirs) if expected is None else expected
    pairs = zip(workdirs, configs, strict=True)
    return [load_row(workdir, expected=config) for workdir, config in pairs]


def load_row(
    workdir: str | Path,
    beside: Measured | None = None,
    *,
    expected: ConfigDict | None = None,
) -> Row:
    """A run's row, also where the run is missing, unfinished or damaged.

    Args:
        workdir: the run's.
        beside: a result that is to be shown, with those of the same images; by default
            those of the most images.
        expected: the resolved config of the run that is to be there. A folder that
            holds a network of another training or seed is damaged; a name is a label.
            Of its results those are shown that the config asks for, where they are.
    """
    workdir = Path(workdir)
    folder = Path(os.path.abspath(workdir)).name or "/"  # Of "." there is none.
    config, notes = guarded("config.json", _config, workdir)
    if config is None:
        refused = any("can't be read" in note for note in notes)
        status = _lacking(workdir, "can't be read" if refused else "damaged")
        notes = notes if status.startswith(("damaged", "can't")) else []
        return Row(workdir, folder, status=status, notes=notes)
    if expected is not None:
        differences = saved.training_differences(config, expected)
        if differences := differences or _taught_otherwise(workdir, config, expected):
            notes.append(f"{workdir} holds another run: {'; '.join(differences)}")
            status = "damaged: holds another run"
            return Row(workdir, folder, status=status, notes=notes)
    environment, more = guarded(
        "environment.json", files.read_json, workdir / "environment.json"
    )
    notes += more
    data, more = guarded("data.json", files.read_json, workdir / "data.json")
    notes += more
    logged, more = guarded("metrics.jsonl", metrics.read, workdir)
    logged, notes = logged or [], [*notes, *more, *broke(logged or [], config)]
    evaluation, more = guarded("evaluation", _evaluation, workdir, beside, expected)
    notes += more
    measured, summary = evaluation or ((), None)
    status = ""
    if summary is None:
        broken = "damaged: evaluation" if more else ""
        status = (
            _closed(workdir, "evaluation") or broken or _unfinished(workdir, config)
        )
    begun, more = guarded("evaluation", unfinished, workdir / results.FOLDER)
    notes += more
    if begun:
        notes.append(
            f"its evaluation was interrupted: {', '.join(begun)} is not finished and "
            "counts nowhere; the same command goes on"
        )
    return Row(
        workdir,
        config.name,
        config,
        environment or {},
        {k: v for k, v in (data or {}).items() if isinstance(v, str)},
        measured,
        summary,
        points(logged),
        seconds(logged) + _of_teacher(workdir),
        status,
        tuple(dict.fromkeys(notes)),
    )


def _config(workdir: Path) -> ConfigDict:
    """The config that the network was trained by, as config.json has it too.

    Raises:
        InputError: one of them is missing or damaged, or they are of different runs.
    """
    config = saved.load_config(workdir)
    if not checkpoints.steps(workdir):
        return config
    with checkpoints.open_folder(workdir) as manager:
        values = checkpoints.load_origin(manager).config
    trained = saved.from_saved(values, workdir, quiet=True)  # config.json said it.
    differences = saved.training_differences(trained, config)
    if differences:
        raise InputError(
            f"{workdir / saved.CONFIG} is not what the network in checkpoints/ was "
            f"trained by: {'; '.join(differences)}"
        )
    return config


def _of_teacher(workdir: Path) -> float:
    """The seconds of a teacher that was trained with the run."""
    logged, _ = guarded("teacher", metrics.read, workdir / teacher.FOLDER)
    return seconds(logged or [])


def _taught_otherwise(
    workdir: Path, config: ConfigDict, expected: ConfigDict
) -> list[str]:
    """Of a run whose teacher is another than the one that is expected, where they say.

    The same one may lie elsewhere now.
    """
    own, other = config.defence.teacher, expected.defence.teacher
    if not other or own == other or not checkpoints.steps(Path(other)):
        return []
    noted, _ = guarded("data.json", files.read_json, workdir / "data.json")
    now, _ = guarded("teacher", results.network_digest, Path(other))
    if not noted or None in (now, noted.get("teacher")) or now == noted["teacher"]:
        return []
    return [f"defence.teacher: {own!r} there, {other!r} here"]


def _lacking(workdir: Path, found: str) -> str:
    """The status of a run without a config; `found`: what its files are said to be."""
    try:
        if closed := _closed(workdir, "config.json", "checkpoints"):
            return closed
        if (workdir / "config.json").exists():
            return f"{found}: config.json or checkpoint"
        if checkpoints.steps(workdir):
            return "damaged: config.json is missing"
        return "the folder holds no run" if workdir.exists() else "no such run"
    except OSError as error:
        return f"can't be read: {error.strerror}"


def _closed(workdir: Path, *names: str) -> str:
    """A status that names the first of them that is there and may not be read."""
    for path in (workdir / name for name in names):
        if path.exists() and not os.access(path, os.R_OK):
            return f"can't be read: {path.name}"
    return ""


def _unfinished(workdir: Path, config: ConfigDict) -> str:
    done = max(checkpoints.steps(workdir), default=0)
    if not done and (workdir / saved.NETWORK).exists():
        return "the folder holds a network that Trained.save wrote, and no run"
    if done < config.train.steps:
        return f"trained for {done} of {config.train.steps} steps"
    return "not evaluated yet"


def _evaluation(
    workdir: Path, beside: Measured | None, expected: ConfigDict | None
) -> tuple[Sequence[Measured], Summary | None]:
    loaded = results.load(workdir)
    groups = results.groups(loaded)
    every = _every_test_image(workdir) if expected else None
    if beside:
        groups = [g for g in groups if beside.path in {each.path for each in g}]
    elif expected:
        groups.sort(key=lambda group: not _is_asked(group[0], expected, every))
    found = next(iter(groups), [])
    if expected and found:
        _warn_of_others(found, expected, every)
    if left := len(loaded) - len(found):
        said = "1 result" if left == 1 else f"{left:,} results"
        verb = "is" if left == 1 else "are"
        warnings.warn(
            f"{said} of other examples, seeds or modes {verb} not shown", stacklevel=2
        )
    return found, results.summarise(found) if found else None


def _warn_of_others(
    found: Sequence[Measured], config: ConfigDict, every: str | None
) -> None:
    """Warns where results are not those that a config asks for, or not all of them."""
    own = found[0].identity
    if not _is_asked(found[0], config, every):
        warnings.warn(
            "what its config asks for was not measured; shown are "
            f"{own['examples']:,} images with evaluate.seed={own['seed']} and "
            f"evaluate.survivors_only={own['survivors_only']}",
            stacklevel=2,
        )
    elif absent := lacking(config, found):
        warnings.warn(
            f"not measured as its config asks for: {', '.join(absent)}",
            stacklevel=2,
        )


def _every_test_image(workdir: Path) -> str | None:
    """The digest of all test images, where the run's newest checkpoint has it."""
    if not checkpoints.steps(workdir):
        return None
    with checkpoints.open_folder(workdir) as manager:
        return checkpoints.load_origin(manager).data.get("test")


def _is_asked(measured: Measured, config: ConfigDict, every: str | None) -> bool:
    """Whether a result is of as many images, the seed and the mode that are asked.

    All are asked for by 0, and by a number that is larger than there are.
    """
    asked, own = config.evaluate, measured.identity
    fits = own["examples"] == asked.examples
    if not asked.examples or own["examples"] < asked.examples:
        fits = every in (None, own["data"])
    return fits and all(own[key] == asked[key] for key in ("seed", "survivors_only"))


class Gallery(NamedTuple):
    """Some images before and after an attack, with labels and predictions `[n]`."""

    natural: np.ndarray
    attacked: np.ndarray
    labels: np.ndarray
    before: np.ndarray
    after: np.ndarray


def load_gallery(measured: Measured) -> tuple[Gallery | None, list[str]]:
    """The first example of each class, or None with the reason."""
    return guarded(measured.path.name, _gallery, measured)


def _gallery(measured: Measured) -> Gallery:
    natural, attacked = results.load_images(measured)
    _, places = np.unique(measured.labels[: len(natural)], return_index=True)
    places = places[:_GALLERY_COLUMNS]
    images = [each[places].astype(np.float32) for each in (natural, attacked)]
    kept = (measured.labels, measured.natural, measured.attacked)
    return Gallery(*images, *(each[places] for each in kept))
