"""Ranks against scipy's, layer changes of a toy network worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import rankdata

from advloss import analysis, models


@pytest.mark.parametrize("distinct", [1000, 4])  # 4: ties.
def test_rank_is_that_of_scipy(distinct):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, distinct, (200, 10)).astype(np.float32)
    classes = rng.integers(0, 10, 200)
    # Scipy counts from 1; "min": as many as are strictly larger, plus one.
    ranks = rankdata(-scores, method="min", axis=1) - 1
    expected = ranks[np.arange(200), classes]
    np.testing.assert_array_equal(analysis.rank(scores, classes), expected)


def test_rank_change_by_hand():
    """Class 2 is predicted; then two outputs are larger; then it ties with the best."""
    natural = jnp.array([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0], [0.0, 1.0, 3.0]])
    changed = jnp.array([[5.0, 4.0, 3.0], [0.0, 3.0, 3.0], [9.0, 1.0, 3.0]])
    np.testing.assert_array_equal(analysis.rank_change(natural, changed), [2, 0, 1])


def test_layer_changes_by_hand():
    """Two layers: y1 = 2 x, y2 = y1 + 1, on the images (3, 4) and (3, 10)."""

    def apply(_, images):
        x = images.reshape(len(images), -1)
        layers = {"first": 2 * x, "second": 2 * x + 1}
        return layers["second"], layers

    network = models.Network(None, apply, ("first", "second"))
    natural = jnp.array([3.0, 4.0]).reshape(1, 1, 2, 1)
    changed = jnp.array([3.0, 10.0]).reshape(1, 1, 2, 1)
    found = analysis.layer_changes(network, None, natural, changed)
    assert list(found) == ["first", "second"]
    # ||(0, 12)|| / ||(3, 4)||, and the same over the first layer's output (6, 8).
    np.testing.assert_allclose(found["first"], [12 / 5], rtol=1e-6)
    np.testing.assert_allclose(found["second"], [12 / 10], rtol=1e-6)


def test_no_change_of_the_image_changes_no_layer():
    network = models.build("table1", head="cosine", num_classes=10, init="lecun")
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 8, 8, 1)))
    params = network.init(jax.random.key(0), (8, 8, 1))
    found = analysis.layer_changes(network, params, images, images)
    assert list(found) == ["conv1", "pool1", "conv2", "pool2", "fc1", "fc2"]
    for change in found.values():
        np.testing.assert_array_equal(change, np.zeros(3))
