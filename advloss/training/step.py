"""Training as pure functions: one update, and a chunk of updates as one program.

A run is a function of its config and nothing else: every step's batch and every random
start are drawn from the seed and the step's number, so a run that continues from a
checkpoint repeats the uninterrupted one bit for bit.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advloss import optimisers
from advloss.attacks.base import KEYS, example_keys
from advloss.config import build
from advloss.data import augment
from advloss.data.order import draw
from advloss.defences import DEFENCES, awp, outcomes
from advloss.errors import InputError
from advloss.networks import Network
from advloss.training import validation
from advloss.types import Array, Axis, Batch, PyTree, Split, TrainState

Metrics = dict[str, Array]
"""What a step reports, by name: scalars, or `[steps]` for a chunk.

"loss" and "accuracy" are the batch's as it was trained on, before the update;
"learning_rate" and "epsilon" what held at the step. A chunk that ends with a
validation has its numbers too, see `validation.make_validation`.
"""

# What grows from 0 over the warm-up.
_RAMPED = ("epsilon", "step_size")


class Keys(NamedTuple):
    """The run's sources of randomness, all from its seed."""

    init: Array
    order: Array
    attack: Array


def keys(seed: int | Array) -> Keys:
    """Independent keys from a seed."""
    return Keys(*jax.random.split(jax.random.key(seed, impl=KEYS), 3))


def _optimiser(config: ConfigDict):
    return optimisers.make(
        config.train.optimiser,
        momentum=config.train.momentum,
        weight_decay=config.train.weight_decay,
        clip_norm=config.train.clip_norm,
    )


def init(config: ConfigDict, network: Network, split: Split) -> TrainState:
    """The state before the first step of training on a split.

    Raises InputError where too much of it would be held out.
    """
    split = validation.parts(split, config).train
    variables = network.init(keys(config.seed).init, split.images.shape[1:])
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        opt_state=_optimiser(config).init(variables["params"]),
        average=jax.tree.map(jnp.array, variables) if config.train.average else {},
        memory=_memory(config, split),
        best=validation.nothing_yet(config, variables),
    )


def _memory(config: ConfigDict, split: Split) -> PyTree:
    """What the defence keeps of every example. Raises InputError where it is not so."""
    first = DEFENCES[config.defence.name].memory
    if first is None:
        return {}
    with outcomes.told(config.defence.name, first):
        kept = first(split)
    for shape in map(jnp.shape, jax.tree.leaves(kept)):
        if shape[:1] != (len(split.labels),) or 0 in shape:
            raise InputError(
                f"config.defence.name={config.defence.name!r}: its memory holds an "
                f"array {shape}; use [examples, ...], of the {len(split.labels)} "
                "examples, none of them empty"
            )
    return kept


TrainStep = Callable[..., tuple[TrainState, Metrics]]


def make_train_step(
    config: ConfigDict, network: Network, axis: Axis | None = None
) -> TrainStep:
    """The pure update of a run.

    Args:
        config: resolved; what is swept is not read from it.
        network: what is trained.
        axis: of the devices that share a batch: gradients, statistics of batches and
            metrics are averaged over it.

    Returns:
        `train_step(state, batch, key, hyper, frozen) -> (state, metrics)`: the
        defence's loss of the batch, and one step of the optimiser. `key` is the run's
        attack key, the same at every step; `hyper` are `build.hyperparameters`;
        `frozen` is what the defence reads and never changes.
    """
    settings = config.train
    defend, optimiser = build.defence(config), _optimiser(config)
    if config.defence.awp:
        mean = axis.mean if axis is not None else lambda tree: tree
        defend = awp.perturbed(defend, config.defence.awp, mean)
    schedule = optimisers.SCHEDULES[settings.schedule]
    decay = schedule(settings.steps, tuple(settings.milestones))
    warmup_steps = settings.attack.warmup * settings.steps

    def forward(variables: PyTree, images: Array, train: bool) -> tuple:
        return network.apply(variables, images, train=train, axis=axis)

    def ramp(numbers: dict[str, Array], step: Array) -> dict[str, Array]:
        share = jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        return {
            key: value * share if key in _RAMPED else value
            for key, value in numbers.items()
        }

    def train_step(
        state: TrainState, batch: Batch, key: Array, hyper: build.Hyper, frozen: PyTree
    ) -> tuple[TrainState, Metrics]:
        now = {**hyper, "attack": ramp(hyper["attack"], state.step)}
        step_key = jax.random.fold_in(key, state.step)
        rows = jax.tree.map(lambda kept: kept[batch.indices], state.memory)

        def objective(params: PyTree) -> tuple:
            variables = {**state.variables, "params": params}
            return defend(forward, variables, batch, step_key, now, frozen, rows)

        (_, (variables, rows, metrics)), gradient = jax.value_and_grad(
            objective, has_aux=True
        )(state.variables["params"])
        statistics = {k: v for k, v in variables.items() if k != "params"}
        metrics = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), metrics)
        if axis is not None:
            gradient, statistics, metrics = axis.mean((gradient, statistics, metrics))
        params = state.variables["params"]
        updates, opt_state = optimiser.update(gradient, state.opt_state, params)
        rate = hyper["learning_rate"] * decay(state.step)
        params = optimisers.apply(params, updates, rate=rate)
        variables = {**statistics, "params": params}
        average = state.average
        if settings.average:
            average = optimisers.average(
                average, variables, decay=settings.average, step=state.step
            )
        metrics |= {"learning_rate": rate, "epsilon": now["attack"].get("epsilon", 0.0)}
        metrics = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), metrics)
        memory = _remember(state.memory, batch.indices, rows, axis)
        return (
            TrainState(
                state.step + 1, variables, opt_state, average, memory, state.best
            ),
            metrics,
        )

    return train_step


