"""A run's work directory, and the trained network that it holds.

workdir/
  config.json       the whole config, defaults filled in
  data.json         digests of the images and labels that it is trained and tested on
  environment.json  versions and devices that it was last trained on, and with what
                    program, where code is one's own
  metrics.jsonl     training metrics; also in tensorboard/
  checkpoints/      variables, the optimiser's state, step, config, the data's digests
  evaluation/       what attacks found, a file each
  teacher/          the run of its own teacher, of a defence that reads one

`run` trains it there; what attacks find is kept by `evaluation.results`.
"""

import contextlib
import json
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import data, networks
from advloss.config import build
from advloss.errors import DamagedError, InputError
from advloss.networks import Network
from advloss.runtime import checkpoints, files, lock, metrics
from advloss.training import teacher, validation
from advloss.types import Classifier, Dataset, PyTree, TrainState

ENVIRONMENT, DATA, TEACHER = "environment.json", "data.json", teacher.FOLDER
_SPLITS = ("train", "test")


class Run(NamedTuple):
    """A trained network, loaded from its work directory.

    Attributes:
        config: as it was trained and evaluated.
        network: its pure functions.
        variables: the network's whole tree; of a run that keeps a moving average of
            the weights, the average; with train.keep=best those that did best on
            held-out images.
        classifier: jitted and pure: images `[batch, height, width, channels]` in
            [0, 1] -> logits `[batch, classes]`.
        step: the updates that it was trained for: of an interrupted run, those of its
            newest checkpoint.
        finished: whether its training has ended, at its last step or early.
    """

    config: ConfigDict
    network: Network
    variables: PyTree
    classifier: Classifier
    step: int
    finished: bool


def load_data(config: ConfigDict) -> Dataset:
    """The data set that a config names. Raises InputError as `data.load` does."""
    return data.load(**config.data)


def load_run(workdir: str | Path, config: ConfigDict | None = None) -> Run:
    """A trained network from its work directory.

    Args:
        workdir: where it was trained.
        config: what it must have been trained with; by default what it was.

    Raises:
        InputError: no run or no checkpoint there, a damaged one, or another config's.
    """
    workdir = files.as_path("--workdir", workdir)
    saved = configs.load_config(workdir)
    config = saved if config is None else config
    if not checkpoints.steps(workdir):
        configs.check_no_network(workdir, "use advloss.load")
        raise InputError(f"--workdir={workdir} has no checkpoint: train a run there")
    state = _newest_state(workdir, config)
    network = build.network(config)
    variables = validation.evaluated(state, config.train)
    classifier = jax.jit(networks.classifier(network, variables))
    finished = int(state["step"]) == config.train.steps
    done = validation.updates(state)
    return Run(config, network, variables, classifier, done, finished)


def _newest_state(workdir: Path, config: ConfigDict) -> dict[str, Any]:
    """The newest checkpoint's; while the run is trained, it may go as it is read."""
    while True:
        with checkpoints.open_folder(workdir) as manager:
            step = manager.latest_step()
            try:
                return restore(manager, config, step=step)
            except (DamagedError, OSError):
                if checkpoints.steps(workdir)[-1:] in ([], [step]):
                    raise


def restore(
    manager: checkpoints.Manager,
    config: ConfigDict,
    template: TrainState | None = None,
    step: int | None = None,
) -> TrainState | dict[str, Any]:
    """A checkpoint's state, which must be the config's.

    Args:
        manager, template, step: as `checkpoints.restore`.
        config: what the run is to be.

    Raises:
        DamagedError: the checkpoint is damaged.
        InputError: it belongs to another config, and the message names keys and values;
            or to other data than those that its run notes.
    """
    step = manager.latest_step() if step is None else step
    where = Path(manager.directory) / str(step)
    origin, noted = checkpoints.load_origin(manager, step), _noted(where.parents[1])
    try:
        # What an earlier version lacked, config.json has said.
        saved = configs.from_saved(origin.config, where, quiet=True)
        differences = configs.training_differences(saved, config)
    except InputError as error:
        raise DamagedError(f"{where}: {error}", "train the run again") from error
    if differences:
        raise InputError(
            f"{where} belongs to another config: {'; '.join(differences)}; use its "
            "config or another --workdir"
        )
    if noted and origin.data and origin.data != noted:
        raise InputError(
            f"{where} was trained on other data than {where.parents[1] / DATA} notes: "
            f"if it is another run's, take it out; if {DATA} was edited, delete that"
        )
    return checkpoints.restore(manager, template, step)


def check_owner(workdir: Path, config: ConfigDict) -> None:
    """A folder must be the run's own, or hold nothing.

    Raises:
        InputError: it holds something else, which is left as it is.
    """
    if not checkpoints.steps(workdir):
        configs.check_no_network(workdir, "use another folder")
    if (saved := _owner(workdir)) is not None:
        differences = configs.training_differences(saved, config)
        if differences:
            raise InputError(
                f"--workdir={workdir} belongs to another config: "
                f"{'; '.join(differences)}; use its config or another --workdir"
            )
    elif workdir.exists() and (
        not workdir.is_dir() or _holds_anything(workdir, config)
    ):
        raise InputError(
            f"--workdir={workdir} is not empty and holds no run: use a new folder, or "
            "a run's own to continue it"
        )


