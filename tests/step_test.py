"""Training: the order of examples, the step, and what must not change its result."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import config as configs
from advloss import data
from advloss.config import build
from advloss.data.order import draw
from advloss.errors import InputError
from advloss.runtime import devices as on_devices
from advloss.training import stack, step
from advloss.types import Batch

pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture
def config(small_config):
    return configs.resolve(small_config)


@pytest.fixture
def dataset(config):
    return data.load(**config.data)


def _train(config, count=1):
    """The state and the metrics of a run on so many devices."""
    return _trained(configs.to_json(config), count)


@functools.cache
def _trained(text, count):
    config = configs.from_dict(json.loads(text))
    dataset, network = data.load(**config.data), build.network(config)
    state = step.init(config, network, dataset.train)
    where = stack.layout(1, config.train.batch_size, jax.devices()[:count])
    assert where.shares == count
    found = []
    for fetch, (metrics,) in stack.run(
        [config], network, dataset, [state], where=where
    ):
        found.append(metrics)
        (state,) = fetch()
    return state, jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def test_every_epoch_is_a_new_permutation():
    key = jax.random.key(0)
    row = np.asarray(draw(key, 0, 30, 10)).reshape(3, 10)
    np.testing.assert_array_equal(np.sort(row), np.tile(np.arange(10), (3, 1)))
    assert not np.array_equal(row[0], row[1])


@pytest.mark.parametrize(("start", "count"), [(0, 7), (7, 7), (9, 12), (19, 1)])
def test_drawing_starts_anywhere_in_the_same_row(start, count):
    key = jax.random.key(3)
    whole = draw(key, 0, 40, 10)
    part = draw(key, jnp.asarray(start), count, 10)
    np.testing.assert_array_equal(part, whole[start : start + count])


def test_chunks_do_not_change_the_result(config):
    with config.unlocked():
        config.train.attack.warmup = 0.5
    whole, _ = _train(config)
    with config.unlocked():
        config.train.chunk_steps = 1
    single, _ = _train(config)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, single
    )


def test_gradients_are_averaged_over_devices(config):
    """Adam's first moment after one step is a tenth of the gradient: no division.

    A forgotten pmean would not be noticed by jax.pmap itself.
    """
    with config.unlocked():
        config.train.steps = config.train.chunk_steps = 1
    (one, expected), (several, found) = (_train(config, count) for count in (1, 4))
    for a, b in zip(
        jax.tree.leaves(one.opt_state), jax.tree.leaves(several.opt_state), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)


def test_the_step_alone_equals_the_step_in_the_loop(config, dataset):
    with config.unlocked():
        config.train.steps = config.train.chunk_steps = 1
    network = build.network(config)
    state = step.init(config, network, dataset.train)
    keys = step.keys(config.seed)
    indices = draw(keys.order, 0, 20, 400)
    batch = Batch(
        jnp.asarray(dataset.train.images)[indices],
        jnp.asarray(dataset.train.labels)[indices],
        indices,
    )
    train_step = jax.jit(step.make_train_step(config, network))
    hyper = build.hyperparameters(config)
    alone, _ = train_step(state, batch, keys.attack, hyper, None)
    looped, _ = _train(config)
    for a, b in zip(
        jax.tree.leaves(alone.opt_state), jax.tree.leaves(looped.opt_state), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_epsilon_warms_up_and_the_learning_rate_decays(config):
    with config.unlocked():
        config.train.attack.warmup = 0.5
    _, metrics = _train(config)
    ramp = np.minimum(np.arange(1, 9) / 4, 1)
    np.testing.assert_allclose(metrics["epsilon"], 0.3 * ramp, rtol=1e-6)
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8))
    np.testing.assert_allclose(metrics["learning_rate"], 3e-3 * cosine, rtol=1e-5)


def test_the_adversary_lowers_the_accuracy_it_is_trained_on(small_config):
    """The same steps, with and without attack: the attacked batches are harder."""
    small_config.train.steps = 60
    small_config.train.chunk_steps = 20
    small_config.train.checkpoint_every = 60
    _, attacked = _train(configs.resolve(small_config))
    small_config.defence.name = "natural"
    _, natural = _train(configs.resolve(small_config))
    assert natural["accuracy"][-10:].mean() > 0.8
    assert (natural["epsilon"] == 0).all()
    assert attacked["accuracy"][-20:].mean() < natural["accuracy"][-20:].mean() - 0.1


def test_hyperparameters_are_traced(config, dataset):
    """Two margins, one program."""
    with config.unlocked():
        config.loss.name, config.loss.margin, config.loss.scale = "hinge", 1.0, None
    network = build.network(config)
    train_step = step.make_train_step(config, network)
    traces = []

    @jax.jit
    def counted(*arguments):
        traces.append(1)
        return train_step(*arguments)

    state = step.init(config, network, dataset.train)
    batch = Batch(
        jnp.asarray(dataset.train.images[:4]),
        jnp.asarray(dataset.train.labels[:4]),
        jnp.arange(4),
    )
    losses = []
    for margin in (1.0, 3.0):
        hyper = {**build.hyperparameters(config), "loss": {"margin": margin}}
        _, metrics = counted(state, batch, jax.random.key(0), hyper, None)
        losses.append(float(metrics["loss"]))
    assert len(traces) == 1
    assert losses[1] > losses[0]


def test_a_batch_that_the_devices_do_not_divide():
    with pytest.raises(InputError, match=r"train.batch_size=50.*multiple of the 4"):
        on_devices.share("train.batch_size", 50, jax.devices())
