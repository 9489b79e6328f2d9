"""Trains runs in their work directories, so that they can stop and go on anywhere.

run.train_runs([config], [workdir], devices)
run.train_runs(configs, workdirs, devices)     # together, those of one `stack.plan`
"""

import itertools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from advloss.config import build
from advloss.data import augment
from advloss.errors import DivergedError, InputError
from advloss.runtime import (
    checkpoints,
    compiled,
    environment,
    files,
    hosts,
    lock,
    metrics,
)
from advloss.runtime import devices as on_devices
from advloss.training import changed, keeping, preflight, stack, step, teacher
from advloss.training import workdir as folders
from advloss.types import Dataset, PyTree, TrainState

_TEACHER = "config.defence.teacher"


class Member(NamedTuple):
    """A run.

    Attributes:
        config: resolved.
        workdir: where it is trained.
        data: the digests of what it is trained on.
        frozen: what its defence reads and never changes.
        own: digests of the program that trains it and of its network, see `changed`.
    """

    config: ConfigDict
    workdir: Path
    data: dict[str, str]
    frozen: PyTree
    own: Mapping[str, Any] = {}


def train_runs(
    stacked: Sequence[ConfigDict],
    workdirs: Sequence[str | Path],
    devices: Sequence[jax.Device],
) -> None:
    """Trains one run or several together, or goes on where they stopped.

    Each is as if alone. They are kept in step: where the process ended between two
    runs' checkpoints, the one ahead goes back to the step that both have, and repeats
    the same bits. Teachers of their own are trained before them.

    Args:
        stacked: resolved, of one stack of `stack.plan`.
        workdirs: made if need be; metrics and checkpoints go there.
        devices: over which runs and batches are spread, see `stack.layout`.

    Raises:
        InputError: the data can't be read or are not those that a run began with, the
            devices don't divide the batch, or a work directory is another config's, is
            damaged, or was moved.
        DivergedError: a loss is no longer finite; the message names the step. The run
            does not hold up the others, and is named when they are finished.
        Stopped: the process was asked to end, see `signals`; all is saved.
    """
    if len(stacked) == 1:
        on_devices.share("train.batch_size", stacked[0].train.batch_size, devices)
    checked = [files.check_folder("--workdir", workdir) for workdir in workdirs]
    for workdir, config in zip(checked, stacked, strict=True):
        folders.check_owner(workdir, config)
    dataset = folders.load_data(stacked[0])
    preflight.check_images(dataset, stacked[0], build.network(stacked[0]))
    augment.check(stacked[0].train.augment, dataset.train.images.shape[1:])
    data = folders.digests(dataset)
    members = [
        _member(config, workdir, data, named_teacher(config, dataset))
        for config, workdir in zip(stacked, checked, strict=True)
    ]
    for member in members:
        folders.check_data(member.config, member.workdir, member.data)
    hosts.wait_for_all()  # To here nothing was written.
    where = stack.layout(len(members), stacked[0].train.batch_size, devices)
    with ExitStack() as exits:
        held = {m.workdir: exits.enter_context(lock.hold(m.workdir)) for m in members}
        failures = _train_teachers(members, devices)
        members = [found for m in members if (found := _taught(m, data, dataset))]
        members = [
            m._replace(own=changed.digests(m.config, m.frozen, dataset))
            for m in members
        ]
        if hosts.is_first():
            for member in members:
                folders.check_checkpoints(member.workdir, member.config)
            for member in members:
                folders.note(member.config, member.workdir, member.data)
                if checkpoints.steps(member.workdir):
                    path = member.workdir / folders.ENVIRONMENT
                    changed.warn(path, member.own)
        try:
            while decided := _next(members):
                start, together = decided
                failed = _train_together(together, start, dataset, where, held)
                members = [m for m in members if m.workdir not in failed]
                failures += failed.values()
        except OSError:
            for still_ours in held.values():  # Where they are gone, that is why.
                still_ours()
            raise
    if failures:
        raise failures[0]


def _train_teachers(
    members: Sequence[Member], devices: Sequence[jax.Device]
) -> list[DivergedError]:
    """Trains the runs' own teachers together. Returns what diverged."""
    own = [member for member in members if teacher.is_own(member.config)]
    if not own:
        return []
    if hosts.is_first():
        for member in own:  # From here on the folder is the run's.
            folders.note_config(member.config, member.workdir)
    configs = [teacher.config_of(member.config) for member in own]
    try:
        train_runs(configs, [m.workdir / folders.TEACHER for m in own], devices)
    except DivergedError as error:
        return [error]
    return []


def _taught(member: Member, data: dict[str, str], dataset: Dataset) -> Member | None:
    """The run with its own teacher, if it has one; None where that diverged."""
    config, where = member.config, member.workdir / folders.TEACHER
    if not teacher.is_own(config):
        return member
    if not hosts.from_first(_is_finished(config, where)):
        return None
    found = _member(config, member.workdir, data, _read(config, where, dataset))
    folders.check_data(config, found.workdir, found.data)
    return found


