"""A function of a batch as one of any number of examples, on any devices."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from advloss.attacks.kept import kept
from advloss.evaluation.batches import Finished
from advloss.runtime import compiled
from advloss.runtime import devices as runtime_devices
from advloss.types import Batch, PyTree, Split

# Sizes of batches differ by so many examples at least, and there are so many at most:
# each is a program of its own, which is compiled where it saves that share of a batch.
_UNIT, _SIZES = 64, 8

Progress = Callable[[int], Any]
"""Called after every batch with the number of examples that were just finished."""


def no_progress(count: int) -> None:
    """Tells nobody."""


@kept
def _compiled(function: Callable, devices: tuple[jax.Device, ...]) -> Callable:
    """The function over the devices: the same object compiles once."""
    return runtime_devices.map_examples(function, devices)


class Mapped:
    """A function of a batch, as one of any number of examples.

    Args:
        function: `(shared, batch) -> result`, where batch and result are trees of
            arrays `[batch, ...]`; compiled once for each object and shapes.
        shared: what is the same for all examples.
        batch_size: of the function, over all devices, at most. Few examples come in
            smaller batches; the last batch is filled up.
        devices: they share every batch.
        most: examples that there can be; a batch is no larger.
        progress: is told how many examples have just been finished.

    Raises:
        InputError: the devices do not divide the batch.
    """

    def __init__(
        self,
        function: Callable[[PyTree, PyTree], PyTree],
        shared: PyTree,
        batch_size: int,
        devices: Sequence[jax.Device],
        most: int,
        progress: Progress = no_progress,
    ):
        runtime_devices.share("evaluate.batch_size", batch_size, devices)
        compiled.make_room()
        self._function = _compiled(function, tuple(devices))
        self._shared = runtime_devices.everywhere(shared, devices)
        self._devices, self._progress = len(devices), progress
        self._most = min(batch_size, self._shared_evenly(most))

    def __call__(
        self, arrays: PyTree, finished: Finished | None = None, name: str = ""
    ) -> PyTree:
        """The results of `[n, ...]` arrays, n at least 1, on the host.

        Args:
            arrays: a tree.
            finished: keeps each batch, and gives those that it has already; the result
                must be a dict of arrays then.
            name: begins the names of the batches that are kept.
        """
        total = len(jax.tree.leaves(arrays)[0])
        size, parts = self._size(total), []
        for start in range(0, total, size):
            count = min(size, total - start)
            part = finished.load(f"{name}{start}") if finished else None
            if part is None:
                part = self._one_batch(arrays, start, count, size)
                if finished:
                    finished.save(f"{name}{start}", **part)
            parts.append(part)
            self._progress(count)
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def _size(self, total: int) -> int:
        """Of as few batches as there can be, all equally full."""
        unit = self._shared_evenly(max(_UNIT, self._most / _SIZES))
        even = total / math.ceil(total / self._most)
        size = math.ceil(even / unit) * unit
        return size if size <= (1 - 1 / _SIZES) * self._most else self._most

    def _shared_evenly(self, count: float) -> int:
        return math.ceil(count / self._devices) * self._devices

    def _one_batch(self, arrays: PyTree, start: int, count: int, size: int) -> PyTree:
        last = start + count - 1
        chosen = np.minimum(np.arange(start, start + size), last)
        batch = jax.tree.map(lambda x: np.asarray(x)[chosen], arrays)
        result = self._function(self._shared, batch)
        return jax.tree.map(lambda x: np.asarray(x)[:count], result)


def map_split(
    function: Callable[[PyTree, Batch], PyTree],
    shared: PyTree,
    split: Split,
    *,
    batch_size: int,
    devices: Sequence[jax.Device],
    progress: Progress = no_progress,
) -> PyTree:
    """`function(shared, batch)` over a split, whose positions are the indices.

    See `Mapped` for the arguments.

    Raises:
        InputError: the devices do not divide the batch.
    """
    indices = np.arange(len(split.labels), dtype=np.int32)
    batch = Batch(np.asarray(split.images), np.asarray(split.labels), indices)
    most = len(indices)
    return Mapped(function, shared, batch_size, devices, most, progress)(batch)
