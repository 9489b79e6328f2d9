"""Trains runs in their work directories, so that they can stop and go on anywhere.

fit.train_run(config, workdir, devices)
fit.train_stack(configs, workdirs, devices)     # together, see `sweep`
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from tqdm import tqdm

from advloss import (
    checkpoints,
    files,
    guards,
    lock,
    metrics,
    parallel,
    runs,
    stopping,
    sweep,
    train,
)
from advloss import config as configs
from advloss.errors import DivergedError, Stopped
from advloss.types import Dataset, TrainState


class Member(NamedTuple):
    """A run that is trained: its config, resolved, and its work directory."""

    config: ConfigDict
    workdir: Path


def train_run(
    config: ConfigDict, workdir: str | Path, devices: Sequence[jax.Device]
) -> None:
    """Trains a network, or goes on where its work directory stopped.

    Args:
        config: resolved, see `config.resolve`.
        workdir: made if need be; metrics and checkpoints go there.
        devices: they share every batch.

    Raises:
        InputError: the data can't be read, the devices don't divide the batch, or the
            work directory is another config's or is damaged.
        DivergedError: the loss is no longer finite; the message names the step.
        Stopped: the process was asked to end, see `stopping`; all is saved.
    """
    parallel.share("train.batch_size", config.train.batch_size, devices)
    train_stack([config], [workdir], devices)


def train_stack(
    stack: Sequence[ConfigDict],
    workdirs: Sequence[str | Path],
    devices: Sequence[jax.Device],
) -> None:
    """Trains runs together that `sweep.plan` put together, each as if alone.

    A single run has its batches shared by the devices; of several, each has a device.
    They are kept in step: where the process ended between two runs' checkpoints, the
    one ahead goes back to the step that both have, and repeats the same bits.

    Raises:
        InputError, DivergedError, Stopped: as `train_run`; a run that diverges does
            not hold up the others, and is named when they are finished.
    """
    members = [Member(*m) for m in zip(stack, map(Path, workdirs), strict=True)]
    for member in members:
        guards.check_owner(member.workdir, member.config)

    @functools.cache
    def load() -> Dataset:
        dataset = runs.load_data(stack[0])
        guards.check_images(dataset, stack[0])
        return dataset

    if not all(map(_is_finished, members)):
        load()  # Where there are no data, no folder is made.
    parallel.wait_for_all()  # To here nothing was written.
    with ExitStack() as exits:
        for member in members:
            exits.enter_context(lock.hold(member.workdir))
        _train(members, load, devices)


def _train(
    members: list[Member],
    load: Callable[[], Dataset],
    devices: Sequence[jax.Device],
) -> None:
    alone = len(members) == 1
    if parallel.is_first():
        for member in members:
            guards.check_checkpoints(member.workdir, member.config)
    failures: list[DivergedError] = []
    while decided := _next(members):
        start, together = decided
        failed = _train_together(together, start, load(), devices, alone=alone)
        members = [member for member in members if member.workdir not in failed]
        failures += failed.values()
    if failures:
        raise failures[0]


def _is_finished(member: Member) -> bool:
    return member.config.train.steps in checkpoints.steps(member.workdir)


def _next(members: Sequence[Member]) -> tuple[int, list[Member]] | None:
    """The step of the run that is furthest behind, and the runs that can start there.

    A finished run does so where it has a checkpoint of that step: it was together with
    the others a moment ago. None where all are finished.
    """

    def can_start(member: Member, step: int) -> bool:
        kept = checkpoints.steps(member.workdir)
        lost_none = len(kept) < checkpoints.KEPT and not _is_finished(member)
        return step in kept or (step == 0 and lost_none)

    waiting = [m for m in members if not _is_finished(m)]
    behind = [max(checkpoints.steps(m.workdir), default=0) for m in waiting]
    start = min(behind, default=-1)
    chosen = [bool(waiting) and can_start(m, start) for m in members]
    # One host decides: what it writes, others may see a moment later.
    start, chosen = parallel.from_first([start, chosen])
    if start < 0:
        return None
    return start, list(itertools.compress(members, chosen))


def _train_together(
    members: Sequence[Member],
    start: int,
    dataset: Dataset,
    devices: Sequence[jax.Device],
    *,
    alone: bool,
) -> dict[Path, DivergedError]:
    """From a step to the last. Returns the runs that diverged, by work directory."""
    settings = members[0].config.train
    failed: dict[Path, DivergedError] = {}
    for member in members:
        if not (member.workdir / runs.CONFIG).exists():  # Marks the folder as a run's.
            _write_config(member)
    with ExitStack() as exits:
        managers = [
            exits.enter_context(checkpoints.open_folder(m.workdir, together=True))
            for m in members
        ]
        states = [
            _state_at(start, member.config, manager, dataset)
            for member, manager in zip(members, managers, strict=True)
        ]
        for member in members:
            _write_config(member)  # Where the data lie may have changed since.
            environment = runs.environment(devices)
            files.write_json(member.workdir / runs.ENVIRONMENT, environment)
        opened = [
            _Open(
                *member,
                manager,
                exits.enter_context(metrics.Writer(member.workdir, step=start))
                if parallel.is_first()
                else None,
            )
            for member, manager in zip(members, managers, strict=True)
        ]
        bar = exits.enter_context(_bar(members, start))

        def of_each(act: Callable[..., None], items: Sequence, *arguments) -> None:
            for run, item in zip(opened, items, strict=True):
                if run.workdir in failed:
                    continue
                try:
                    act(run, item, *arguments)
                except DivergedError as error:
                    failed[run.workdir] = error

        done = start
        for fetch, chunk, seconds in _chunks(members, dataset, states, devices, alone):
            of_each(_report, chunk, done, seconds)
            if len(failed) == len(opened):
                break
            steps = len(chunk[0].loss)
            done += steps
            bar.set_postfix_str(_summary(chunk))
            bar.update(steps)
            finished, stops = done == settings.steps, stopping.requested()
            if done % settings.checkpoint_every == 0 or finished or stops:
                of_each(_save, fetch())
            if stops and not finished:
                raise Stopped(f"stopped at step {done} of {settings.steps}, saved")
    return failed


class _Open(NamedTuple):
    """A run whose files are open."""

    config: ConfigDict
    workdir: Path
    manager: ocp.CheckpointManager
    writer: metrics.Writer | None


def _bar(members: Sequence[Member], start: int) -> tqdm:
    name, total = members[0].config.name, members[0].config.train.steps
    text = name if len(members) == 1 else f"{len(members)} runs: {name}"
    return runs.progress_bar(text, total, "step", done=start)


def _summary(chunk: Sequence[train.Metrics]) -> str:
    loss, accuracy = (
        np.mean([getattr(own, key) for own in chunk]) for key in ("loss", "accuracy")
    )
    return f"loss {loss:.3f} acc {accuracy:.1%}"


def _report(run: _Open, chunk: train.Metrics, done: int, seconds: float) -> None:
    guards.check_finite(chunk, done, run.config)
    row = {key: float(np.mean(value)) for key, value in chunk._asdict().items()}
    row["steps_per_second"] = len(chunk.loss) / seconds
    if run.writer:
        run.writer.write(done + len(chunk.loss), row)


def _save(run: _Open, state: TrainState) -> None:
    guards.check_state(state, run.config)
    checkpoints.save(run.manager, state, run.config)


def _chunks(
    members: Sequence[Member],
    dataset: Dataset,
    states: Sequence[TrainState],
    devices: Sequence[jax.Device],
    alone: bool,
) -> Iterator[tuple[sweep.Fetch, list[train.Metrics], float]]:
    """Every chunk's states, to be fetched, its metrics and seconds."""
    stack = [member.config for member in members]
    if alone:
        chunks = (
            (lambda state=state: [state], [jax.device_get(metrics)])
            for state, metrics in train.run(
                stack[0], dataset, states[0], devices=devices
            )
        )
    else:
        chunks = sweep.run(stack, dataset, states, devices=devices)
    started = time.perf_counter()
    for fetch, rows in chunks:
        yield fetch, rows, time.perf_counter() - started
        started = time.perf_counter()


def _state_at(
    step: int, config: ConfigDict, manager: ocp.CheckpointManager, dataset: Dataset
) -> TrainState:
    """The state of that step; what a run has beyond it is given up."""
    state = train.init(config, dataset.train.images.shape[1:])
    if step:
        state = checkpoints.restore(manager, config, state, step=step)
    for later in [saved for saved in manager.all_steps() if saved > step]:
        manager.delete(later)
    return state


def _write_config(member: Member) -> None:
    text = configs.to_json(member.config)
    files.write_text(member.workdir / runs.CONFIG, text)
