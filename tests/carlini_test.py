"""Carlini and Wagner's attacks: linear networks by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, networks
from advloss.attacks import carlini


def _linear(weights, bias):
    """Two logits (g, -g) / 2 whose difference is g = weights . x + bias."""

    def logits(images):
        value = (images.reshape(len(images), -1) @ weights + bias) / 2
        return jnp.stack([value, -value], axis=-1)

    return logits


# Middle pixels, so that the box is far: 0.5 everywhere, w . x + b = 0.3.
WEIGHTS = jnp.array([1.0, -0.5, 2.0, 0.1])
BIAS = 0.3 - 0.5 * WEIGHTS.sum()


def _linear_case(attack, label=0, **settings):
    def compiled(keys):
        images = jnp.full((1, 2, 2, 1), 0.5)
        classifier = _linear(WEIGHTS, BIAS)
        return attack(classifier, keys, images, jnp.array([label]), **settings)

    return jax.jit(compiled)(attacks.example_keys(jax.random.key(0), jnp.arange(1)))


def test_l2_to_a_plane():
    result = _linear_case(attacks.carlini_l2, binary_search_steps=9, steps=300)
    exact = 0.3 / np.linalg.norm(WEIGHTS)
    assert exact <= result.distance[0] <= 1.01 * exact
    # At the foot of the perpendicular.
    foot = 0.5 - 0.3 * WEIGHTS / (WEIGHTS**2).sum()
    np.testing.assert_allclose(result.images.ravel(), foot, atol=0.01)


def test_confidence_moves_the_plane():
    settings = {"binary_search_steps": 9, "steps": 300, "confidence": 0.2}
    result = _linear_case(attacks.carlini_l2, **settings)
    exact = (0.3 + 0.2) / np.linalg.norm(WEIGHTS)
    assert exact <= result.distance[0] <= 1.02 * exact
    assert result.objective[0] <= -0.2
    # It leads already by 0.3 towards class 0: enough for 0.2, not for 0.4.
    for confidence, near in ((0.2, True), (0.4, False)):
        settings["confidence"] = confidence
        aim = {"label": 1, "targets": jnp.array([0])}
        result = _linear_case(attacks.carlini_l2, **aim, **settings)
        assert result.success[0]
        assert (result.distance[0] == 0) == near


def test_linf_to_a_plane():
    result = _linear_case(attacks.carlini_linf, rounds=30, steps=50)
    exact = 0.3 / np.abs(WEIGHTS).sum()
    assert exact <= result.distance[0] <= 1.05 * exact


def test_targeted_is_the_other_class_here():
    targeted = _linear_case(
        attacks.carlini_l2, targets=jnp.array([1]), binary_search_steps=9, steps=300
    )
    untargeted = _linear_case(attacks.carlini_l2, binary_search_steps=9, steps=300)
    np.testing.assert_allclose(targeted.distance, untargeted.distance, rtol=1e-4)


def test_l0_finds_the_one_pixel_that_suffices():
    """Pixel 5 can take away 2 * 0.5, more than the lead of 0.3; each other 0.025."""
    weights = jnp.full((16, 1), 0.05).at[5].set(2.0).ravel()
    result = attacks.carlini_l0(
        _linear(weights, 0.3 - 0.5 * weights.sum()),
        attacks.example_keys(jax.random.key(0), jnp.arange(1)),
        jnp.full((1, 4, 4, 1), 0.5),
        jnp.array([0]),
        rounds=12,
        steps=60,
        learning_rate=0.05,
    )
    assert result.distance[0] == 1
    assert np.flatnonzero(result.images.ravel() != 0.5).tolist() == [5]


def test_l0_counts_pixels_not_channels():
    weights = jnp.ones(2)
    result = attacks.carlini_l0(
        _linear(weights, 1.6 - weights.sum()),
        attacks.example_keys(jax.random.key(0), jnp.arange(1)),
        # A lead of 0.6: more than one channel alone can take away from 0.5.
        jnp.full((1, 1, 1, 2), 0.5),
        jnp.array([0]),
        rounds=2,
        steps=60,
        learning_rate=0.1,
    )
    assert (result.images != 0.5).all()
    assert result.distance[0] == 1


def test_variables_and_images():
    images = jnp.array([0.0, 0.25, 0.5, 1.0])
    back = carlini.to_images(carlini.to_variables(images))
    np.testing.assert_allclose(back, images, atol=6e-4)
    extreme = carlini.to_images(jnp.array([-1e9, 1e9]))
    np.testing.assert_array_equal(extreme, [0.0, 1.0])


@pytest.mark.slow
def test_the_paper_network_is_fooled():
    network = networks.build("table1", head="linear", num_classes=10, init="madry")
    variables = network.init(jax.random.key(0), (8, 8, 1))
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1))
    classifier = networks.classifier(network, variables)
    labels = jnp.argmax(classifier(images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(2))
    settings = {"binary_search_steps": 4, "steps": 40, "learning_rate": 0.05}
    result = attacks.carlini_l2(classifier, keys, images, labels, **settings)
    assert result.success.all()
