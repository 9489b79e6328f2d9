"""PGD worked by hand: its steps, its random start, its worst iterate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, losses


def _two_pixels(images):
    """Logits (x1 - x2, x2 - x1)."""
    difference = images[:, 0, 0, 0] - images[:, 0, 1, 0]
    return jnp.stack([difference, -difference], axis=-1)


def _pgd(image, label, **settings):
    key = attacks.example_keys(jax.random.key(0), jnp.arange(1))
    images = jnp.array(image).reshape(1, 1, 2, 1)
    settings = {"objective": losses.hinge, "random_start": False, **settings}
    return attacks.pgd(_two_pixels, key, images, jnp.array([label]), **settings)


def test_pgd_by_hand():
    """Class 0 leads by x1 - x2: PGD lowers x1 and raises x2 by 0.1 a step, up to 0.25,
    and stops at the box."""
    result = _pgd([0.7, 0.9], 0, epsilon=0.25, step_size=0.1, steps=2)
    np.testing.assert_allclose(result.images.ravel(), [0.5, 1.0], atol=1e-6)
    result = _pgd([0.7, 0.9], 0, epsilon=0.25, step_size=0.1, steps=5)
    np.testing.assert_allclose(result.images.ravel(), [0.45, 1.0], atol=1e-6)
    # hinge: (x2 - x1) - (x1 - x2) + 1 = 2 * 0.55 + 1.
    np.testing.assert_allclose(result.objective, [2.1], rtol=1e-5)
    assert result.backward_passes[0] == 5


def test_targeted_pgd_descends_towards_its_target():
    result = _pgd(
        [0.2, 0.6], 1, epsilon=0.3, step_size=0.1, steps=3, targets=jnp.array([0])
    )
    np.testing.assert_allclose(result.images.ravel(), [0.5, 0.3], atol=1e-6)
    assert result.success[0]
    # hinge of the target: max(0, (x2 - x1) - (x1 - x2) + 1) = 0.6.
    np.testing.assert_allclose(result.objective, [0.6], rtol=1e-5)


def test_l2_steps_go_along_the_gradient():
    """Its direction is (-1, 1) / sqrt 2: two steps of 0.1, then the ball of 0.15."""
    ball = {"norm": "l2", "epsilon": 0.15, "step_size": 0.1}
    for steps, length in ((1, 0.1), (2, 0.15)):
        result = _pgd([0.5, 0.5], 0, steps=steps, **ball)
        change = length / np.sqrt(2)
        expected = [0.5 - change, 0.5 + change]
        np.testing.assert_allclose(result.images.ravel(), expected, atol=1e-6)


def test_the_worst_iterate_is_remembered():
    """The step is so long that PGD jumps over the one spot that fools the network."""

    def spot(images):
        x = images[:, 0, 0, 0]
        return jnp.stack([(x - 0.5) ** 2 - 0.01, jnp.zeros_like(x)], axis=-1)

    result = attacks.pgd(
        spot,
        attacks.example_keys(jax.random.key(0), jnp.arange(1)),
        jnp.full((1, 1, 1, 1), 0.45),
        jnp.array([0]),
        objective=lambda logits, labels: -logits[:, 0] - 10 * logits[:, 1],
        epsilon=0.45,
        step_size=0.3,
        steps=1,
        random_start=False,
    )
    assert not result.success[0]
    assert result.worst_success[0]
    np.testing.assert_allclose(result.worst_images.ravel(), [0.45])


def test_random_start_fills_the_ball():
    images = jnp.full((200, 4, 4, 1), 0.5)
    result = attacks.pgd(
        lambda x: x.reshape(200, -1)[:, :3],
        attacks.example_keys(jax.random.key(0), jnp.arange(200)),
        images,
        jnp.zeros(200, jnp.int32),
        objective=losses.hinge,
        epsilon=0.2,
        step_size=0.0,
        steps=0,
    )
    change = np.asarray(result.images - images)
    assert 0.19 < change.max() <= 0.2 + 1e-6
    # Uniform on [-0.2, 0.2]: mean 0, deviation 0.2 / sqrt 3 (3,200 draws).
    assert abs(change.mean()) < 4 * 0.2 / np.sqrt(3 * 3200)
    assert change.std() == pytest.approx(0.2 / np.sqrt(3), rel=0.05)
    assert not np.array_equal(change[0], change[1])
