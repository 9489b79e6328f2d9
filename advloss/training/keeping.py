"""What is kept of runs while they are trained: metrics, checkpoints, warnings."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from advloss.errors import DivergedError, Stopped
from advloss.runtime import checkpoints, environment, hosts, metrics, signals
from advloss.training import guards, step, validation
from advloss.types import TrainState


class Open(NamedTuple):
    """A run whose files are open.

    Attributes:
        config: resolved.
        workdir: where it is trained.
        data: the digests of what it is trained on.
        manager: of its checkpoints.
        writer: of its metrics.
        before_saving: raises where the folder is the run's no longer, and sees to what
            must be in it.
    """

    config: ConfigDict
    workdir: Path
    data: dict[str, str]
    manager: checkpoints.Manager
    writer: metrics.Writer
    before_saving: Callable[[], None]


def keep(
    opened: Sequence[Open], trained, bar: tqdm, start: int
) -> dict[Path, DivergedError]:
    """Writes metrics and checkpoints as chunks are finished.

    Args:
        opened: the runs.
        trained: what `stack.run` yields of them.
        bar: told of every chunk.
        start: the step before the first chunk.

    Returns:
        The runs that diverged, by work directory.

    Raises:
        Stopped: the process was asked to end; all is saved.
    """
    settings = opened[0].config.train
    failed: dict[Path, DivergedError] = {}
    ended: set[Path] = set()
    warned: set[Path] = set()

    def of_each(act: Callable[..., None], items: Sequence, *arguments) -> None:
        for run, item in zip(opened, items, strict=True):
            if run.workdir in failed or run.workdir in ended:
                continue
            try:
                act(run, item, *arguments)
            except DivergedError as error:
                failed[run.workdir] = error

    def warn(run: Open, chunk: step.Metrics, done: int) -> None:
        if run.workdir not in warned and guards.warn_of_loss(chunk, done, run.config):
            warned.add(run.workdir)

    def end(run: Open, item: tuple[step.Metrics, TrainState], done: int) -> None:
        chunk, state = item
        if not validation.ends_early(chunk, run.config):
            return
        if hosts.is_first():
            bar.write(
                f"{run.config.name}: ends at step {done} of {settings.steps}, after "
                f"{settings.patience} validations without a better one",
                file=environment.Unbreakable(),
            )
        best = {**state.best, "ended": np.int32(done)}
        _save(run, state._replace(step=np.int32(settings.steps), best=best))
        ended.add(run.workdir)

    done, started = start, time.perf_counter()
    for fetch, chunk in trained:
        of_each(_report, chunk, done, time.perf_counter() - started)
        steps = len(chunk[0]["loss"])
        done += steps
        of_each(warn, chunk, done)
        finished = done == settings.steps
        early = (
            validation.ends_early(own, run.config) and run.workdir not in ended
            for run, own in zip(opened, chunk, strict=True)
        )
        if not finished and any(early):
            of_each(end, list(zip(chunk, fetch(), strict=True)), done)
        if len(failed) + len(ended) == len(opened):
            break
        bar.set_postfix_str(_summary(chunk))
        bar.update(steps)
        stops = signals.requested()
        if done % settings.checkpoint_every == 0 or finished or stops:
            of_each(_save, fetch())
        if stops and not finished:
            raise Stopped(f"stopped at step {done} of {settings.steps}, saved")
        started = time.perf_counter()
    return failed


def _summary(chunk: Sequence[step.Metrics]) -> str:
    loss, accuracy = (
        np.mean([own[key] for own in chunk]) for key in ("loss", "accuracy")
    )
    return f"loss {loss:.3f} acc {accuracy:.1%}"


def _report(run: Open, chunk: step.Metrics, done: int, seconds: float) -> None:
    guards.check_finite(chunk, done, run.config)
    row = {key: float(np.mean(value)) for key, value in chunk.items()}
    row["steps_per_second"] = len(chunk["loss"]) / seconds
    run.writer.write(done + len(chunk["loss"]), row)


def _save(run: Open, state: TrainState) -> None:
    guards.check_state(state, run.config)
    run.before_saving()
    origin = checkpoints.Origin(run.config.to_dict(), run.data)
    checkpoints.save(run.manager, state, origin)