def _owner(workdir: Path) -> ConfigDict | None:
    """The config of a folder's run; where its file is gone, its checkpoints have it."""
    if (workdir / configs.CONFIG).exists():
        return configs.load_config(workdir)
    origin = _newest(workdir)
    return origin and configs.from_saved(origin.config, workdir, quiet=True)


def _newest(workdir: Path) -> checkpoints.Origin | None:
    """What the newest checkpoint that can be read was made from."""
    if saved := checkpoints.steps(workdir):
        with checkpoints.open_folder(workdir) as manager:
            for step in reversed(saved):
                with contextlib.suppress(DamagedError):
                    return checkpoints.load_origin(manager, step)
    return None


def _holds_anything(workdir: Path, config: ConfigDict) -> bool:
    """Beside what the config's run may find there: its teacher, put there before."""
    own = {lock.NAME, TEACHER} if teacher.is_own(config) else {lock.NAME}
    return bool({path.name for path in workdir.iterdir()} - own)


def check_checkpoints(workdir: Path, config: ConfigDict) -> None:
    """The newest must be whole and the config's; a damaged one gives way to the next.

    What a kill or a failing disk has damaged is no reason to lose what is good; it is
    put aside, with a warning.

    Where metrics say that there was one and there is none, a warning says it.

    Raises:
        InputError: it belongs to another config.
    """
    while saved := checkpoints.steps(workdir):
        with checkpoints.open_folder(workdir) as manager:
            try:
                restore(manager, config)
                return
            except DamagedError as error:
                found = error.found
        checkpoints.put_aside(workdir, saved[-1])
        warnings.warn(
            f"{found}: it was put into {workdir / 'damaged'}, going on from step "
            f"{saved[-2] if len(saved) > 1 else 0}",
            stacklevel=2,
        )
    with contextlib.suppress(InputError):
        last = max((row["step"] for row in metrics.read(workdir)), default=0)
        if last > min(config.train.checkpoint_every, config.train.steps - 1):
            warnings.warn(
                f"--workdir={workdir} has metrics of step {last} and no checkpoint: "
                "training begins again at step 0",
                stacklevel=2,
            )


def digests(dataset: Dataset) -> dict[str, str]:
    """Of its splits, by name."""
    return {name: files.digest(tuple(getattr(dataset, name))) for name in _SPLITS}


def check_data(config: ConfigDict, workdir: Path, now: dict[str, str]) -> None:
    """The data must be those that the run began with.

    Args:
        config: that names them.
        workdir: of the run.
        now: their `digests`.

    Raises:
        InputError: other images or labels, or there is no note of them.
    """
    noted = _noted(workdir)
    # A checkpoint is opened where the note alone does not settle it.
    settled = noted is not None and not _differ(noted, now)
    origin = None if settled else _newest(workdir)
    if noted is None and origin:
        noted = origin.data
    elif origin and _differ(noted, now) and not _differ(origin.data, now):
        raise InputError(
            f"{workdir / DATA} was edited: its digests are not those of the data that "
            "the run's newest checkpoint was trained on; delete it: the same command "
            "takes them from there"
        )
    if noted == {}:
        raise InputError(
            f"{workdir / DATA} is missing: without it the data can't be held to those "
            "that the run began with; put it back, or use another --workdir"
        )
    for name in _differ(noted, now) if noted else ():
        if name == TEACHER:
            raise InputError(teacher.another(config, workdir))
        where = f"config.data.source={config.data.source!r}"
        for key in ("dir", "file"):
            if config.data[key]:
                where += f" with config.data.{key}={config.data[key]!r}"
        raise InputError(
            f"{where}: the {name}ing images or labels are not those that "
            f"--workdir={workdir} began with: use these, or another --workdir"
        )


def _differ(noted: dict[str, str], now: dict[str, str]) -> list[str]:
    return [name for name in now if noted.get(name) != now[name]]


def note(config: ConfigDict, workdir: Path, now: dict[str, str]) -> None:
    """Writes down the run's config and its data's digests, where they are not.

    Where the data lie and how the run is evaluated may be others than the last time.

    Raises OSError where they can't be written.
    """
    note_config(config, workdir)
    _keep(workdir / DATA, now)


def note_config(config: ConfigDict, workdir: Path) -> None:
    """Writes down the config alone: it marks the folder as a run's."""
    _keep(workdir / configs.CONFIG, config.to_dict())


def _keep(path: Path, content: dict[str, Any]) -> None:
    found = None
    with contextlib.suppress(InputError):
        found = files.read_json(path)
    if found != json.loads(json.dumps(content)):
        files.write_json(path, content)


def _noted(workdir: Path) -> dict[str, str] | None:
    """The digests in data.json, or None where there is none."""
    path = workdir / DATA
    advice = "; delete it: the same command takes them from a checkpoint"
    noted = files.read_json(path, advice)
    if noted is None:
        return None
    if not all(isinstance(noted.get(name), str) for name in _SPLITS):
        raise InputError(f"{path} is damaged: it holds no digests of data{advice}")
    return {name: noted[name] for name in (*_SPLITS, TEACHER) if name in noted}
