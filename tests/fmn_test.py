"""DDN and FMN against distances that are known, and the l1 ball by scipy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from advloss import attacks
from advloss.attacks.base import NORMS

# Of a hyperplane, the distance in a norm has the dual norm of the normal below it.
DUAL = {
    "linf": lambda normal: np.abs(normal).sum(),
    "l2": lambda normal: np.sqrt((normal**2).sum()),
    "l1": lambda normal: np.abs(normal).max(),
}


@pytest.fixture(scope="module")
def linear():
    """The weights of a linear classifier of two classes, and images near grey."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(16, 2)).astype(np.float32)
    images = rng.uniform(0.45, 0.55, (20, 4, 4, 1)).astype(np.float32)
    return weights, images


def _logits(weights, images):
    return (images - 0.5).reshape(len(images), -1) @ weights


def _shortest(weights, images, norm):
    """The predictions, and how far it is to the plane where the two classes tie."""
    logits = _logits(weights, images)
    labels = logits.argmax(axis=1).astype(np.int32)
    missing = np.abs(logits[:, 0] - logits[:, 1])
    return labels, missing / DUAL[norm](weights[:, 0] - weights[:, 1])


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (functools.partial(attacks.ddn, initial_norm=0.1), "l2"),
        (attacks.fmn, "linf"),
        (attacks.fmn_l2, "l2"),
        (attacks.fmn_l1, "l1"),
    ],
)
def test_the_nearest_point_beyond_a_plane_is_found(attack, norm, linear):
    weights, images = linear
    labels, shortest = _shortest(*linear, norm)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(images)))
    result = attack(functools.partial(_logits, weights), keys, images, labels)
    assert result.success.all()
    excess = np.asarray(result.distance) / shortest
    assert excess.min() > 1 - 1e-4
    assert excess.max() < 1.01


def test_projection_onto_the_l1_ball_is_the_nearest_point():
    rng = np.random.default_rng(0)
    originals = rng.uniform(0.3, 0.7, (6, 2, 2, 1)).astype(np.float32)
    images = originals + rng.normal(scale=0.1, size=originals.shape).astype(np.float32)
    found = NORMS["l1"].project(images, originals, 0.15)
    for image, original, nearest in zip(images, originals, found, strict=True):
        change = (image - original).ravel()

        def away(parts, change=change):
            return np.sum((parts[:4] - parts[4:] - change) ** 2)

        best = optimize.minimize(  # The change as a difference of two positive parts.
            away,
            np.zeros(8),
            bounds=[(0, 1)] * 8,
            constraints={"type": "ineq", "fun": lambda parts: 0.15 - parts.sum()},
        ).x
        np.testing.assert_allclose(
            (nearest - original).ravel(), best[:4] - best[4:], atol=1e-3
        )


def test_draws_fill_the_l1_ball():
    """A ball's volume grows with the n-th power: of 4 pixels, 1/16 in half of it."""
    keys = jax.random.split(jax.random.key(1), 4000)
    images = jnp.full((4000, 2, 2, 1), 0.5)
    changes = NORMS["l1"].draw(keys, images, 0.4)
    length = np.abs(changes).sum(axis=(1, 2, 3))
    assert length.max() <= 0.4
    assert np.mean(length <= 0.2) == pytest.approx(1 / 16, abs=0.02)
    assert np.abs(np.mean(changes, axis=0)).max() < 0.01
