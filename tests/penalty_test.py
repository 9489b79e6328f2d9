"""The penalty attack: exact distances of linear networks, and what results promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, losses

CLASSES = 3
SHAPE = (4, 4, 1)
each_aim = pytest.mark.parametrize("targeted", [True, False])


def _keys(size):
    return attacks.example_keys(jax.random.key(0), jnp.arange(size))


def _linear(weights, images):
    return images.reshape(len(images), -1) @ weights


def _smooth(weights, images):
    """A small network that bends: scores of the squares of some features."""
    return jnp.square(_linear(weights[0], images) - 0.5) @ weights[1]


def _penalty(classifier, images, labels, **changes):
    settings = {"objective": losses.softmax_cross_entropy, "steps": 20, **changes}
    return attacks.penalty(classifier, _keys(len(images)), images, labels, **settings)


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


def _labels(predictions, targeted):
    return (predictions + 1) % CLASSES if targeted else predictions


@pytest.fixture(scope="module")
def results(network, batch):
    images, predictions = batch
    return {
        targeted: jax.jit(functools.partial(_penalty, network, targeted=targeted))(
            images, _labels(predictions, targeted)
        )
        for targeted in (True, False)
    }


@each_aim
@pytest.mark.parametrize("loss", [losses.softmax_cross_entropy, losses.hinge])
def test_finds_the_distance_to_a_plane(targeted, loss):
    """Two classes, scores linear: the margin over the length of the weights."""
    weights = jax.random.normal(jax.random.key(0), (16, 2))
    images = 0.4 + 0.2 * jax.random.uniform(jax.random.key(1), (5, *SHAPE))
    classifier = functools.partial(_linear, weights)
    scores = classifier(images)
    predictions = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    labels = 1 - predictions if targeted else predictions
    normal = np.linalg.norm(weights[:, 0] - weights[:, 1])
    exact = np.abs(scores[:, 0] - scores[:, 1]) / normal
    assert exact.min() > 0.01

    @jax.jit
    def attack(constant):
        settings = {"objective": loss, "targeted": targeted, "search_steps": 12}
        settings["initial_constant"] = constant
        return _penalty(classifier, images, labels, **settings)

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

        return _penalty(classifier, images, jnp.array([1]), search_steps=12)

    for missing, expected in ((0.05, [0.925, 0.025]), (0.65, [1.0, 0.55])):
        np.testing.assert_allclose(attack(missing).images.ravel(), expected, atol=2e-3)


@each_aim
def test_what_the_result_says_is_true(targeted, results, network, batch):
    result, (images, predictions) = results[targeted], batch
    labels = _labels(predictions, targeted)
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    # Scores of another program may differ by a rounding, just at the boundary.
    scores = network(result.images)
    lead = scores - jnp.take_along_axis(scores, labels[:, None], axis=-1)
    lead = jnp.where(jax.nn.one_hot(labels, CLASSES, dtype=bool), -jnp.inf, lead).max(1)
    fooled = lead <= 1e-4 if targeted else lead >= -1e-4
    assert result.success.any()
    np.testing.assert_array_equal(fooled[result.success], True)
    change = np.linalg.norm((result.images - images).reshape(6, -1), axis=1)
    np.testing.assert_allclose(
        result.distance, np.where(result.success, change, np.inf), rtol=1e-5
    )
    np.testing.assert_allclose(
        result.objective,
        losses.softmax_cross_entropy(scores, labels),
        rtol=1e-4,
        atol=1e-4,
    )
    np.testing.assert_array_equal(result.worst_images, result.images)
    np.testing.assert_array_equal(result.worst_success, result.success)
    assert (result.gradients == 20 * 9).all()
    assert (result.forwards == 1).all()


@each_aim
def test_independent_of_the_rest_of_the_batch(targeted, results, network, batch):
    images, predictions = batch
    labels = _labels(predictions, targeted)
    attack = jax.jit(functools.partial(_penalty, network, targeted=targeted))
    for i in (0, 3):
        alone = attack(images[i : i + 1], labels[i : i + 1])
        assert alone.success[0] == results[targeted].success[i]
        # Roundings may lead a line search another way, not to another optimum.
        np.testing.assert_allclose(
            alone.distance[0], results[targeted].distance[i], rtol=0.01
        )


def test_compiled_and_eager_agree(results, network, batch):
    images, predictions = batch
    eager = _penalty(network, images, _labels(predictions, True))
    np.testing.assert_array_equal(eager.success, results[True].success)
    np.testing.assert_allclose(eager.distance, results[True].distance, rtol=0.01)


@each_aim
def test_what_fools_already_is_left_as_it_is(targeted, network, batch):
    images, predictions = batch
    labels = _labels(predictions, not targeted)
    result = _penalty(network, images, labels, targeted=targeted, search_steps=2)
    assert result.success.all()
    np.testing.assert_array_equal(result.images, images)
    np.testing.assert_array_equal(result.distance, 0)


@each_aim
def test_zero_and_undefined_gradients_are_survived(targeted):
    """A network that sees nothing, and one whose scores are no numbers."""
    images = jnp.ones((2, *SHAPE))
    labels = jnp.array([1, 2] if targeted else [0, 0])

    @jax.jit
    def attack(slope):
        def blind(images):
            scores = jnp.tile(jnp.array([[1.0, 0.0, 0.0]]), (len(images), 1))
            return scores + slope * images.sum()

        return _penalty(blind, images, labels, targeted=targeted, search_steps=3)

    for slope in (0.0, jnp.nan):
        result = attack(slope)
        assert not result.success.any()
        np.testing.assert_array_equal(result.images, images)
        np.testing.assert_array_equal(result.distance, jnp.inf)


def test_more_constants_never_lead_further_away(network, batch):
    images, predictions = batch
    labels = _labels(predictions, True)
    few, many = (
        _penalty(network, images, labels, search_steps=n).distance for n in (2, 4)
    )
    assert (many <= few * (1 + 1e-4)).all()


@pytest.mark.parametrize("empty", ["steps", "search_steps"])
def test_no_steps_find_nothing(empty, network, batch):
    images, predictions = batch
    result = _penalty(network, images, _labels(predictions, True), **{empty: 0})
    assert not result.success.any()
    assert (result.gradients == 0).all()
    np.testing.assert_array_equal(result.images, images)


def test_arguments_are_checked(network, batch):
    images, labels = batch
    for wrong in ((images, labels[:3]), (images.astype(int), labels)):
        with pytest.raises(AssertionError):
            _penalty(network, *wrong)
