"""The front door: a network and arrays in, what is left of its accuracy out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_linear import (
    CLASSES,
    COUNT,
    QUICK,
    WEIGHTS,
    Module,
    linear,
    linear_images,
    linear_labels,
)

from advloss import losses
from advloss.evaluation import front

pytestmark = pytest.mark.usefixtures("compiled_quickly", "one_device")


@pytest.fixture(scope="module")
def images():
    return linear_images()


@pytest.fixture(scope="module")
def labels(images):
    return linear_labels(images)


def _exactly_robust(images, labels, epsilon, order):
    """By hand: a wrong class's lead grows by epsilon times the dual norm, at most."""
    logits = np.asarray(linear(images), np.float64)
    robust = np.ones(len(labels), bool)
    for wrong in range(CLASSES):
        gap = logits[np.arange(len(labels)), labels] - logits[:, wrong]
        change = WEIGHTS[:, labels].T - WEIGHTS[:, [wrong]].T
        reach = epsilon * np.linalg.norm(change, order, axis=-1)
        robust &= (gap > reach) | (labels == wrong)
    return robust


@pytest.mark.parametrize(
    ("norm", "dual", "epsilons"), [("linf", 1, (0.01, 0.03)), ("l2", 2, (0.03, 0.1))]
)
def test_of_a_linear_network_robustness_is_known(images, labels, norm, dual, epsilons):
    found = front.evaluate(linear, images, labels, epsilon=epsilons, norm=norm, **QUICK)
    for i, epsilon in enumerate(epsilons):
        expected = _exactly_robust(images, labels, epsilon, dual)
        assert 0.1 < expected.mean() < 0.95
        np.testing.assert_array_equal(found.robust[i], expected)
        assert found.robust_accuracy[i] == pytest.approx(expected.mean())
        assert found.low[i] < found.robust_accuracy[i] < found.high[i]
    assert found.natural_accuracy == pytest.approx(0.9)
    assert found.natural.low < 0.9 < found.natural.high


@pytest.mark.parametrize("attack", ["carlini_linf", "pgd", "multi_targeted", "fgsm"])
def test_a_curve_falls_and_is_that_of_single_calls(images, labels, attack):
    epsilons = [0.05, 0.01, 0.03, 0.03]  # In any order.
    settings = {} if attack == "fgsm" else {"steps": 20}
    how = {"attacks": attack, "objective": "margin", **QUICK, **settings}
    if attack in ("carlini_linf", "fgsm"):
        del how["objective"]
    if attack == "fgsm":
        del how["steps"]
    curve = front.evaluate(linear, images, labels, epsilon=epsilons, **how)
    assert curve.robust.shape == (4, COUNT)
    np.testing.assert_array_equal(curve.epsilons, epsilons)
    np.testing.assert_array_equal(curve.robust[2], curve.robust[3])
    assert (curve.robust[0] <= curve.robust[2]).all()
    assert (curve.robust[2] <= curve.robust[1]).all()
    for i, epsilon in enumerate(epsilons):
        single = front.evaluate(linear, images, labels, epsilon=epsilon, **how)
        np.testing.assert_array_equal(single.robust[0], curve.robust[i])
        (row,) = single.attacks
        assert row.robust_accuracy[0] == curve.attacks[0].robust_accuracy[i]


def test_the_nearest_images_are_looked_for_once(images, labels):
    """Every epsilon is read off their distances."""
    how = {"attacks": "carlini_linf", **QUICK}
    few, many = (
        front.evaluate(linear, images, labels, epsilon=epsilon, **how)
        for epsilon in ([0.01], [0.01, 0.03, 0.05])
    )
    np.testing.assert_array_equal(few.backward_passes, many.backward_passes)
    assert many.robust_accuracy[2] < few.robust_accuracy[0]


@pytest.mark.parametrize("name", ["fmn", "ddn"])
def test_the_nearest_images_know_no_radius(images, labels, name):
    """Their first step is not as long as the least of them, which may be 0."""
    norm = {"fmn": "linf", "ddn": "l2"}[name]
    how = {**QUICK, "attacks": name, "norm": norm, "steps": 30}
    alone = front.evaluate(linear, images, labels, epsilon=0.3, **how)
    assert alone.robust_accuracy < 0.1
    both = front.evaluate(linear, images, labels, epsilon=[0.0, 0.3], **how)
    np.testing.assert_array_equal(both.robust[1], alone.robust[0])


