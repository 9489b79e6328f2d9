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


def _at_corners(scale=1.0):
    """A linear network, images at corners of the box, and how far it is, by hand."""
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(16, 2)).astype(np.float32)
    images = (rng.uniform(size=(20, 4, 4, 1)) > 0.5).astype(np.float32)
    labels = _logits(weights, images).argmax(axis=1).astype(np.int32)
    return weights * np.float32(scale), images, labels


def _nearest_in_box(weights, images, labels, norm):
    """By bisection: what a change of a length gains at most within the box."""
    found = []
    for image, label in zip(images.reshape(len(images), -1), labels, strict=True):
        logits = (image - 0.5) @ weights
        missing = logits[label] - logits[1 - label]
        slope = np.float64(weights[:, 1 - label]) - weights[:, label]
        room = np.where(slope > 0, 1 - image, image)
        size = np.abs(slope)

        def gain(length, size=size, room=room):
            if norm == "linf":
                return (size * np.minimum(length, room)).sum()
            if norm == "l1":
                order = np.argsort(-size)
                spent = np.concatenate([[0], np.cumsum(room[order])])[:-1]
                return (size[order] * np.clip(length - spent, 0, room[order])).sum()
            most = optimize.brentq(
                lambda t: np.linalg.norm(np.minimum(room, t * size)) - length, 0, 1e9
            )
            return (size * np.minimum(room, most * size)).sum()

        farthest = {"linf": 1, "l2": np.sqrt(room.sum()), "l1": room.sum()}[norm]
        found.append(
            optimize.brentq(
                lambda x, m=missing: gain(x) - m, 1e-9, farthest * (1 - 1e-6)
            )
        )
    return np.array(found)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_from_a_corner_the_nearest_is_found(norm):
    """Pixels that can't move must not take up the ball."""
    weights, images, labels = _at_corners()
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(images)))
    result = attacks.fmn(
        functools.partial(_logits, weights), keys, images, labels, norm=norm
    )
    excess = np.asarray(result.distance) / _nearest_in_box(*_at_corners(), norm)
    assert excess.min() > 1 - 1e-3
    assert excess.max() < 1.1


@pytest.mark.parametrize("scale", [1e-22, 1e19])
@pytest.mark.parametrize("attack", [attacks.fmn, attacks.fmn_l2, attacks.fmn_l1])
def test_the_size_of_the_logits_changes_nothing(attack, scale):
    found = []
    for each in (1.0, scale):
        weights, images, labels = _at_corners(each)
        keys = attacks.example_keys(jax.random.key(0), jnp.arange(len(images)))
        network = functools.partial(_logits, weights)
        found.append(attack(network, keys, images, labels).distance)
    np.testing.assert_allclose(*found, rtol=0.01)


@pytest.mark.parametrize("attack", [attacks.fmn, attacks.fmn_l2, attacks.fmn_l1])
def test_where_classes_tie_any_change_fools(attack):
    weights, _, _ = _at_corners()
    images = np.full((2, 4, 4, 1), 0.5, np.float32)  # All logits are 0.
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(2))
    result = attack(
        functools.partial(_logits, weights), keys, images, np.zeros(2, np.int32)
    )
    assert (np.asarray(result.distance) < 1e-3).all()


def test_a_huge_change_is_projected_onto_the_l1_ball():
    change = np.zeros((1, 2, 2, 1), np.float32)
    change[0, 0, :, 0] = 1e18, -1e17
    images = np.full_like(change, 0.5)
    projected = NORMS["l1"].project(images + change, images, 0.25)
    np.testing.assert_allclose(
        np.asarray(projected - images).ravel(), [0.25, 0, 0, 0], atol=1e-6
    )
