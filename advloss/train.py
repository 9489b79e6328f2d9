"""Adversarial training: a pure step, a chunk of steps as one program, the loop.

    for state, metrics in train.run(config, dataset, state, devices=devices):
        ...  # after every chunk; metrics are arrays with one entry a step

A run is a function of its config and nothing else: every step's batch and every random
start are drawn from the seed and the step's number, so a run that continues from a
checkpoint repeats the uninterrupted one bit for bit.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from advloss import losses, models, parallel
from advloss.attacks import ATTACKS, example_keys
from advloss.types import Array, Batch, Dataset, PyTree, Split, TrainState

SCHEDULES = {
    "constant": lambda steps: optax.constant_schedule(1.0),
    "cosine": lambda steps: optax.cosine_decay_schedule(1.0, steps),
}


class Hyperparameters(NamedTuple):
    """What a sweep may vary without compiling anew: numbers or traced arrays."""

    learning_rate: float | Array
    epsilon: float | Array
    step_size: float | Array
    loss: dict[str, float | Array]


class Metrics(NamedTuple):
    """What a step reports: scalars, or `[steps]` for a chunk.

    The loss and the accuracy are the batch's under attack, before the update.
    """

    loss: Array
    accuracy: Array
    learning_rate: Array
    epsilon: Array


class Keys(NamedTuple):
    """The run's sources of randomness, all from its seed."""

    init: Array
    order: Array
    attack: Array


def keys(seed: int | Array) -> Keys:
    """Independent keys from a seed."""
    return Keys(*jax.random.split(jax.random.key(seed), 3))


def hyperparameters(config: ConfigDict) -> Hyperparameters:
    """The numbers that `train_step` takes as arrays, from a resolved config."""
    attack = config.train.attack
    return Hyperparameters(
        config.train.learning_rate, attack.epsilon, attack.step_size, loss_of(config)
    )


def loss_of(config: ConfigDict) -> dict[str, float]:
    """The hyperparameters that the config's loss takes."""
    return {key: config.loss[key] for key in losses.LOSSES[config.loss.name].defaults}


def network_of(config: ConfigDict) -> models.Network:
    """The network, with the head that the loss asks for."""
    head = losses.LOSSES[config.loss.name].head
    return models.build(
        config.model.name,
        head=head,
        num_classes=config.data.num_classes,
        init=config.model.init,
        precision=config.model.precision,
    )


def init(config: ConfigDict, image_shape: tuple[int, int, int]) -> TrainState:
    """The state before the first step."""
    params = network_of(config).init(keys(config.seed).init, image_shape)
    opt_state = optax.adam(0.0).init(params)
    return TrainState(jnp.zeros((), jnp.int32), params, opt_state)


TrainStep = Callable[..., tuple[TrainState, Metrics]]


