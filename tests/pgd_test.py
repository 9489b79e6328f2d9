"""PGD worked by hand: its steps, its random start, its worst iterate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import advloss
from advloss import attacks, losses
from advloss.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")


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


def test_fgsm_is_one_step_of_the_radius():
    key = attacks.example_keys(jax.random.key(0), jnp.arange(1))
    images = jnp.array([0.7, 0.9]).reshape(1, 1, 2, 1)
    settings = {"objective": losses.hinge, "epsilon": 0.25}
    result = attacks.fgsm(_two_pixels, key, images, jnp.array([0]), **settings)
    np.testing.assert_allclose(result.images.ravel(), [0.45, 1.0], atol=1e-6)
    assert result.backward_passes[0] == result.forward_passes[0] == 1


def test_from_a_start_it_goes_on():
    """Two steps and three more are five."""
    ball = {"epsilon": 0.35, "step_size": 0.1}
    whole = _pgd([0.7, 0.2], 0, steps=5, **ball)
    first = _pgd([0.7, 0.2], 0, steps=2, **ball)
    rest = _pgd([0.7, 0.2], 0, steps=3, start=first.images, **ball)
    np.testing.assert_allclose(rest.images, whole.images, atol=1e-6)
    np.testing.assert_allclose(rest.distance, 0.35, atol=1e-6)


@pytest.fixture(scope="module")
def many():
    """A network of five classes, keys, 20 images and their labels."""
    weights = jax.random.normal(jax.random.key(1), (9, 5))
    images = jax.random.uniform(jax.random.key(2), (20, 3, 3, 1))

    def network(x):
        return jnp.sin(3 * x.reshape(len(x), -1)) @ weights

    labels = jnp.argmax(network(images), axis=-1)
    keys = attacks.example_keys(jax.random.key(3), jnp.arange(20))
    return network, keys, images, labels


_SETTINGS = {
    "objective": losses.softmax_cross_entropy,
    "epsilon": 0.1,
    "step_size": 0.05,
    "steps": 2,
}


def _best(results):
    """Of each example: one that fools before one that does not, then by objective."""
    value = [np.where(r.success, 1e6, 0.0) + np.asarray(r.objective) for r in results]
    place = np.argmax(value, axis=0)
    rows = np.arange(len(place))
    return np.stack([np.asarray(r.images) for r in results])[place, rows]


def test_a_restart_is_that_start_of_several(many):
    """Each alone by its number, traced; the best of them is what all of them give."""
    one = jax.jit(lambda restart: attacks.pgd(*many, restart=restart, **_SETTINGS))
    alone = [one(number) for number in range(3)]
    assert not np.allclose(alone[0].images, alone[1].images)
    for restarts in (2, 3):
        whole = attacks.pgd(*many, restarts=restarts, **_SETTINGS)
        expected = _best(alone[:restarts])
        np.testing.assert_allclose(whole.images, expected, atol=1e-6)
        fooled = np.any([r.worst_success for r in alone[:restarts]], axis=0)
        np.testing.assert_array_equal(whole.worst_success, fooled)
    assert (alone[0].backward_passes == 2).all()
    assert (whole.backward_passes == 6).all()
    assert (whole.forward_passes == 3).all()


def test_a_draw_of_noise_is_that_draw_of_several(many):
    settings = {"objective": losses.softmax_cross_entropy, "epsilon": 0.3}
    alone = [attacks.noise(*many, restart=number, **settings) for number in range(3)]
    whole = attacks.noise(*many, draws=3, **settings)
    np.testing.assert_allclose(whole.images, _best(alone), atol=1e-6)
    assert 0 < whole.success.sum() < 20


def test_an_offset_is_pgd_towards_that_class(many):
    """With keys of its own; the best of all offsets is what the attack gives."""
    network, keys, images, labels = many
    towards = jax.jit(
        lambda offset: attacks.multi_targeted(*many, offset=offset, **_SETTINGS)
    )
    alone = [towards(offset) for offset in range(1, 5)]
    for offset, found in enumerate(alone, start=1):
        own = jax.vmap(lambda key, n=offset: jax.random.fold_in(key, n))(keys)
        targets = (labels + offset) % 5
        plain = attacks.pgd(network, own, images, labels, targets=targets, **_SETTINGS)
        np.testing.assert_allclose(found.images, plain.images, atol=1e-6)
        # Any wrong class is a success here, the target alone there.
        assert (np.asarray(found.success) >= np.asarray(plain.success)).all()
    whole = attacks.multi_targeted(*many, **_SETTINGS)
    np.testing.assert_allclose(whole.images, _best(alone), atol=1e-6)
    assert (whole.backward_passes == 8).all()


def test_the_paths_of_rounds():
    """Starts in turn, each of no step and then of ten at a time."""
    rounds = attacks.ATTACKS["pgd"].rounds({"restarts": 2, "steps": 23}, 10)
    assert [part.settings["steps"] for part in rounds] == [0, 10, 10, 3] * 2
    assert [part.resume for part in rounds] == [False, True, True, True] * 2
    starts = [dict(part.numbers) for part in rounds if not part.resume]
    assert starts == [{"restart": 0}, {"restart": 1}]
    offsets = attacks.ATTACKS["multi_targeted"].rounds({}, 4)
    assert [part.numbers["offset"] for part in offsets] == [1, 2, 3]


def test_single_steps_by_hand():
    """Of a linear network: from where each starts, so far along the gradient's sign."""
    weights = jnp.array([[1.0, -1.0], [-2.0, 2.0]])  # Pixels by classes.
    images = jnp.full((64, 1, 2, 1), 0.5)
    labels = jnp.zeros(64, jnp.int32)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(64))
    how = {"objective": losses.margin, "epsilon": 0.1}

    def classifier(images):
        return images.reshape(-1, 2) @ weights

    uphill = jnp.array([-1.0, 1.0]).reshape(1, 1, 2, 1)
    restarted = attacks.fgsm_rs(classifier, keys, images, labels, **how)
    change = np.asarray((restarted.images - images) * uphill)
    # From [-0.1, 0.1] by 0.125, to at most 0.1: nothing is left below 0.025.
    assert change.max() == pytest.approx(0.1)
    assert change.min() >= 0.025 - 1e-6
    noisy = attacks.n_fgsm(classifier, keys, images, labels, **how)
    change = np.asarray((noisy.images - images) * uphill)
    assert -0.1 - 1e-6 <= change.min() < -0.05
    assert 0.25 < change.max() <= 0.3 + 1e-6
    half = {**how, "spread": 0.0, "reach": 0.5}
    found = attacks.n_fgsm(classifier, keys, images, labels, **half).images
    np.testing.assert_allclose(found, images + 0.05 * uphill, atol=1e-6)
    with pytest.raises(InputError, match=r"attacks='n_fgsm' is not valid in linf"):
        advloss.evaluate(classifier, images, labels, attacks="n_fgsm", progress=False)


