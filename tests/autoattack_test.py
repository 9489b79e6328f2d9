"""AutoAttack's parts: objectives worked by hand, Auto-PGD against its description."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, losses
from advloss import config as configs
from advloss.attacks.apgd import _intervals
from advloss.config import titles
from advloss.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")

EPSILON = {"linf": 0.1, "l2": 0.5}
COUNT, CLASSES = 12, 5
each_norm = pytest.mark.parametrize("norm", EPSILON)


def test_dlr_by_hand():
    """Of sorted logits 4, 2, 1, 0: (2 - 4) / (4 - 1); fooled, (4 - 1) / (4 - 1)."""
    logits = jnp.array([[4.0, 2.0, 0.0, 1.0]] * 3)
    found = losses.dlr(logits, jnp.array([0, 3, 1]))
    np.testing.assert_allclose(found, [-2 / 3, 1, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(
        losses.dlr(7 * logits + 3, jnp.array([0, 3, 1])), found, rtol=1e-6
    )


def test_targeted_dlr_by_hand():
    """Of sorted logits 4, 2, 1, 0 the range is 4 - (1 + 0) / 2 = 3.5."""
    logits = jnp.array([[4.0, 2.0, 0.0, 1.0]] * 3)
    labels, targets = jnp.array([0, 0, 1]), jnp.array([1, 2, 0])
    found = losses.targeted_dlr(logits, labels, targets)
    np.testing.assert_allclose(found, [-2 / 3.5, -4 / 3.5, 2 / 3.5], rtol=1e-6)
    found = losses.targeted_margin(logits, labels, targets)
    np.testing.assert_allclose(found, [-2, -4, 2])


_TARGETS = jnp.array([1, 0, 3, 2, 0, 4])
OBJECTIVES = {"dlr": losses.dlr} | {
    f"targeted_{name}": functools.partial(function, targets=_TARGETS)
    for name, function in losses.TARGETED.items()
}
each_objective = pytest.mark.parametrize(
    "objective", OBJECTIVES.values(), ids=OBJECTIVES
)


@each_objective
def test_gradients_are_finite_differences(objective):
    logits = np.random.default_rng(0).normal(size=(6, CLASSES))
    labels = jnp.array([0, 1, 2, 3, 4, 0])
    found = jax.grad(lambda z: objective(z, labels).sum())(jnp.float32(logits))
    with jax.enable_x64(True):
        step, exact = 1e-6, np.zeros(logits.shape)
        for place in np.ndindex(logits.shape):
            ends = np.tile(logits, (2, 1, 1))
            ends[:, *place] += [-step, step]
            low, high = (float(objective(jnp.asarray(z), labels).sum()) for z in ends)
            exact[place] = (high - low) / (2 * step)
    np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-4)


@each_objective
@pytest.mark.parametrize("value", [-1e4, 0.0, 1e4])
def test_objectives_are_finite_at_extreme_logits(objective, value):
    logits = jnp.zeros((6, CLASSES)).at[:, 4].set(value)
    values, gradients = jax.value_and_grad(
        lambda z: objective(z, jnp.array([0, 1, 2, 4, 4, 0])).sum()
    )(logits)
    assert np.isfinite(values)
    assert np.isfinite(gradients).all()


def test_with_few_classes_the_margin_takes_over_and_says_so():
    logits, labels, targets = jnp.array([[1.0, 3.0]]), jnp.array([1]), jnp.array([0])
    with pytest.warns(UserWarning, match="DLR needs 3 classes, of 2 the margin is"):
        assert losses.dlr(logits, labels) == -2
    with pytest.warns(UserWarning, match="DLR needs 4 classes, of 2 the margin is"):
        assert losses.targeted_dlr(logits, labels, targets) == -2


@pytest.mark.parametrize(("classes", "objective"), [(2, "margin"), (3, "dlr")])
def test_a_config_with_few_classes_names_the_margin(classes, objective):
    config = configs.default()
    config.data.num_classes = classes
    config.defence.attack = "apgd_t"
    config.evaluate.attacks = ("apgd_dlr", "apgd_t")
    config = configs.resolve(config)
    assert config.evaluate.apgd_dlr.objective == objective
    assert config.evaluate.apgd_t.loss == config.train.attack.loss == "margin"
    found = titles.attack_title("apgd_t", config.evaluate.apgd_t)
    assert found == "APGD-T-100 ε=0.3 loss=margin"


def test_intervals_are_those_of_the_paper():
    """Algorithm 1's checkpoints for 100 iterations; of few, at least every one."""
    ends = {22: 22, 41: 19, 57: 16, 70: 13, 80: 10, 87: 7, 93: 6, 99: 6}
    found = _intervals(100)
    assert len(found) == 101
    assert {int(i): int(found[i]) for i in np.flatnonzero(found)} == ends
    np.testing.assert_array_equal(_intervals(3), [0, 1, 1, 1])
    np.testing.assert_array_equal(_intervals(0), [0])


