"""The L-BFGS attack: exact distances of linear networks, and what results promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, losses

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CLASSES = 3
SHAPE = (4, 4, 1)
each_aim = pytest.mark.parametrize("targeted", [True, False])


def _keys(size):
    return attacks.example_keys(jax.random.key(0), jnp.arange(size))


def _linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def _smooth(weights, images):
    """A small network that bends: logits of the squares of some features."""
    return jnp.square(_linear(weights[0], images) - 0.5) @ weights[1]


def _lbfgs(classifier, images, labels, **changes):
    settings = {"objective": losses.softmax_cross_entropy, "steps": 20, **changes}
    return attacks.lbfgs(classifier, _keys(len(images)), images, labels, **settings)


@pytest.fixture(scope="module")
def network():
    keys = jax.random.split(jax.random.key(3))
    weights = (
        jax.random.normal(keys[0], (16, 8)) / 2,
        jax.random.normal(keys[1], (8, CLASSES)),
    )
    return functools.partial(_smooth, weights)


@pytest.fixture(scope="module")
def batch(network):
    """Images, many of their pixels at the box's walls, and their predictions."""
    images = jax.random.uniform(jax.random.key(1), (6, *SHAPE), minval=-1, maxval=2)
    images = jnp.clip(images, 0, 1)
    return images, jnp.argmax(network(images), axis=-1).astype(jnp.int32)


def _aim(predictions, targeted):
    """Right labels; and as targets, where there are any, the classes after them."""
    return {"targets": (predictions + 1) % CLASSES} if targeted else {}


@pytest.fixture(scope="module")
def results(network, batch):
    images, predictions = batch
    return {
        targeted: jax.jit(functools.partial(_lbfgs, network))(
            images, predictions, **_aim(predictions, targeted)
        )
        for targeted in (True, False)
    }


@each_aim
@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.hinge])
def test_finds_the_distance_to_a_plane(targeted, loss):
    """Two classes, logits linear: the margin over the length of the weights."""
    weights = jax.random.normal(jax.random.key(0), (16, 2))
    images = 0.4 + 0.2 * jax.random.uniform(jax.random.key(1), (5, *SHAPE))
    classifier = functools.partial(_linear, weights)
    logits = classifier(images)
    predictions = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    normal = np.linalg.norm(weights[:, 0] - weights[:, 1])
    exact = np.abs(logits[:, 0] - logits[:, 1]) / normal
    assert exact.min() > 0.01

    @jax.jit
    def attack(constant):
        settings = {"targets": 1 - predictions} if targeted else {}
        settings |= {"objective": loss, "search_steps": 12}
        settings["initial_constant"] = constant
        return _lbfgs(classifier, images, predictions, **settings)

    for constant in (0.01, 1.0, 50.0):
        result = attack(constant)
        assert result.success.all()
        assert ((result.images > 0) & (result.images < 1)).all()
        np.testing.assert_allclose(result.distance, exact, rtol=0.02)
        assert (result.distance >= exact * (1 - 1e-3)).all()


def test_the_box_bends_the_way_to_the_plane():
    """Two pixels must gain 0.05, or 0.65, together; the first has room for 0.1."""
    images = jnp.array([0.9, 0.0]).reshape(1, 1, 2, 1)

    @jax.jit
    def attack(missing):
        def classifier(x):
            gain = (x - images).sum(axis=(1, 2, 3))
            return 10 * jnp.stack([missing - gain, 0 * gain], axis=-1)

        zero = jnp.array([0])
        return _lbfgs(classifier, images, zero, targets=1 - zero, search_steps=12)

    for missing, expected in ((0.05, [0.925, 0.025]), (0.65, [1.0, 0.55])):
        np.testing.assert_allclose(attack(missing).images.ravel(), expected, atol=2e-3)


@each_aim
def test_the_objective_is_of_what_is_aimed_at(targeted, results, network, batch):
    _, predictions = batch
    aimed = _aim(predictions, targeted).get("targets", predictions)
    result = results[targeted]
    assert result.success.any()
    np.testing.assert_allclose(
        result.objective,
        losses.softmax_cross_entropy(network(result.images), aimed),
        rtol=1e-4,
        atol=1e-4,
    )


def test_more_constants_never_lead_further_away(network, batch):
    images, predictions = batch
    few, many = (
        _lbfgs(network, images, predictions, search_steps=n).distance for n in (2, 4)
    )
    assert (many <= few * (1 + 1e-4)).all()


@pytest.mark.parametrize("empty", ["steps", "search_steps"])
def test_no_steps_find_nothing(empty, network, batch):
    images, predictions = batch
    result = _lbfgs(network, images, predictions, **{empty: 0})
    assert not result.success.any()
    assert (result.backward_passes == 0).all()
    np.testing.assert_array_equal(result.images, images)
