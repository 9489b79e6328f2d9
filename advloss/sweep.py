"""Many runs as one program: seeds, margins, scales, rates and radii side by side.

    for members in sweep.plan(configs, devices):
        for fetch, metrics in sweep.run(members, dataset, states, devices=devices):
            states = fetch()        # one of each run, copied to the host

Runs whose programs are the same but for the numbers in `SWEPT` are trained together:
spread over the devices, each run with its whole batch on one of them, and stacked on a
device by `jax.vmap` where that is faster than one after the other (`ROWS`).
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advloss import config as configs
from advloss import parallel, train
from advloss.types import Array, Dataset, PyTree, Split, TrainState

# What may differ within a program, as `train.Hyperparameters` and keys take it traced.
SWEPT = (
    "seed",
    "loss.margin",
    "loss.scale",
    "train.learning_rate",
    "train.attack.epsilon",
    "train.attack.step_size",
)
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
    """What decides which program trains a run."""
    training = configs.flatten_training(config)
    return tuple((key, value) for key, value in training if key not in SWEPT)


def run(
    members: Sequence[ConfigDict],
    dataset: Dataset,
    states: Sequence[TrainState],
    *,
    devices: Sequence[jax.Device],
) -> Iterator[tuple[Fetch, list[train.Metrics]]]:
    """Trains runs of one program together, yielding after every chunk.

    Args:
        members: resolved, of one stack of `plan`.
        dataset: theirs.
        states: of each, all at the same step.
        devices: no more than one a run is used.

    Yields:
        A function that copies every run's state to the host, to be called before the
        next chunk; and every run's metrics, `[steps]`.
    """
    count = len(members)
    rows = math.ceil(count / len(devices))
    # On several hosts every one takes part, though it repeat a run.
    used = devices if jax.process_count() > 1 else devices[: math.ceil(count / rows)]
    # Where the last device has room, it repeats the last run.
    filled = [*range(count), *[count - 1] * (rows * len(used) - count)]

    def arrange(items: Sequence[PyTree]) -> PyTree:
        def stack(*leaves: Array) -> Array:
            return jnp.stack(leaves).reshape(len(used), rows, *jnp.shape(leaves[0]))

        return parallel.spread(jax.tree.map(stack, *(items[i] for i in filled)), used)

    def scatter(tree: PyTree) -> list[PyTree]:
        host = parallel.gather(tree)
        host = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), host)
        return [jax.tree.map(operator.itemgetter(i), host) for i in range(count)]

    state = arrange(states)
    numbers = arrange([(train.keys(c.seed), train.hyperparameters(c)) for c in members])
    split = parallel.replicate(Split(*map(jnp.asarray, dataset.train)), used)

    def program(steps: int) -> Callable[..., PyTree]:
        chunk = train.make_chunk(members[0], steps=steps)

        def together(state: TrainState, split: Split, numbers: tuple) -> tuple:
            def one(state: TrainState, numbers: tuple) -> tuple:
                return chunk(0, state, split, *numbers)

            return _map_stacked(one, state, numbers)

        return parallel.map_rows(together, used)

    for advance in train.chunks(members[0], int(states[0].step), program):
        state, metrics = advance(state, split, numbers)
        yield lambda state=state: scatter(state), scatter(metrics)


def _map_stacked(function: Callable[..., PyTree], *stacked: PyTree) -> PyTree:
    """`function` of every row of the leading axis, side by side."""
    rows = len(jax.tree.leaves(stacked)[0])
    if rows > 1:
        return jax.vmap(function)(*stacked)
    # A stack of one is not worth what vmap makes of a convolution.
    result = function(*jax.tree.map(lambda x: x[0], stacked))
    return jax.tree.map(lambda x: x[None], result)