@functools.cache
def _problem():
    """A network with many folds, images, their predictions, keys."""
    rng = np.random.default_rng(3)
    first = jnp.float32(rng.normal(size=(36, 24)))
    second = jnp.float32(rng.normal(size=(24, CLASSES)))

    def network(x):
        return jnp.sin(x.reshape(len(x), -1) @ first) @ second

    images = jnp.float32(rng.uniform(-0.2, 1.2, (COUNT, 6, 6, 1)).clip(0, 1))
    labels = jnp.argmax(network(images), axis=-1)
    return (
        network,
        attacks.example_keys(jax.random.key(1), jnp.arange(COUNT)),
        images,
        labels,
    )


@functools.cache
def _apgd(norm, name="apgd", rows=slice(None), **settings):
    network, *batch = _problem()
    entry = attacks.ATTACKS[name if norm == "linf" else f"{name}_{norm}"]
    if name == "apgd":
        settings = {"objective": losses.softmax_cross_entropy, **settings}
    settings = {"epsilon": EPSILON[norm], "steps": 25, **settings}
    return entry.function(network, *(array[rows] for array in batch), **settings)


def _project(x, image, epsilon, norm):
    if norm == "linf":
        return np.clip(
            x, np.maximum(image - epsilon, 0), np.minimum(image + epsilon, 1)
        )
    change = x - image
    length = np.linalg.norm(change)
    return np.clip(image + change * min(1, epsilon / max(length, 1e-12)), 0, 1)


