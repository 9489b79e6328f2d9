"""Trains runs in their work directories, so that they can stop and go on anywhere.

run.train_runs([config], [workdir], devices)
run.train_runs(configs, workdirs, devices)     # together, those of one `stack.plan`
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from advloss.config import build
from advloss.errors import DivergedError, Stopped
from advloss.runtime import (
    checkpoints,
    environment,
    files,
    hosts,
    lock,
    metrics,
    signals,
)
from advloss.runtime import devices as on_devices
from advloss.training import guards, stack, step, teacher
from advloss.training import workdir as folders
from advloss.training.taught import Member, member_of, named, read
from advloss.types import Dataset, TrainState


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
    guards.check_images(dataset, stacked[0])
    data = folders.digests(dataset)
    members = [
        member_of(config, workdir, data, named(config, dataset, folders.load_run))
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
        if hosts.is_first():
            for member in members:
                folders.check_checkpoints(member.workdir, member.config)
            for member in members:
                folders.note(member.config, member.workdir, member.data)
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
    frozen = read(config, where, dataset, folders.load_run)
    found = member_of(config, member.workdir, data, frozen)
    folders.check_data(config, found.workdir, found.data)
    return found


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
        return _keep(opened, trained, bar, start)


class _Open(NamedTuple):
    """A run whose files are open."""

    config: ConfigDict
    workdir: Path
    data: dict[str, str]
    manager: checkpoints.Manager
    writer: metrics.Writer
    still_ours: Callable[[], None]


def _open(
    member: Member,
    manager: checkpoints.Manager,
    start: int,
    where: stack.Layout,
    still_ours: Callable[[], None],
    exits: ExitStack,
) -> _Open:
    made_with = environment.environment(where.devices)
    files.write_json(member.workdir / folders.ENVIRONMENT, made_with)
    writer = exits.enter_context(metrics.Writer(member.workdir, step=start))
    return _Open(*member[:3], manager, writer, still_ours)


def _keep(
    opened: Sequence[_Open], trained, bar: tqdm, start: int
) -> dict[Path, DivergedError]:
    """Writes metrics and checkpoints as chunks are finished."""
    settings = opened[0].config.train
    failed: dict[Path, DivergedError] = {}

    def of_each(act: Callable[..., None], items: Sequence, *arguments) -> None:
        for run, item in zip(opened, items, strict=True):
            if run.workdir in failed:
                continue
            try:
                act(run, item, *arguments)
            except DivergedError as error:
                failed[run.workdir] = error

    done, started = start, time.perf_counter()
    for fetch, chunk in trained:
        of_each(_report, chunk, done, time.perf_counter() - started)
        if len(failed) == len(opened):
            break
        steps = len(chunk[0]["loss"])
        done += steps
        bar.set_postfix_str(_summary(chunk))
        bar.update(steps)
        finished, stops = done == settings.steps, signals.requested()
        if done % settings.checkpoint_every == 0 or finished or stops:
            of_each(_save, fetch())
        if stops and not finished:
            raise Stopped(f"stopped at step {done} of {settings.steps}, saved")
        started = time.perf_counter()
    return failed


def _bar(members: Sequence[Member], start: int) -> tqdm:
    name, total = members[0].config.name, members[0].config.train.steps
    text = name if len(members) == 1 else f"{len(members)} runs: {name}"
    return environment.progress_bar(text, total, "step", done=start)


def _summary(chunk: Sequence[step.Metrics]) -> str:
    loss, accuracy = (
        np.mean([own[key] for own in chunk]) for key in ("loss", "accuracy")
    )
    return f"loss {loss:.3f} acc {accuracy:.1%}"


def _report(run: _Open, chunk: step.Metrics, done: int, seconds: float) -> None:
    guards.check_finite(chunk, done, run.config)
    row = {key: float(np.mean(value)) for key, value in chunk.items()}
    row["steps_per_second"] = len(chunk["loss"]) / seconds
    run.writer.write(done + len(chunk["loss"]), row)


def _save(run: _Open, state: TrainState) -> None:
    guards.check_state(state, run.config)
    run.still_ours()
    folders.note(run.config, run.workdir, run.data)
    origin = checkpoints.Origin(run.config.to_dict(), run.data)
    checkpoints.save(run.manager, state, origin)


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
        state = folders.restore(manager, config, state, step_number)
    for later in [saved for saved in manager.all_steps() if saved > step_number]:
        manager.delete(later)
    return state