@pytest.mark.parametrize("scale", [1e-22, 1e19])
@pytest.mark.parametrize("name", ["pgd_l2", "multi_targeted_l2", "apgd_l2", "ddn"])
def test_the_size_of_the_logits_changes_no_direction(name, scale):
    """The squares of such gradients are 0 or infinite in float32."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(16, 3)).astype(np.float32)
    images = rng.uniform(0.3, 0.7, (10, 4, 4, 1)).astype(np.float32)
    labels = ((images - 0.5).reshape(10, -1) @ weights).argmax(axis=1)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(10))
    settings = {
        "pgd_l2": {"epsilon": 0.1, "step_size": 0.02, "steps": 10},
        "multi_targeted_l2": {"epsilon": 0.1, "step_size": 0.02, "steps": 10},
        "apgd_l2": {"epsilon": 0.1, "steps": 10},
        "ddn": {"steps": 100},
    }[name]
    if name != "ddn":
        settings["objective"] = losses.margin
    found = []
    for factor in np.float32([1, scale]):
        result = getattr(attacks, name)(
            lambda x, f=factor: (x - 0.5).reshape(len(x), -1) @ weights * f,
            keys,
            images,
            labels,
            **settings,
        )
        found.append(np.asarray(result.success))
    if name == "ddn" and scale > 1:  # Of softmax, nothing is left to follow.
        assert result.zero_gradient.all()
    else:
        assert found[0].any()
        np.testing.assert_array_equal(*found)
