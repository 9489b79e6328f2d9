"""Checkpoints of a run, written by orbax so that a kill leaves the last good one.

A checkpoint holds the state (step, variables, the optimiser's moments, the average, the
defence's memory), and the config and the digests of the data that it was made from.
Nothing in it is code: arrays and JSON only.
"""

import errno
import hashlib
import itertools
import json
import logging
import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from advloss.errors import DamagedError, InputError, causes, line
from advloss.runtime import hosts
from advloss.runtime.files import digest
from advloss.types import TrainState

# What fails in orbax is raised, too.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

_FOLDER = "checkpoints"
# A host that could not write never comes to where the others wait for it.
_BARRIER_SECONDS = 60
_HARMLESS_BYTES = 2**28
# Of the disk, of the rights to it, and of the process.
_REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM,
)  # fmt: skip
Manager = ocp.CheckpointManager  # For the types of those who import no orbax.
# Orbax numbers its operations for the whole process, and looks the number up while it
# begins one: two that begin at once wait for each other's files until time is up.
_BEGINS = threading.RLock()
KEPT = 2  # The newest; runs that train together may have to go back by one.


class _Literal(type(epath.Path("/"))):
    """A path as orbax takes it, whose own `[`, `*` and `?` stand for themselves.

    Orbax looks for files by patterns below a folder, and reads the folder's name as a
    part of the pattern: it would find nothing, or what belongs to another run.
    """

    def glob(self, pattern: str) -> Iterator["_Literal"]:
        found = Path(self).glob(pattern)
        return (type(self)(path) for path in sorted(found))


def _where(manager: ocp.CheckpointManager, step: int) -> Path:
    return Path(manager.directory) / str(step)


@contextmanager
def open_folder(
    workdir: Path, *, together: bool = False
) -> Iterator[ocp.CheckpointManager]:
    """The checkpoints of a work directory, for `restore`.

    Where there are several hosts, `save` takes all of them `together`.

    Raises:
        OSError: what was saved could not be written, for want of space, say.
    """
    alone = jax.process_index()
    options = ocp.CheckpointManagerOptions(
        max_to_keep=KEPT,
        create=together,
        async_options=ocp.AsyncOptions(timeout_secs=_BARRIER_SECONDS),
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=0 if together else alone,
            active_processes=None if together else {alone},
            # Runs that train together save side by side.
            barrier_sync_key_prefix=workdir.name if together else None,
        ),
    )
    folder = _Literal((workdir / _FOLDER).absolute())
    manager = ocp.CheckpointManager(folder, options=options)
    try:
        yield manager
    finally:
        with _writing(manager):  # Saving goes on in the background till here.
            manager.close()


@contextmanager
def _writing(manager: ocp.CheckpointManager) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        refused = _refused(error)
        raise OSError(
            f"a checkpoint in {manager.directory} can't be written: "
            f"{refused or line(error)}; those before it are kept"
        ) from (None if refused else error)


def _refused(error: BaseException) -> str | None:
    """The system's own words, where it refused: all else followed from it."""
    said = [str(cause) for cause in causes(error)]
    words = (os.strerror(number) for number in _REFUSALS)
    return next((each for each in words if any(each in one for one in said)), None)


def steps(workdir: Path) -> list[int]:
    """The steps of a work directory's checkpoints, the newest last.

    Raises InputError where what has their folder's name is none, or can't be read.
    """
    folder = workdir / _FOLDER
    if not os.path.lexists(folder):
        return []
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir()]
    except PermissionError as error:
        raise InputError(f"{folder} can't be read: {error.strerror}") from error
    except OSError as error:
        raise InputError(
            f"{folder} can't be read ({error.strerror}): it must be a folder; put the "
            "run's own back, or use another --workdir"
        ) from error
    numbers = [int(name) for name in names if name.isdecimal() and name.isascii()]
    return sorted(number for number in numbers if str(number) in names)


class Origin(NamedTuple):
    """What a checkpoint was made from.

    Attributes:
        config: what JSON can hold.
        data: the digests of the splits, by name; {} in a checkpoint that has none.
    """

    config: dict[str, Any]
    data: dict[str, str]


def save(manager: ocp.CheckpointManager, state: TrainState, origin: Origin) -> None:
    """Writes a checkpoint; it counts only once it is complete.

    Args:
        manager: from `open_folder`.
        state: any part of it may be empty, but no array.
        origin: what it was made from.

    Raises:
        OSError: it, or the one before it, could not be written.
    """
    # A copy: orbax writes on while the next chunk uses the state's memory up.
    host = jax.tree.map(np.array, state)
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(host),
        config=ocp.args.JsonSave(origin.config),
        digest=ocp.args.JsonSave(
            {"blake2b": digest(host), "data": origin.data, "origin": _told(origin)}
        ),
    )
    with _writing(manager), _BEGINS:
        if not manager.save(int(host.step), args=args):
            raise OSError(f"there is one of step {manager.latest_step()}")