def make_train_step(config: ConfigDict) -> TrainStep:
    """The pure update of a config.

    Returns:
        `train_step(state, batch, key, hyper, *, axis_name=None) -> (state, metrics)`:
        attacks the batch, then takes one step of Adam on the mean loss of what the
        attack found. `key` is the run's attack key, the same at every step. Where an
        axis is named, gradients and metrics are averaged over it.
    """
    network = network_of(config)
    settings = config.train
    decay = SCHEDULES[settings.schedule](settings.steps)
    warmup_steps = settings.attack.warmup * settings.steps

    def ramp(step: Array) -> Array:
        return jnp.minimum(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0

    def adversary(state: TrainState, batch: Batch, key: Array, hyper) -> Array:
        own = losses.bind(config.loss.name, hyper.loss)
        step_keys = example_keys(jax.random.fold_in(key, state.step), batch.indices)
        result = ATTACKS[settings.attack.name](
            models.classifier(network, state.params),
            step_keys,
            batch.images,
            batch.labels,
            objective=losses.objective(settings.attack.objective, own),
            epsilon=hyper.epsilon * ramp(state.step),
            step_size=hyper.step_size * ramp(state.step),
            steps=settings.attack.steps,
            random_start=settings.attack.random_start,
        )
        return jax.lax.stop_gradient(result.images)

    def mean_loss(params: PyTree, images: Array, labels: Array, hyper) -> tuple:
        scores, _ = network.apply(params, images)
        values = losses.bind(config.loss.name, hyper.loss)(scores, labels)
        return values.mean(), jnp.mean(jnp.argmax(scores, -1) == labels)

    def train_step(
        state: TrainState,
        batch: Batch,
        key: Array,
        hyper: Hyperparameters,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        natural = settings.attack.name == "none"
        images = batch.images if natural else adversary(state, batch, key, hyper)
        (loss, accuracy), gradient = jax.value_and_grad(mean_loss, has_aux=True)(
            state.params, images, batch.labels, hyper
        )
        if axis_name is not None:
            averaged = jax.lax.pmean((gradient, loss, accuracy), axis_name)
            gradient, loss, accuracy = averaged
        learning_rate = hyper.learning_rate * decay(state.step)
        optimiser = optax.adam(learning_rate)
        updates, opt_state = optimiser.update(gradient, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        epsilon = 0.0 if natural else hyper.epsilon * ramp(state.step)
        metrics = Metrics(loss, accuracy, learning_rate, epsilon)
        metrics = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), metrics)
        return TrainState(state.step + 1, params, opt_state), metrics

    return train_step


def draw(key: Array, start: Array, count: int, num_examples: int) -> Array:
    """Indices at `start ... start + count - 1` of an endless row of shuffled epochs.

    Every epoch is another permutation of all examples, drawn from the key and the
    epoch's number: where in the row one begins to read changes nothing.

    Returns:
        `[count]` int32.
    """
    first = start // num_examples
    epochs = first + jnp.arange((count + num_examples - 2) // num_examples + 1)
    orders = jax.vmap(
        lambda epoch: jax.random.permutation(
            jax.random.fold_in(key, epoch), num_examples
        )
    )(epochs)
    positions = start + jnp.arange(count)
    return orders[positions // num_examples - first, positions % num_examples]


Chunk = Callable[..., tuple[TrainState, Metrics]]


def make_chunk(
    config: ConfigDict, *, steps: int, shares: int = 1, axis_name: str | None = None
) -> Chunk:
    """`steps` updates as one program, with no word to the host in between.

    Args:
        steps: updates in the chunk.
        shares: equal parts of a batch, of which each device of the named axis takes
            one.
        axis_name: over which gradients are averaged.

    Returns:
        `chunk(rank, state, split, run_keys, hyper) -> (state, metrics)`; `rank` is the
        number of the share to be taken.
    """
    train_step = make_train_step(config)
    batch_size = config.train.batch_size
    share = batch_size // shares

    def chunk(
        rank: Array | int, state: TrainState, split: Split, run_keys: Keys, hyper
    ) -> tuple[TrainState, Metrics]:
        start, count = state.step * batch_size, steps * batch_size
        indices = draw(run_keys.order, start, count, len(split.labels))
        batches = indices.reshape(steps, batch_size)
        mine = jax.lax.dynamic_slice_in_dim(batches, rank * share, share, axis=1)

        def body(state: TrainState, indices: Array) -> tuple[TrainState, Metrics]:
            batch = Batch(split.images[indices], split.labels[indices], indices)
            return train_step(state, batch, run_keys.attack, hyper, axis_name=axis_name)

        return jax.lax.scan(body, state, mine)

    return chunk


def run(
    config: ConfigDict,
    dataset: Dataset,
    state: TrainState,
    *,
    devices: Sequence[jax.Device],
) -> Iterator[tuple[TrainState, Metrics]]:
    """Trains from `state` to the last step, yielding after every chunk.

    The state that was given is not touched; one that was yielded is used up by the
    next chunk: copy what is to be kept.

    Raises:
        InputError: the devices do not divide the batch.
    """
    count = len(devices)
    parallel.share("train.batch_size", config.train.batch_size, devices)
    split, run_keys, hyper = parallel.replicate(
        (
            Split(*map(jnp.asarray, dataset.train)),
            keys(config.seed),
            hyperparameters(config),
        ),
        devices,
    )
    # A copy: what the first chunk uses up must not be the caller's.
    state = parallel.replicate(jax.tree.map(np.array, state), devices)

    def program(steps: int) -> Chunk:
        chunk = make_chunk(config, steps=steps, shares=count, axis_name=parallel.AXIS)
        return parallel.map_ranks(chunk, devices)

    for advance in chunks(config, int(state.step), program):
        state, metrics = advance(state, split, run_keys, hyper)
        yield state, metrics


def chunks(
    config: ConfigDict, done: int, program: Callable[[int], Chunk]
) -> Iterator[Chunk]:
    """The programs that lead from step `done` to the last, compiled once a length.

    Chunks end at multiples of `train.chunk_steps` and at the last step.

    Args:
        done: the steps that are finished.
        program: the number of steps -> the chunk.
    """
    compiled = functools.cache(program)
    length, total = config.train.chunk_steps, config.train.steps
    while done < total:
        steps = min(length - done % length, total - done)
        yield compiled(steps)
        done += steps
