"""Attacks: what every one of them keeps, in one table; PGD by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advloss import attacks, losses, models

EPSILON = 0.2
# Every attack by name, with hyperparameters. A new attack joins here.
CASES = {
    "pgd": functools.partial(attacks.pgd, step_size=0.05, steps=5),
    "pgd:targeted": functools.partial(
        attacks.pgd, step_size=0.05, steps=5, targeted=True
    ),
    "pgd:plain_start": functools.partial(
        attacks.pgd, step_size=0.05, steps=5, random_start=False
    ),
    "pgd:restarts": functools.partial(attacks.pgd, step_size=0.05, steps=2, restarts=3),
    "pgd_l2": functools.partial(attacks.pgd_l2, step_size=0.05, steps=5),
    "fgs": attacks.fgs,
    "fgs:targeted": functools.partial(attacks.fgs, targeted=True, random_start=True),
    "noise": functools.partial(attacks.noise, draws=3),
    "multi_targeted": functools.partial(
        attacks.multi_targeted, step_size=0.05, steps=2
    ),
}
each_attack = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def classifier():
    network = models.build("table1", head="linear", num_classes=10, init="challenge")
    params = network.init(jax.random.key(0), (8, 8, 1))
    return models.classifier(network, params)


@pytest.fixture(scope="module")
def batch(classifier):
    """Keys, images and labels: half of the labels are the predictions."""
    images = jax.random.uniform(jax.random.key(1), (6, 8, 8, 1))
    labels = jnp.argmax(classifier(images), axis=-1)
    labels = labels.at[::2].set((labels[::2] + 1) % 10).astype(jnp.int32)
    return attacks.example_keys(jax.random.key(2), jnp.arange(6)), images, labels


def _attack(name, classifier, batch, **changes):
    settings = {
        "objective": losses.softmax_cross_entropy,
        "epsilon": EPSILON,
        **changes,
    }
    return CASES[name](classifier, *batch, **settings)


def test_every_attack_in_a_ball_is_in_the_table():
    assert {name.split(":")[0] for name in CASES} == set(attacks.BALL_ATTACKS)


@each_attack
def test_stays_in_the_ball_and_in_the_box(name, classifier, batch):
    result = _attack(name, classifier, batch)
    order = 2 if "l2" in name else np.inf
    for images in (result.images, result.worst_images):
        change = np.asarray(images, np.float64) - np.asarray(batch[1], np.float64)
        lengths = np.linalg.norm(change.reshape(len(change), -1), order, axis=1)
        assert images.min() >= 0
        assert images.max() <= 1
        # One rounding of a number below 1; in l2, of every pixel.
        assert lengths.max() <= np.float32(EPSILON) + 2**-24
    change = (result.images - batch[1]).reshape(len(batch[1]), -1)
    np.testing.assert_allclose(
        result.distance, np.linalg.norm(change, order, axis=1), rtol=1e-5
    )


@each_attack
def test_success_and_objective_are_true(name, classifier, batch):
    result = _attack(name, classifier, batch)
    targeted = name.endswith(":targeted")
    for images, success in (
        (result.images, result.success),
        (result.worst_images, result.worst_success),
    ):
        hit = jnp.argmax(classifier(images), axis=-1) == batch[2]
        np.testing.assert_array_equal(success, hit if targeted else ~hit)
    np.testing.assert_allclose(
        result.objective,
        losses.softmax_cross_entropy(classifier(result.images), batch[2]),
        rtol=1e-4,
        atol=1e-4,
    )
    assert (result.worst_success >= result.success).all()


@each_attack
def test_compiled_and_eager_agree(name, classifier, batch):
    eager = _attack(name, classifier, batch)
    compiled = jax.jit(lambda batch: _attack(name, classifier, batch))(batch)
    # A sign may flip where a gradient is nearly zero; not for many pixels.
    same = np.isclose(eager.images, compiled.images, atol=1e-6)
    assert same.mean() > 0.99
    np.testing.assert_array_equal(eager.success, compiled.success)


@each_attack
def test_independent_of_the_rest_of_the_batch(name, classifier, batch):
    whole = _attack(name, classifier, batch)
    for i in (0, 3):
        alone = _attack(name, classifier, jax.tree.map(lambda x: x[i : i + 1], batch))  # noqa: B023
        same = np.isclose(whole.images[i], alone.images[0], atol=1e-6)
        assert same.mean() > 0.99
        assert whole.success[i] == alone.success[0]


@each_attack
def test_epsilon_zero_changes_nothing(name, classifier, batch):
    result = _attack(name, classifier, batch, epsilon=0.0)
    np.testing.assert_array_equal(result.images, batch[1])
    assert (result.distance == 0).all()


@each_attack
def test_constant_images_and_zero_gradients_are_survived(name, batch):
    def blind(images):
        return jnp.zeros((len(images), 10)) + 0 * images.sum()

    keys, images, labels = batch
    result = _attack(name, blind, (keys, jnp.ones_like(images), labels))
    assert np.isfinite(result.images).all()


@each_attack
def test_works_under_vmap_of_epsilon(name, classifier, batch):
    radii = jnp.array([0.0, 0.1])
    result = jax.vmap(lambda e: _attack(name, classifier, batch, epsilon=e))(radii)
    assert result.distance[0].max() == 0
    assert 0.05 < result.distance[1].max() <= 0.1 + 1e-6


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**31 - 1),
    epsilon=st.floats(0, 1, width=32),
    step=st.floats(0, 1, width=32),
    size=st.integers(1, 5),
)
def test_pgd_keeps_ball_and_box_for_any_linear_network(seed, epsilon, step, size):
    keys = jax.random.split(jax.random.key(seed), 3)
    weights = jax.random.normal(keys[0], (4, 3))
    images = jax.random.uniform(keys[1], (size, 2, 2, 1))
    result = attacks.pgd(
        lambda x: x.reshape(len(x), -1) @ weights,
        attacks.example_keys(keys[2], jnp.arange(size)),
        images,
        jnp.zeros(size, jnp.int32),
        objective=losses.hinge,
        epsilon=epsilon,
        step_size=step,
        steps=3,
    )
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    change = np.asarray(result.images, np.float64) - np.asarray(images, np.float64)
    assert np.abs(change).max() <= epsilon + 2**-24


def _two_pixels(images):
    """Scores (x1 - x2, x2 - x1)."""
    difference = images[:, 0, 0, 0] - images[:, 0, 1, 0]
    return jnp.stack([difference, -difference], axis=-1)


def _pgd_by_hand(image, label, **settings):
    key = attacks.example_keys(jax.random.key(0), jnp.arange(1))
    images = jnp.array(image).reshape(1, 1, 2, 1)
    settings = {"objective": losses.hinge, "random_start": False, **settings}
    return attacks.pgd(_two_pixels, key, images, jnp.array([label]), **settings)


def test_pgd_by_hand():
    """Class 0 leads by x1 - x2: PGD lowers x1 and raises x2 by 0.1 a step, up to 0.25,
    and stops at the box."""
    result = _pgd_by_hand([0.7, 0.9], 0, epsilon=0.25, step_size=0.1, steps=2)
    np.testing.assert_allclose(result.images.ravel(), [0.5, 1.0], atol=1e-6)
    result = _pgd_by_hand([0.7, 0.9], 0, epsilon=0.25, step_size=0.1, steps=5)
    np.testing.assert_allclose(result.images.ravel(), [0.45, 1.0], atol=1e-6)
    # hinge: (x2 - x1) - (x1 - x2) + 1 = 2 * 0.55 + 1.
    np.testing.assert_allclose(result.objective, [2.1], rtol=1e-5)
    assert result.gradients[0] == 5


def test_targeted_pgd_goes_the_other_way():
    result = _pgd_by_hand(
        [0.2, 0.6], 0, epsilon=0.3, step_size=0.1, steps=3, targeted=True
    )
    np.testing.assert_allclose(result.images.ravel(), [0.5, 0.3], atol=1e-6)
    assert result.success[0]


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
        objective=lambda scores, labels: -scores[:, 0] - 10 * scores[:, 1],
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


def test_arguments_are_checked(classifier, batch):
    keys, images, labels = batch
    for wrong in (
        (keys[:3], images, labels),
        (keys, images, labels[:3]),
        (keys, images.astype(int), labels),
        (keys, images, labels.astype(float)),
    ):
        with pytest.raises(AssertionError):
            _attack("pgd", classifier, wrong)
