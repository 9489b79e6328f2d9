"""Carlini and Wagner's attacks: linear networks by hand, and what all three keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, models
from advloss.attacks import carlini

RATE = {"learning_rate": 0.05}
SETTINGS = {
    "l2": {"binary_search_steps": 4, "steps": 40, **RATE},
    "linf": {"rounds": 6, "steps": 25, **RATE},
    "l0": {"rounds": 3, "binary_search_steps": 3, "steps": 25, **RATE},
}
CASES = {
    norm + ending: functools.partial(
        attacks.ATTACKS[f"carlini_{norm}"], targeted=bool(ending), **settings
    )
    for norm, settings in SETTINGS.items()
    for ending in ("", "_targeted")
}
each_attack = pytest.mark.parametrize("name", CASES)


def _distance(name, images, originals):
    change = np.abs(np.asarray(images) - np.asarray(originals))
    if name.startswith("l2"):
        return np.sqrt((change**2).sum(axis=(1, 2, 3)))
    if name.startswith("linf"):
        return change.max(axis=(1, 2, 3))
    return (change > 0).any(axis=-1).sum(axis=(1, 2))


def test_every_registered_attack_is_in_the_table():
    named = {name for name in attacks.ATTACKS if name.startswith("carlini_")}
    assert {case.func.__name__ for case in CASES.values()} == named


@pytest.fixture(scope="module")
def classifier():
    """A dense network of two layers: smooth enough to be fooled within few steps."""
    keys = jax.random.split(jax.random.key(0))
    first = jax.random.normal(keys[0], (128, 16)) / 4
    second = jax.random.normal(keys[1], (16, 5))
    return lambda x: jnp.tanh((x.reshape(len(x), -1) - 0.5) @ first) @ second


@pytest.fixture(scope="module")
def batch(classifier):
    """Keys, images with pixels of 0 and 1, labels; the last two are misclassified."""
    images = jax.random.uniform(jax.random.key(1), (6, 8, 8, 2), minval=-1, maxval=2)
    images = images.clip(0, 1)
    labels = jnp.argmax(classifier(images), axis=-1).astype(jnp.int32)
    labels = labels.at[4:].set((labels[4:] + 1) % 5)
    return attacks.example_keys(jax.random.key(2), jnp.arange(6)), images, labels


@pytest.fixture(scope="module")
def results(classifier, batch):
    """Every attack's result, compiled."""

    def attack(name):
        return jax.jit(lambda batch: CASES[name](classifier, *batch))(batch)

    return {name: attack(name) for name in CASES}


@each_attack
def test_result_is_what_it_says(name, classifier, batch, results):
    _, images, labels = batch
    result = results[name]
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    scores = classifier(result.images)
    hit = np.asarray(jnp.argmax(scores, axis=-1) == labels)
    success = np.asarray(result.success)
    np.testing.assert_array_equal(success, hit if name.endswith("ed") else ~hit)
    assert success.all()
    distance = _distance(name, result.images, images)
    np.testing.assert_allclose(result.distance, distance, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(result.images, result.worst_images)
    np.testing.assert_array_equal(result.success, result.worst_success)
    assert (result.objective <= 0).all()


@each_attack
def test_original_that_fools_is_its_own_result(name, batch, results):
    already = slice(0, 4) if name.endswith("targeted") else slice(4, 6)
    result = results[name]
    np.testing.assert_array_equal(result.images[already], batch[1][already])
    assert (result.distance == 0).sum() == (4 if name.endswith("targeted") else 2)
    assert (result.distance[already] == 0).all()


@each_attack
def test_compiled_and_eager_agree(name, classifier, batch, results):
    eager = CASES[name](classifier, *batch)
    np.testing.assert_array_equal(eager.success, results[name].success)
    # Iterates that just fool may differ by one.
    np.testing.assert_allclose(
        eager.distance, results[name].distance, rtol=0.05, atol=1e-6
    )


@each_attack
def test_independent_of_the_rest_of_the_batch(name, classifier, batch, results):
    """A batch of one gives what the whole batch gave."""
    for i in (0, 5):
        one = jax.tree.map(lambda x: x[i : i + 1], batch)  # noqa: B023
        alone = CASES[name](classifier, *one)
        assert alone.success[0] == results[name].success[i]
        np.testing.assert_allclose(
            alone.distance[0], results[name].distance[i], rtol=0.05, atol=1e-6
        )


@each_attack
def test_zero_gradients_find_nothing(name, batch):
    def blind(images):
        return jnp.zeros((len(images), 5)).at[:, 0].set(1.0) + 0 * images.sum()

    keys, images, labels = batch
    never = jnp.full_like(labels, int(name.endswith("targeted")))
    result = CASES[name](blind, keys, images, never)
    assert not result.success.any()
    assert np.isinf(result.distance).all()
    np.testing.assert_array_equal(result.images, images)


@each_attack
def test_evaluations_are_counted(name, classifier, batch):
    """Every call of the classifier reports itself, from inside of the loops too."""
    calls = []

    def counting(x):
        jax.debug.callback(lambda: calls.append(None))
        return classifier(x)

    result = CASES[name](counting, *jax.tree.map(lambda x: x[:1], batch))
    jax.effects_barrier()
    assert len(calls) == result.gradients[0] + result.forwards[0]


def _linear(weights, bias):
    """Two scores (g, -g) / 2 whose difference is g = weights . x + bias."""

    def scores(images):
        value = (images.reshape(len(images), -1) @ weights + bias) / 2
        return jnp.stack([value, -value], axis=-1)

    return scores


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
        result = _linear_case(attacks.carlini_l2, targeted=True, **settings)
        assert result.success[0]
        assert (result.distance[0] == 0) == near


def test_linf_to_a_plane():
    result = _linear_case(attacks.carlini_linf, rounds=30, steps=50)
    exact = 0.3 / np.abs(WEIGHTS).sum()
    assert exact <= result.distance[0] <= 1.05 * exact


def test_targeted_is_the_other_class_here():
    targeted = _linear_case(
        attacks.carlini_l2, 1, targeted=True, binary_search_steps=9, steps=300
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


def test_hyperparameters_may_be_traced(classifier, batch):
    def attack(rate, confidence, constant):
        return CASES["l2"](
            classifier,
            *batch,
            **{
                "learning_rate": rate,
                "confidence": confidence,
                "initial_constant": constant,
            },
        ).distance

    values = jnp.array([0.02, 0.05]), jnp.array([0.0, 0.1]), jnp.array([0.01, 0.1])
    assert np.isfinite(jax.vmap(attack)(*values)[:, 4:]).all()


@pytest.mark.slow
def test_the_paper_network_is_fooled():
    network = models.build("table1", head="linear", num_classes=10, init="challenge")
    params = network.init(jax.random.key(0), (8, 8, 1))
    images = jax.random.uniform(jax.random.key(1), (2, 8, 8, 1))
    classifier = models.classifier(network, params)
    labels = jnp.argmax(classifier(images), axis=-1).astype(jnp.int32)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(2))
    result = CASES["l2"](classifier, keys, images, labels)
    assert result.success.all()


@each_attack
def test_arguments_are_checked(name, classifier, batch):
    keys, images, labels = batch
    for wrong in (
        (keys[:3], images, labels),
        (keys, images.astype(int), labels),
        (keys, images, labels.astype(float)),
    ):
        with pytest.raises(AssertionError):
            CASES[name](classifier, *wrong)