def test_an_attack_takes_on_whom_those_before_it_left(images, labels):
    found = front.evaluate(
        linear, images, labels, epsilon=[0.01, 0.03],
        attacks=["noise", "fgsm", "strong"], **QUICK,
    )  # fmt: skip
    names = ["noise", "fgsm", "pgd", "multi_targeted"]
    assert [row.name for row in found.attacks] == names
    left = np.array([row.robust_accuracy for row in found.attacks])
    assert (np.diff(left, axis=0) <= 0).all()
    np.testing.assert_array_equal(left[-1], found.robust_accuracy)
    fooled_first = ~found.robust[0]
    wrong = np.argmax(linear(images), axis=-1) != labels
    for row in found.attacks:
        assert (row.backward_passes[wrong] == 0).all()
        assert (row.forward_passes[wrong] == 0).all()
    # Noise looks twice at each radius, at its image and at its result; who was fooled
    # at the first, at that alone.
    noise = found.attacks[0].forward_passes
    assert set(noise[~wrong & fooled_first]) == {2}
    assert set(noise[found.robust[0]]) == {4}
    total = sum(row.backward_passes for row in found.attacks)
    np.testing.assert_array_equal(found.backward_passes, total)
    assert (found.forward_passes[wrong] == 1).all()


class _Trained:
    classifier = staticmethod(linear)


class _Unhashable:
    __hash__ = None

    def __call__(self, images):
        return linear(images)


@pytest.mark.parametrize(
    "classifier",
    [
        (Module(), {"params": {"Dense_0": {"kernel": WEIGHTS}}}),
        _Trained(),
        _Unhashable(),
        jax.jit(linear),
        lambda images: linear(images),
    ],
    ids=["flax", "trained", "unhashable", "jit", "lambda"],
)
def test_many_things_are_a_classifier(images, labels, classifier):
    expected = front.evaluate(linear, images, labels, epsilon=0.03, **QUICK)
    found = front.evaluate(classifier, images, labels, epsilon=0.03, **QUICK)
    np.testing.assert_array_equal(found.robust, expected.robust)


def test_arrays_of_jax_and_lists_are_taken(images, labels):
    expected = front.evaluate(linear, images, labels, epsilon=0.03, **QUICK)
    for given in (
        (jnp.asarray(images), jnp.asarray(labels), jnp.float32(0.03)),
        (images.astype(np.float64), labels.astype(np.uint8), [np.float64(0.03)]),
        (images, labels.tolist(), (0.03,)),
        (images, labels, jnp.asarray([0.03], jnp.bfloat16)),
    ):
        *data, epsilon = given
        found = front.evaluate(linear, *data, epsilon=epsilon, **QUICK)
        np.testing.assert_array_equal(found.robust, expected.robust)


def test_an_objective_may_be_a_name_or_a_function(images, labels):
    how = {"epsilon": 0.03, "attacks": "pgd", **QUICK}
    for objective in ("margin", "hinge", losses.margin):
        found = front.evaluate(linear, images, labels, objective=objective, **how)
        expected = _exactly_robust(images, labels, 0.03, 1)
        assert (found.robust[0] >= expected).all()
        assert found.robust_accuracy[0] <= expected.mean() + 0.1


def test_devices_and_batches_change_nothing(images, labels):
    how = {"epsilon": [0.01, 0.03], "steps": 8, "progress": False}
    one = front.evaluate(linear, images, labels, devices=jax.devices()[:1], **how)
    for count, batch_size in ((1, 7), (4, 8), (4, None)):
        chosen = jax.devices()[:count]
        other = front.evaluate(
            linear, images, labels, devices=chosen, batch_size=batch_size, **how
        )
        np.testing.assert_array_equal(other.robust, one.robust)