def _member(
    config: ConfigDict, workdir: Path, data: dict[str, str], frozen: PyTree
) -> Member:
    """A run on data of these digests, with what it reads, if that is known."""
    if frozen is not None:
        data = {**data, folders.TEACHER: files.digest(frozen)}
    return Member(config, workdir, data, frozen)


def named_teacher(config: ConfigDict, dataset: Dataset) -> PyTree:
    """The variables of the teacher that a config names; None where it names none.

    Raises InputError where it can't be read, or is of another architecture.
    """
    if not teacher.reads(config) or teacher.is_own(config):
        return None
    return _read(config, config.defence.teacher, dataset)


def _read(config: ConfigDict, where: str | Path, dataset: Dataset) -> PyTree:
    """The variables of a teacher; warns where it had another temperature.

    Raises:
        InputError: there is no finished run, or one of another architecture.
    """
    files.check_folder(_TEACHER, where)
    said = f"{_TEACHER}={str(where)!r}"
    try:
        run = folders.load_run(where)
    except InputError as error:
        raise InputError(f"{said}: {error}") from error
    if not run.finished:
        raise InputError(
            f"{said} is trained for {run.step} of {run.config.train.steps} steps: "
            "finish it first"
        )
    shape = dataset.train.images.shape[1:]
    teacher.check_form(run.variables, run.config, config, shape)
    theirs, ours = run.config.defence.temperature or 1.0, config.defence.temperature
    if theirs != ours:
        warnings.warn(
            f"{said} was trained at temperature {theirs:g}, and "
            f"config.defence.temperature={ours:g}: distillation has one for both",
            stacklevel=2,
        )
    return run.variables


def _is_finished(config: ConfigDict, workdir: Path) -> bool:
    return config.train.steps in checkpoints.steps(workdir)


def _next(members: Sequence[Member]) -> tuple[int, list[Member]] | None:
    """The step of the run that is furthest behind, and the runs that can start there.

    A finished run does so where it has a checkpoint of that step: it was together with
    the others a moment ago. None where all are finished.
    """

    def can_start(member: Member, step: int) -> bool:
        kept = checkpoints.steps(member.workdir)
        lost_none = len(kept) < checkpoints.KEPT and not _is_finished(*member[:2])
        return step in kept or (step == 0 and lost_none)

    waiting = [m for m in members if not _is_finished(*m[:2])]
    behind = [max(checkpoints.steps(m.workdir), default=0) for m in waiting]
    start = min(behind, default=-1)
    chosen = [bool(waiting) and can_start(m, start) for m in members]
    # One host decides: what it writes, others may see a moment later.
    start, chosen = hosts.from_first([start, chosen])
    if start < 0:
        return None
    return start, list(itertools.compress(members, chosen))


def _train_together(
    members: Sequence[Member],
    start: int,
    dataset: Dataset,
    where: stack.Layout,
    held: Mapping[Path, Callable[[], None]],
) -> dict[Path, DivergedError]:
    """From a step to the last. Returns the runs that diverged, by work directory."""
    compiled.make_room()
    stacked = [member.config for member in members]
    network = build.network(stacked[0])
    with ExitStack() as exits:
        managers = [
            exits.enter_context(checkpoints.open_folder(m.workdir, together=True))
            for m in members
        ]
        states = [
            _state_at(start, member.config, network, manager, dataset)
            for member, manager in zip(members, managers, strict=True)
        ]
        opened = [
            _open(member, manager, start, where, held[member.workdir], exits)
            for member, manager in zip(members, managers, strict=True)
        ]
        bar = exits.enter_context(_bar(members, start))
        frozen = [member.frozen for member in members]
        trained = stack.run(
            stacked, network, dataset, states, where=where, frozen=frozen
        )
        return keeping.keep(opened, trained, bar, start)


def _open(
    member: Member,
    manager: checkpoints.Manager,
    start: int,
    where: stack.Layout,
    still_ours: Callable[[], None],
    exits: ExitStack,
) -> keeping.Open:
    path = member.workdir / folders.ENVIRONMENT
    own = changed.noted(path, member.own) if start else member.own
    files.write_json(path, {**environment.environment(where.devices), **own})
    writer = exits.enter_context(metrics.Writer(member.workdir, step=start))
    config, workdir, data = member[:3]

    def before_saving() -> None:
        still_ours()
        folders.note(config, workdir, data)

    return keeping.Open(config, workdir, data, manager, writer, before_saving)


def _bar(members: Sequence[Member], start: int) -> tqdm:
    name, total = members[0].config.name, members[0].config.train.steps
    text = name if len(members) == 1 else f"{len(members)} runs: {name}"
    return environment.progress_bar(text, total, "step", done=start)


def _state_at(
    step_number: int,
    config: ConfigDict,
    network: build.Network,
    manager: checkpoints.Manager,
    dataset: Dataset,
) -> TrainState:
    """The state of that step; what a run has beyond it is given up."""
    state = step.init(config, network, dataset.train)
    if step_number:
        begun = state.variables
        state = folders.restore(manager, config, state, step_number)
        preflight.check_form(state.variables, begun, config)
    for later in [saved for saved in manager.all_steps() if saved > step_number]:
        manager.delete(later)
    return state