def _by_the_book(look, start, image, epsilon, steps, norm):
    """Algorithm 1 for one image, by its whole history of losses.

    look: an image -> (loss, gradient). Returns the best image and its loss.
    """

    def climb(gradient):
        if norm == "linf":
            return np.sign(gradient)
        return gradient / max(np.linalg.norm(gradient), 1e-12)

    step, x, before = 2 * epsilon, start, start
    loss, gradient = map(np.asarray, look(x))
    history, best = [loss], (loss, x, gradient)
    length, checked, halved, at_check = max(int(0.22 * steps), 1), 0, True, loss
    for k in range(1, steps + 1):
        share = 1.0 if k == 1 else 0.75
        z = _project(x + step * climb(gradient), image, epsilon, norm)
        moved = x + share * (z - x) + (1 - share) * (x - before)
        before, x = x, _project(moved, image, epsilon, norm)
        loss, gradient = map(np.asarray, look(x))
        history.append(loss)
        if loss > best[0]:
            best = loss, x, gradient
        if k == checked + length:
            pairs = zip(history[checked:k], history[checked + 1 : k + 1], strict=True)
            rises = sum(later > earlier for earlier, later in pairs)
            halved = rises <= 0.75 * length or (not halved and best[0] <= at_check)
            if halved:
                step, x, gradient = step / 2, best[1], best[2]
            checked, at_check = k, best[0]
            length = max(length - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return best[1], best[0]


@each_norm
def test_it_does_what_the_paper_says(norm):
    """Step by step, until rounding parts two paths through the network's folds."""
    network, _, images, labels = _problem()
    objective = losses.softmax_cross_entropy

    @jax.jit
    def look(x, label):
        return jax.value_and_grad(
            lambda x: objective(network(x[None]), label[None])[0]
        )(x)

    start, found = _apgd(norm, steps=0), _apgd(norm)
    for i in range(COUNT):
        first, original = np.asarray(start.images[i]), np.asarray(images[i])
        see = functools.partial(look, label=labels[i])
        image, loss = _by_the_book(see, first, original, EPSILON[norm], 25, norm)
        np.testing.assert_allclose(found.objective[i], loss, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.images[i], image, atol=1e-3)
    assert (found.objective >= start.objective).all()
    assert (found.objective > start.objective).any()


@each_norm
def test_it_starts_at_epsilon(norm):
    """Cut to the box; other examples and other starts elsewhere."""
    images = jnp.full((4, 6, 6, 1), 0.5)
    keys = attacks.example_keys(jax.random.key(0), jnp.arange(4))
    found = attacks.ATTACKS["apgd" if norm == "linf" else "apgd_l2"].function(
        _problem()[0], keys, images, jnp.zeros(4, int), objective=losses.margin,
        epsilon=0.3, steps=0, restart=jnp.array(3),
    )  # fmt: skip
    starts = np.concatenate([found.images, _apgd(norm, steps=0).images]).reshape(16, -1)
    np.testing.assert_allclose(found.distance, 0.3, rtol=1e-5)
    assert len(np.unique(starts.round(4), axis=0)) == 16


def test_a_start_is_that_start_of_several():
    """Each alone by its number, so that a start more loses nothing that was found."""
    whole = _apgd("linf", restarts=3, epsilon=0.02)
    attack = functools.partial(_apgd.__wrapped__, "linf", epsilon=0.02)
    alone = [attack(restart=jnp.array(number)) for number in range(3)]
    fooled = [each.worst_success for each in alone]
    np.testing.assert_array_equal(whole.worst_success, np.any(fooled, axis=0))
    highest = np.max([each.objective for each in alone], axis=0)
    np.testing.assert_allclose(whole.objective, highest, rtol=1e-5)
    assert 0 < fooled[0].sum() < COUNT
    first = _apgd("linf", epsilon=0.02)
    np.testing.assert_allclose(first.images, alone[0].images, atol=1e-5)


@pytest.mark.parametrize("name", ["apgd", "apgd_t"])
def test_other_examples_of_the_batch_change_nothing(name):
    together = _apgd("linf", name)
    alone = _apgd.__wrapped__("linf", name, rows=slice(3, 7))
    for key in ("images", "worst_images", "objective"):
        mine = getattr(together, key)[3:7]
        np.testing.assert_allclose(getattr(alone, key), mine, atol=1e-5)


def test_passes_are_counted_as_the_authors_count():
    """A start and 25 steps are 26 gradients; ranks take a look at the natural image."""
    for found, starts in (
        (_apgd("linf"), 1),
        (_apgd("linf", restarts=3, epsilon=0.02), 3),
        (_apgd("linf", "apgd_t"), CLASSES - 1),
    ):
        assert (found.backward_passes == 26 * starts).all()
        assert (found.forward_passes == (starts == CLASSES - 1)).all()


@pytest.mark.parametrize("loss", losses.TARGETED)
def test_targets_are_the_most_likely_wrong_classes(loss):
    """Each rank climbs its own, also where the label is not the prediction."""
    network, keys, images, labels = _problem()
    labels = labels.at[:3].add(1) % CLASSES
    logits = np.array(network(images))
    logits[np.arange(COUNT), labels] = -np.inf
    ranked = np.argsort(-logits, axis=-1)
    attack = functools.partial(
        attacks.apgd_t, network, keys, images, labels, epsilon=0.05, steps=5, loss=loss
    )
    fooled = []
    for rank in range(2, CLASSES + 1):
        found = attack(rank=jnp.array(rank))
        expected = losses.TARGETED[loss](
            network(found.images), labels, jnp.asarray(ranked[:, rank - 2])
        )
        np.testing.assert_allclose(found.objective, expected, rtol=1e-3, atol=1e-5)
        assert (found.backward_passes == 6).all()
        fooled.append(found.worst_success)
    whole = attack(target_classes=9)  # Of which there are four.
    np.testing.assert_array_equal(whole.worst_success, np.any(fooled, axis=0))
    assert (whole.backward_passes == 24).all()
    with pytest.raises(InputError, match=r"rank=6 is not valid: use 2 to 5"):
        attack(rank=6)
    # A traced one is not known: it is the nearest that there is.
    found = jax.jit(lambda rank: attack(rank=rank))(9)
    last = losses.TARGETED[loss](
        network(found.images), labels, jnp.asarray(ranked[:, CLASSES - 2])
    )
    np.testing.assert_allclose(found.objective, last, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("suite", ["autoattack", "autoattack_plus"])
def test_suites_have_the_settings_of_their_authors(suite):
    """In plus, untargeted attacks start five times; elsewhere each starts once."""
    starts = {"apgd_ce": 5, "apgd_dlr": 5, "fab": 5}
    usual = {"steps": 100, "target_classes": 9, "queries": 5000}
    for name in attacks.suite(suite):
        expected = {**usual, "restarts": starts.get(name, 1), "loss": "dlr"}
        for in_norm in (name, f"{name}_l2"):
            for key, setting in attacks.ATTACKS[in_norm].settings.items():
                assert setting.default == expected.get(key, setting.default), key


def test_rounds_are_starts_and_targets():
    rounds = attacks.ATTACKS["apgd_dlr"].rounds({"restarts": 2}, 10)
    assert [part.numbers["restart"] for part in rounds] == [0, 1]
    assert {part.settings["restarts"] for part in rounds} == {1}
    for classes, last in ((10, 10), (100, 10), (3, 3), (2, 2)):
        rounds = attacks.ATTACKS["apgd_t"].rounds({"target_classes": 9}, classes)
        assert [part.numbers["rank"] for part in rounds] == list(range(2, last + 1))
