"""One run or many as one program: seeds, margins, scales, rates and radii side by side.

    for stack in stack.plan(configs, devices):
        for fetch, metrics in stack.run(members, network, dataset, states, layout=...):
            states = fetch()        # one of each run, copied to the host

Runs whose programs are the same but for numbers that are swept are trained together:
spread over the devices, and stacked on a device by `jax.vmap` where that is faster than
one after the other (`ROWS`). Where there are more devices than runs, several share the
batch of a run.
"""

import functools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from advloss import config as configs
from advloss.config import build
from advloss.networks import Network
from advloss.runtime import devices as on_devices
from advloss.training import step as steps_of
from advloss.training import validation
from advloss.types import Array, Axis, Dataset, PyTree, TrainState

# How many runs share a device. On a CPU one: two stacked are grouped convolutions and
# take three times as long as one after the other (docs/performance.md).
ROWS = {"cpu": 1, "gpu": 16, "tpu": 16}

Fetch = Callable[[], list[TrainState]]


def plan(
    members: Sequence[ConfigDict], devices: Sequence[jax.Device]
) -> list[list[ConfigDict]]:
    """Splits runs into those that are trained together, in the order of their first.

    It depends on nothing else: a sweep that goes on is split as it was before.
    """
    most = ROWS[devices[0].platform] * len(devices)
    groups: dict[tuple, list[ConfigDict]] = {}
    for config in members:
        groups.setdefault(_program(config), []).append(config)
    stacks = [s for group in groups.values() for s in _batched(group, most)]
    place = {id(config): i for i, config in enumerate(members)}
    return sorted(stacks, key=lambda stack: place[id(stack[0])])


def _batched(items: Sequence, size: int) -> list[list]:
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def _program(config: ConfigDict) -> tuple:
    """What decides which program trains a run, and on which data."""
    swept = configs.swept()
    training = configs.flatten_training(config)
    shared = tuple((key, value) for key, value in training if key not in swept)
    return shared, tuple(configs.flatten(config.data))  # Where they lie, too.


class Layout(NamedTuple):
    """How the runs of a stack lie on the devices.

    Attributes:
        devices: those in use.
        shares: how many of them share the batch of a run.
        rows: how many runs lie on each.
    """

    devices: Sequence[jax.Device]
    shares: int
    rows: int


def layout(count: int, batch_size: int, devices: Sequence[jax.Device]) -> Layout:
    """Where so many runs lie; it depends on nothing else.

    On several hosts all devices take part, though they repeat a run.
    """
    rows = math.ceil(count / len(devices))
    shares = max(
        n
        for n in range(1, max(1, len(devices) // count) + 1)
        if batch_size % n == 0 and len(devices) % n == 0
    )
    used = math.ceil(count / rows) * shares
    return Layout(devices if jax.process_count() > 1 else devices[:used], shares, rows)


def run(
    members: Sequence[ConfigDict],
    network: Network,
    dataset: Dataset,
    states: Sequence[TrainState],
    *,
    where: Layout,
    frozen: Sequence[PyTree] = (),
) -> Iterator[tuple[Fetch, list[dict[str, np.ndarray]]]]:
    """Trains runs of one program together, yielding after every chunk.

    Args:
        members: resolved, of one stack of `plan`; no more than `where` was made for.
        network: theirs.
        dataset: theirs.
        states: of each, all at the same step; they are copied.
        where: how they lie on the devices.
        frozen: what each one's defence reads and never changes; by default nothing.

    Yields:
        A function that copies every run's state to the host, to be called before the
        next chunk; and every run's metrics, `[steps]`, and `[1]` of a validation.
    """
    count, (devices, shares, rows) = len(members), where
    if jax.process_count() == 1:
        devices = devices[: math.ceil(count / rows) * shares]
    # Device by device, row by row; where there is room, the last run is repeated.
    places = np.arange(len(devices)) // shares
    filled = np.minimum(places[:, None] * rows + np.arange(rows), count - 1)
    groups = np.arange(len(devices)).reshape(-1, shares).tolist()
    one_group = None if len(groups) == 1 else groups
    axis = Axis(on_devices.AXIS, one_group) if shares > 1 else None

    def arrange(items: Sequence[PyTree], stack: Callable[..., Array]) -> PyTree:
        rows = jax.tree.map(lambda *leaves: stack(leaves)[filled], *items)
        return on_devices.spread(rows, devices)

    def scatter(tree: PyTree) -> list[PyTree]:
        host = on_devices.gather(tree, every=shares)
        host = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), host)
        return [jax.tree.map(operator.itemgetter(i), host) for i in range(count)]

    state = arrange(states, np.stack)  # On the host: JAX compiles each shape anew.
    own = [(steps_of.keys(c.seed), build.hyperparameters(c)) for c in members]
    read = frozen or [None] * count
    own = [(*each, one) for each, one in zip(own, read, strict=True)]
    numbers = arrange(own, jnp.stack)
    parts = validation.parts(dataset.train, members[0])
    parts = on_devices.replicate(jax.tree.map(jnp.asarray, parts), devices)

    @functools.cache
    def program(steps: int, validates: bool) -> Callable[..., PyTree]:
        chunk = steps_of.make_chunk(
            members[0],
            network,
            steps=steps,
            shares=shares,
            axis=axis,
            validates=validates,
        )

        def together(state: TrainState, parts: PyTree, numbers: tuple) -> tuple:
            rank = jax.lax.axis_index(on_devices.AXIS) % shares

            def one(state: TrainState, numbers: tuple) -> tuple:
                return chunk(rank, state, parts, *numbers)

            return _map_stacked(one, state, numbers)

        return on_devices.map_rows(together, devices)

    done = int(states[0].step)
    for length in steps_of.chunk_lengths(members[0], done):
        validates = validation.is_due(members[0], done, done + length)
        state, metrics = program(length, validates)(state, parts, numbers)
        done += length
        yield lambda state=state: scatter(state), scatter(metrics)


def _map_stacked(function: Callable[..., PyTree], *stacked: PyTree) -> PyTree:
    """`function` of every row of the leading axis, side by side."""
    rows = len(jax.tree.leaves(stacked)[0])
    if rows > 1:
        return jax.vmap(function)(*stacked)
    # A stack of one is not worth what vmap makes of a convolution.
    result = function(*jax.tree.map(lambda x: x[0], stacked))
    return jax.tree.map(lambda x: x[None], result)