def _told(origin: Origin) -> str:
    """The digest of what JSON gives back of it."""
    text = json.dumps(origin, sort_keys=True)
    return hashlib.blake2b(text.encode("utf-8")).hexdigest()


def load_origin(manager: ocp.CheckpointManager, step: int | None = None) -> Origin:
    """What a checkpoint was made from, by default the newest.

    Raises:
        DamagedError: the checkpoint is damaged; the message names the folder.
        InputError: it can't be read.
    """
    step = manager.latest_step() if step is None else step
    try:
        config = _read(manager, step, config=ocp.args.JsonRestore())
        written = _read(manager, step, digest=ocp.args.JsonRestore())
        origin = Origin(config, written.get("data", {}))
        if not all(isinstance(each, dict) for each in origin):
            raise ValueError("its config or its data's digests are no JSON object")
        if written.get("origin", _told(origin)) != _told(origin):  # Early ones lack it.
            raise ValueError("its config or its data's digests were changed")
    except Exception as error:
        raise _unusable(manager, step, error) from error
    return origin


def restore(
    manager: ocp.CheckpointManager,
    template: TrainState | None = None,
    step: int | None = None,
) -> TrainState | dict[str, Any]:
    """A checkpoint's state, on the host.

    Args:
        manager: from `open_folder`, with at least one checkpoint.
        template: a state of the same structure, shapes and types; without one the state
            comes as nested dicts.
        step: of the checkpoint; by default the newest.

    Raises:
        DamagedError: the checkpoint is damaged, or of another step than its name says;
            the message names the folder.
        InputError: it can't be read.
    """
    step = manager.latest_step() if step is None else step
    folder = manager.directory / str(step)
    try:
        told = _check_claim(folder / "state")
        arguments = () if template is None else (_held(template, told),)
        state = _read(manager, step, state=ocp.args.StandardRestore(*arguments))
        if template is not None:
            state = template._replace(**state)
        written = _read(manager, step, digest=ocp.args.JsonRestore())
        if written["blake2b"] != digest(state):
            raise ValueError("its arrays are not those that were written")
        held = state["step"] if isinstance(state, dict) else state.step
        if int(held) != step:
            raise ValueError(f"it holds step {int(held)}: its folder was renamed")
    except Exception as error:
        raise _unusable(manager, step, error) from error
    return state


def _held(template: TrainState, told: Mapping[str, Any]) -> dict[str, Any]:
    """The template's fields, without those empty ones that an early version lacks."""
    fields = jax.tree.map(np.asarray, template._asdict())
    return {k: v for k, v in fields.items() if k in told or jax.tree.leaves(v)}


def _check_claim(folder: epath.Path) -> Mapping[str, Any]:
    """What the files hold; refuses what they can't, before there is memory for it."""
    told = ocp.StandardCheckpointHandler().metadata(folder)
    claimed = sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(told.tree)
    )
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    held = sum(path.stat().st_size for path in files)
    # What a network has learnt hardly compresses; what a defence keeps may at first.
    if claimed > max(100 * held, _HARMLESS_BYTES):
        raise ValueError(f"it claims {claimed} bytes of arrays, in {held} of files")
    return told.tree


def _read(manager: ocp.CheckpointManager, step: int, **item):
    ((name, args),) = item.items()
    with _BEGINS:
        return manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]


def _unusable(manager: ocp.CheckpointManager, step: int, error: Exception) -> Exception:
    """What to raise: a checkpoint that we may not read, say, is not damaged."""
    if isinstance(error, MemoryError):
        return error
    if refused := _refused(error):
        return InputError(f"{_where(manager, step)} can't be read: {refused}")
    earlier = sorted(saved for saved in manager.all_steps() if saved < step)
    return DamagedError(
        f"{_where(manager, step)} is damaged and can't be restored "
        f"({type(error).__name__}: {line(error)})",
        f"to train again from step {earlier[-1] if earlier else 0} give the command "
        "that trained it",
    )


@hosts.first_only
def put_aside(workdir: Path, step: int) -> None:
    """Moves a checkpoint out of the way, to `damaged/`."""
    aside = workdir / "damaged"
    aside.mkdir(exist_ok=True)
    target = next(
        aside / name
        for i in itertools.count()
        if not (aside / (name := f"{step}.{i}" if i else str(step))).exists()
    )
    (workdir / _FOLDER / str(step)).rename(target)
