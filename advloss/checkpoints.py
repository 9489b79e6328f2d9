"""Checkpoints of a run, written by orbax so that a kill leaves the last good one.

A checkpoint holds the state (step, parameters, optimiser's moments) and the config that
it belongs to. Nothing in it is code: arrays and JSON only.
"""

import errno
import hashlib
import itertools
import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from advloss import config as configs
from advloss.errors import DamagedError, InputError, causes, line
from advloss.types import PyTree, TrainState

# What fails in orbax is raised, too.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)

_FOLDER = "checkpoints"
# A host that could not write never comes to where the others wait for it.
_BARRIER_SECONDS = 60
KEPT = 2  # The newest; runs that train together may have to go back by one.


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
    manager = ocp.CheckpointManager((workdir / _FOLDER).absolute(), options=options)
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
        # Where the system refused, all else followed from it.
        refused = next(filter(None, map(_refusal, causes(error))), None)
        raise OSError(
            f"a checkpoint in {manager.directory} can't be written: "
            f"{refused or line(error)}; those before it are kept"
        ) from (None if refused else error)


def _refusal(error: BaseException) -> str | None:
    """The system's own words, where it does not let us write."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
        if (words := os.strerror(number)) in str(error):
            return words
    return None


def steps(workdir: Path) -> list[int]:
    """The steps of a work directory's checkpoints, the newest last."""
    folder = workdir / _FOLDER
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def save(manager: ocp.CheckpointManager, state: TrainState, config: ConfigDict) -> None:
    """Writes a checkpoint; it counts only once it is complete.

    Raises:
        OSError: it, or the one before it, could not be written.
    """
    # A copy: orbax writes on while the next chunk uses the state's memory up.
    host = jax.tree.map(np.array, state)
    args = ocp.args.Composite(
        state=ocp.args.StandardSave(host),
        config=ocp.args.JsonSave(config.to_dict()),
        digest=ocp.args.JsonSave({"blake2b": digest(host)}),
    )
    with _writing(manager):
        manager.save(int(host.step), args=args)


def _check_config(
    manager: ocp.CheckpointManager, step: int, config: ConfigDict
) -> None:
    """Holds a checkpoint to a config; raises as `restore`."""
    where = Path(manager.directory) / str(step)
    try:
        values = _read(manager, step, config=ocp.args.JsonRestore())
        saved = configs.from_saved(values, where, quiet=True)  # config.json said it.
    except Exception as error:
        raise _damaged(manager, step, error) from error
    differences = configs.training_differences(saved, config)
    if differences:
        raise InputError(
            f"{where} belongs to another config: {'; '.join(differences)}; use its "
            "config or another --workdir"
        )


def restore(
    manager: ocp.CheckpointManager,
    config: ConfigDict,
    template: TrainState | None = None,
    *,
    step: int | None = None,
) -> TrainState | dict:
    """A checkpoint's state, on the host.

    Args:
        manager: from `open_folder`, with at least one checkpoint.
        config: what the run is to be; its training sections must be the checkpoint's.
        template: a state of the same structure, shapes and types; without one the state
            comes as nested dicts.
        step: of the checkpoint; by default the newest.

    Raises:
        InputError: the checkpoint is damaged, or of another config; the message names
            the folder, or the keys with both values.
    """
    step = manager.latest_step() if step is None else step
    _check_config(manager, step, config)
    arguments = () if template is None else (jax.tree.map(np.asarray, template),)
    folder = Path(manager.directory) / str(step)
    try:
        _check_claim(folder / "state")
        state = _read(manager, step, state=ocp.args.StandardRestore(*arguments))
        # Versions before this one wrote no digest.
        if (folder / "digest").exists():
            written = _read(manager, step, digest=ocp.args.JsonRestore())
            if written["blake2b"] != digest(state):
                raise ValueError("its arrays are not those that were written")
    except Exception as error:
        raise _damaged(manager, step, error) from error
    return state


def _check_claim(folder: Path) -> None:
    """Refuses arrays that the files can't hold, before there is memory for them."""
    told = ocp.StandardCheckpointHandler().metadata(folder)
    claimed = sum(
        math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize
        for leaf in jax.tree.leaves(told.tree)
    )
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    # What a network has learnt hardly compresses.
    if claimed > 100 * held:
        raise ValueError(f"it claims {claimed} bytes of arrays, in {held} of files")


def _read(manager: ocp.CheckpointManager, step: int, **item):
    ((name, args),) = item.items()
    return manager.restore(step, args=ocp.args.Composite(**{name: args}))[name]


def _damaged(
    manager: ocp.CheckpointManager, step: int, error: Exception
) -> DamagedError:
    earlier = sorted(saved for saved in manager.all_steps() if saved < step)
    return DamagedError(
        f"{Path(manager.directory) / str(step)} is damaged and can't be restored "
        f"({type(error).__name__}: {line(error)})",
        f"to train again from step {earlier[-1] if earlier else 0} give the command "
        "that trained it",
    )


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


def digest(tree: PyTree) -> str:
    """Of all arrays, whatever holds them: a flipped bit shows, wherever it is."""
    leaves = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(tree)]
    each = [
        hashlib.blake2b(leaf.tobytes(), person=leaf.dtype.str.encode()).digest()
        for leaf in leaves
    ]
    return hashlib.blake2b(b"".join(sorted(each))).hexdigest()