def _remember(
    memory: PyTree, indices: Array, rows: PyTree, axis: Axis | None
) -> PyTree:
    """The memory with the rows of a batch put in their places."""
    if not jax.tree.leaves(memory):
        return memory
    if axis is not None:
        indices, rows = axis.gather((indices, rows))
    # A batch across two epochs may hold an example twice: its last row counts, on every
    # backend.
    same = indices[:, None] == indices[None, :]
    later = jnp.triu(same, k=1).any(axis=1)
    places = jnp.where(later, jnp.iinfo(indices.dtype).max, indices)
    return jax.tree.map(
        lambda kept, new: kept.at[places].set(new, mode="drop"), memory, rows
    )


Chunk = Callable[..., tuple[TrainState, Metrics]]


def make_chunk(
    config: ConfigDict,
    network: Network,
    *,
    steps: int,
    shares: int = 1,
    axis: Axis | None = None,
    validates: bool = False,
) -> Chunk:
    """`steps` updates as one program, with no word to the host in between.

    Args:
        config, network: as `make_train_step`.
        steps: updates in the chunk.
        shares: equal parts of a batch, of which each device of the axis takes one.
        axis: of the devices that share a batch.
        validates: whether it ends with a validation.

    Returns:
        `chunk(rank, state, parts, run_keys, hyper, frozen) -> (state, metrics)`; `rank`
        is the number of the share to be taken, `parts` those of the training split.
    """
    train_step = make_train_step(config, network, axis)
    if validates:
        validate = validation.make_validation(config, network, shares, axis)
    batch_size = config.train.batch_size
    share, replays = batch_size // shares, build.replays(config)
    changes = config.train.augment

    def chunk(
        rank: Array | int,
        state: TrainState,
        parts: validation.Parts,
        run_keys: Keys,
        hyper: build.Hyper,
        frozen: PyTree,
    ) -> tuple[TrainState, Metrics]:
        split = parts.train
        augment_key = jax.random.fold_in(run_keys.init, 2)  # 1 is validation's.
        # The number of each step's batch, and which there are.
        numbers = (state.step + jnp.arange(steps)) // replays
        first, count = numbers[0], -(-(steps - 1) // replays) + 1
        start, count = first * batch_size, count * batch_size
        indices = draw(run_keys.order, start, count, len(split.labels))
        batches = indices.reshape(-1, batch_size)[numbers - first]
        mine = jax.lax.dynamic_slice_in_dim(batches, rank * share, share, axis=1)

        def body(state: TrainState, indices: Array) -> tuple[TrainState, Metrics]:
            images = split.images[indices]
            if changes.names:
                key = jax.random.fold_in(augment_key, state.step // replays)
                keys = example_keys(key, indices)
                images = augment.apply(changes.names, keys, images, changes)
            batch = Batch(images, split.labels[indices], indices)
            return train_step(state, batch, run_keys.attack, hyper, frozen)

        state, metrics = jax.lax.scan(body, state, mine)
        if validates:
            best, found = validate(
                rank,
                state.best,
                state.average if config.train.average else state.variables,
                state.step,
                parts.held_out,
                jax.random.fold_in(run_keys.init, 1),
                hyper["attack"].get("epsilon", config.train.attack.epsilon),
            )
            state, metrics = state._replace(best=best), {**metrics, **found}
        return state, metrics

    return chunk


def chunk_lengths(config: ConfigDict, done: int) -> Iterator[int]:
    """The lengths of the chunks that lead from step `done` to the last.

    Chunks end at multiples of `train.chunk_steps` and at the last step.
    """
    length, total = config.train.chunk_steps, config.train.steps
    while done < total:
        steps = min(length - done % length, total - done)
        yield steps
        done += steps