def test_the_table_fits_a_terminal(images, labels, capsys):
    attacks = ["strong", "fgsm", "noise", "carlini_linf"]
    found = front.evaluate(
        linear, images, labels, epsilon=[0.01, 0.03], attacks=attacks,
        **{**QUICK, "progress": True},
    )  # fmt: skip
    text = str(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "epsilon 0.03" in text
    assert "multi_targeted" in text
    assert f"{100 * found.robust_accuracy[1]:.1f} [" in text
    assert "60/60" in capsys.readouterr().err


def test_without_a_gradient_the_table_says_so(images):
    def classifier(x):
        return jnp.round(4 * x.reshape(len(x), -1)[:, :CLASSES])

    labels = np.argmax(np.asarray(classifier(jnp.asarray(images))), axis=-1)
    found = front.evaluate(classifier, images, labels, epsilon=0.01, **QUICK)
    assert found.attacks[0].zero_gradient.any()
    assert "pgd had no gradient to follow at" in str(found)


def test_all_may_be_fooled_from_the_start(images, labels):
    wrong = (np.argmax(linear(images), axis=-1) + 1) % CLASSES
    found = front.evaluate(linear, images, wrong, epsilon=[0.01, 0.02], **QUICK)
    assert found.natural_accuracy == 0
    assert (found.robust_accuracy == 0).all()
    assert (found.backward_passes == 0).all()
    assert "epsilon 0.02" in str(found)


def test_floats_of_any_size_are_taken(images, labels):
    how = {**QUICK, "attacks": "fgsm", "epsilon": 0.03}
    del how["steps"]
    near = images.astype(jnp.bfloat16)
    expected = front.evaluate(linear, near.astype(np.float32), labels, **how)
    for dtype in (jnp.bfloat16, np.float32, np.float64):
        found = front.evaluate(linear, near.astype(dtype), labels, **how)
        np.testing.assert_array_equal(found.robust, expected.robust)
    halves = front.evaluate(
        lambda x: linear(x).astype(jnp.float16),
        images,
        labels,
        objective=lambda *given: losses.margin(*given).astype(jnp.bfloat16),
        **how,
    )
    assert (halves.robust == expected.robust).mean() > 0.9


def test_modes_of_jax_change_nothing(images, labels):
    how = {**QUICK, "attacks": "pgd_l2", "norm": "l2", "epsilon": 0.1, "steps": 3}
    expected = front.evaluate(linear, images, labels, **how)
    for mode in (jax.enable_x64(True), jax.debug_nans(True), jax.disable_jit()):
        with mode:
            found = front.evaluate(linear, images, labels, **how)
        np.testing.assert_array_equal(found.robust, expected.robust)


def test_the_draws_are_of_one_kind_whatever_is_usual(images, labels):
    """Of others, what is drawn for an example depends on the batch."""
    how = {"epsilon": 0.03, "attacks": "noise", "progress": False}
    expected = front.evaluate(linear, images, labels, **how)
    with jax.default_prng_impl("rbg"):
        for size in (4, 60):
            found = front.evaluate(linear, images, labels, batch_size=size, **how)
            np.testing.assert_array_equal(found.robust, expected.robust)


def test_a_function_that_has_a_classifier_is_itself_attacked(images, labels):
    class Wrapped:
        classifier = staticmethod(linear)

        def __call__(self, images):
            return -linear(images)

    how = {"attacks": "noise", "progress": False}
    found = front.evaluate(Wrapped(), images, labels, **how)
    alone = front.evaluate(lambda x: -linear(x), images, labels, **how)
    assert found.natural_accuracy == alone.natural_accuracy


def test_numbers_of_jax_are_numbers(images, labels):
    how = {**QUICK, "seed": jnp.int32(3), "steps": jnp.int32(7), "batch_size": None}
    found = front.evaluate(linear, images, labels, epsilon=0.03, **how)
    how = {**QUICK, "seed": 3, "steps": 7}
    expected = front.evaluate(linear, images, labels, epsilon=0.03, **how)
    np.testing.assert_array_equal(found.robust, expected.robust)


def test_radii_that_are_near_have_rows_of_their_own(images, labels):
    how = {"attacks": "noise", "progress": False}
    found = front.evaluate(linear, images, labels, epsilon=[0.03, 0.030000001], **how)
    assert "epsilon 0.03 " in str(found)
    assert "epsilon 0.030000001 " in str(found)
