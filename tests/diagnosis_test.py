"""Each check of a diagnosis, on arrays and networks of which the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import advloss
from advloss import losses
from advloss.attacks import fingerprint
from advloss.errors import InputError
from advloss.evaluation.diagnosis import (
    binarization,
    check,
    flags,
    indicators,
    sweeps,
    verdict,
    watch,
)
from advloss.evaluation.diagnosis.subject import Subject

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CLASSES, COUNT = 5, 40
ONE = {"progress": False, "devices": jax.devices()[:1]}
WEIGHTS = np.random.default_rng(0).normal(size=(16, CLASSES)).astype(np.float32)
NO, YES = np.zeros(COUNT, bool), np.ones(COUNT, bool)


def linear(images):
    """Its gradient is the same everywhere, and its robustness is known."""
    return (images - 0.5).reshape(len(images), -1) @ WEIGHTS


def rounded(images):
    return linear(jnp.round(images * 7) / 7)


def large(images):
    """Of which the softmax is 0 or 1."""
    return 1e4 * linear(images)


@pytest.fixture(scope="module")
def images():
    """Between 0.03 and 0.1 from the boundary in l-inf."""
    pixels = np.random.default_rng(1).uniform(0.2, 0.8, size=(50 * COUNT, 4, 4, 1))
    pixels = pixels.astype(np.float32)
    found = np.asarray(linear(pixels))
    own = found.argmax(axis=1)
    gaps = found[np.arange(len(own)), own][:, None] - found
    steep = np.abs(WEIGHTS[:, own].T[:, :, None] - WEIGHTS[None]).sum(axis=1)
    distance = np.where(gaps > 0, gaps / np.maximum(steep, 1e-9), np.inf).min(axis=1)
    return pixels[(distance > 0.03) & (distance < 0.1)][:COUNT]


@pytest.fixture(scope="module")
def labels(images):
    return np.argmax(np.asarray(linear(images)), axis=-1).astype(np.int32)


@pytest.fixture
def subject_of(images, labels):
    def make(classifier, norm="linf", objective=losses.softmax_cross_entropy):
        held = fingerprint.look_at_objective(objective, CLASSES + 1, CLASSES).program
        return Subject(
            lambda _: classifier, {}, images, labels, YES, CLASSES, norm,
            ("own", objective, held), 0, COUNT, jax.devices()[:1],
        )  # fmt: skip

    return make


def _some(count):
    return np.arange(COUNT) < count


# Pure functions: what an attack saw -> a check.


@pytest.mark.parametrize(("flat", "passed"), [(0, True), (1, False), (4, False)])
def test_a_missing_gradient_at_any_step_counts(flat, passed):
    seen = np.zeros((COUNT, 3), bool)
    seen[:flat, 1] = True
    found = indicators.unavailable_gradients(seen)
    assert found.figure == pytest.approx(flat / COUNT)
    assert found.passed is passed


def test_unstable_predictions_are_capped_one_by_one():
    change = np.full(COUNT, 0.05)
    assert indicators.unstable_predictions(change).passed
    change[:4] = 1e9
    found = indicators.unstable_predictions(change)
    assert found.figure == pytest.approx(0.1 + 0.9 * 0.05)
    assert found.passed is False


def test_success_is_silent_where_the_last_iterate_is_right_again():
    success = np.zeros((COUNT, 4), bool)
    success[:10, 1:] = True
    assert indicators.silent_success(success).figure == 0
    success[:4, -1] = False
    found = indicators.silent_success(success)
    assert found.figure == pytest.approx(0.1)
    assert found.passed is False


def test_an_optimisation_is_incomplete_where_its_highest_loss_still_rises():
    rising = np.tile(np.arange(41.0), (COUNT, 1))
    rising[10:] = 1 - 0.5 ** rising[10:]  # It comes to rest.
    found = indicators.incomplete_optimisation(rising, NO)
    assert found.figure == pytest.approx(0.25)
    assert found.passed is False
    assert indicators.incomplete_optimisation(rising, _some(10)).figure == 0
    # What comes and goes is at rest as soon as its highest is.
    waves = np.sin(rising) + 0 * rising
    assert indicators.incomplete_optimisation(waves, NO).figure == 0
    assert indicators.incomplete_optimisation(0 * rising, NO).figure == 0
    assert indicators.incomplete_optimisation(rising, YES).passed is None


def test_what_fooled_the_attack_alone_is_a_transfer_failure():
    assert indicators.transfer_failure(_some(20), _some(20)).passed
    found = indicators.transfer_failure(_some(20), _some(15))
    assert found.figure == pytest.approx(0.25)
    assert found.passed is False
    assert indicators.transfer_failure(NO, NO).passed is None


def test_without_a_bound_every_image_must_be_fooled():
    assert indicators.unconstrained_failure(YES).figure == 0
    assert indicators.unconstrained_failure(~_some(1)).passed  # One may be.
    assert indicators.unconstrained_failure(~_some(2)).passed is False


def test_flags_of_outputs():
    logits = np.random.default_rng(0).normal(size=(COUNT, CLASSES))
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert flags.randomised(logits, logits + 1e-7).passed
    assert flags.randomised(logits, logits + 0.1 * logits[::-1]).passed is False
    assert flags.is_distribution(logits).figure == 0
    assert flags.is_distribution(softmax).figure == 1
    assert flags.zero_gradients(_some(1)).passed is False
    assert flags.few_classes(4).passed
    assert flags.few_classes(3).passed is None
    assert flags.square_beats_gradients(_some(10), _some(12)).figure == 0
    assert flags.square_beats_gradients(_some(12), _some(10)).passed is False


def test_one_image_alone_fails_no_comparison():
    assert flags.square_beats_gradients(_some(11), _some(10)).passed
    assert sweeps.noise_beats(_some(11), _some(10)).passed
    assert sweeps.transfer_beats(_some(11), _some(10), "").passed


def test_comparisons_of_attacks_are_of_each_image():
    """As many are fooled, but others: what one attack missed, another found."""
    others = np.roll(_some(10), 5)
    for compared in (
        sweeps.noise_beats(others, _some(10)),
        sweeps.transfer_beats(others, _some(10), ""),
        sweeps.one_step(others, _some(10)),
        flags.square_beats_gradients(others, _some(10)),
    ):
        assert compared.figure == pytest.approx(5 / COUNT)
        assert compared.passed is False
    how = sweeps.transfer_beats(None, NO, "give some")
    assert how.passed is None
    assert how.reason == "give some"


def test_success_must_grow_with_epsilon():
    assert sweeps.against_epsilon(np.array([NO, _some(5), _some(9), YES])).figure == 0
    found = sweeps.against_epsilon(np.array([_some(9), _some(5), YES]))
    assert found.figure == pytest.approx(0.1)
    assert found.passed is False


def test_more_steps_and_starts_must_find_no_more():
    success = np.zeros((COUNT, 9), bool)
    success[:10, 2] = True
    assert sweeps.against_steps(success, 4).figure == 0
    success[10:14, 5] = True
    assert sweeps.against_steps(success, 4).figure == pytest.approx(0.1)
    assert sweeps.against_steps(success, 4).passed is False
    assert sweeps.against_restarts(_some(10), [_some(8), _some(12)]).passed
    found = sweeps.against_restarts(_some(10), [_some(8), np.roll(_some(8), 9)])
    assert found.figure == pytest.approx(7 / COUNT)
    assert found.passed is False


def test_many_steps_may_find_a_few_more_than_one():
    assert sweeps.many_steps(_some(20), _some(30)).passed
    found = sweeps.many_steps(_some(2), _some(38))
    assert found.figure == pytest.approx(0.9)
    assert found.passed is False
    assert sweeps.many_steps(_some(30), _some(20)).figure == 0


def test_half_a_step_must_not_find_more_than_a_step():
    success = np.zeros((COUNT, 10), bool)
    success[:20, 5:] = True
    assert sweeps.on_the_way(success).figure == 0
    success[:10, 9] = False
    assert sweeps.on_the_way(success).figure == pytest.approx(0.25)
    assert sweeps.on_the_way(success).passed is False


def test_another_objective_or_scale_must_find_no_more():
    fooled = {"training": _some(10), "margin": _some(11), "dlr": _some(4)}
    assert sweeps.objectives(fooled, "training").passed
    fooled["dlr"] = _some(14)
    found = sweeps.objectives(fooled, "training")
    assert found.figure == pytest.approx(0.1)
    assert found.passed is False
    assert sweeps.objectives(fooled, "dlr").figure == 0
    assert sweeps.scales({0.1: _some(20), 1.0: NO}, _some(10)).figure == 0.25
    assert sweeps.all_together(0.5, 0.42, COUNT).passed
    assert sweeps.all_together(0.5, 0.3, COUNT).passed is False


def test_planted_examples_count_where_they_are_separated_and_hard():
    found = binarization.binarization(binarization.Found(YES, _some(39), NO))
    assert (found.figure, found.passed) == (pytest.approx(0.975), True)
    assert not binarization.binarization(binarization.Found(YES, _some(37), NO)).passed
    half = _some(20)
    assert binarization.binarization(binarization.Found(half, half, NO)).figure == 1
    for few in ((_some(9), YES, NO), (YES, YES, YES), (NO, NO, NO)):
        assert binarization.binarization(binarization.Found(*few)).passed is None


def test_the_discriminant_tells_one_point_from_many():
    inner = np.random.default_rng(0).normal(size=(200, 4)) * [1, 9, 1e-3, 0]
    inner = jnp.asarray(inner + np.array([0, 0, 5, 7]), jnp.float32)
    outer = jnp.array([0.0, 0.0, 5.01, 7.0])  # 10 deviations away.
    weights, threshold, separated = binarization.discriminant(inner, outer)
    assert separated
    assert (inner @ weights < threshold).all()
    assert outer @ weights > threshold
    _, _, separated = binarization.discriminant(inner, inner.mean(axis=0))
    assert not separated


# What programs see of networks of which it is known.


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_climb_is_that_of_pgd(subject_of, images, labels, norm):
    """The same images, whatever part of a program they are made in."""
    subject = subject_of(linear, norm)
    epsilon = 0.1 if norm == "linf" else 0.3
    how = {"epsilon": epsilon, "steps": 45}
    seen = watch.climb(subject, length=0.01, **how)
    assert seen.loss.shape == (COUNT, 46)
    assert np.isfinite(seen.loss).all()
    first = watch.climb(subject, epsilon=epsilon, steps=2, length=0.01)
    np.testing.assert_allclose(first.loss[:, :2], seen.loss[:, :2], rtol=1e-5)
    half = watch.climb(subject, stop=True, length=0.01, **how)
    np.testing.assert_array_equal(half.fooled, seen.fooled)
    order = np.inf if norm == "linf" else 2
    change = (seen.images - images).reshape(COUNT, -1)
    assert np.linalg.norm(change, order, axis=1).max() <= epsilon + 1e-6
    found = np.argmax(linear(seen.images), axis=-1) != labels
    np.testing.assert_array_equal(found, seen.fooled)
    assert not seen.flat.any()
    assert seen.fooled.sum() > 0


def test_a_climb_meets_no_gradient_where_there_is_none(subject_of):
    how = {"epsilon": 0.1, "steps": 5}
    assert watch.climb(subject_of(rounded), **how).flat.all()
    assert watch.climb(subject_of(large), **how).flat.any()
    margin = watch.climb(subject_of(large), objective="margin", **how)
    assert not margin.flat.any()
    low = watch.climb(
        subject_of(large), objective="softmax_cross_entropy", scale=1e-4, **how
    )
    assert not low.flat.any()


def test_towards_a_class_and_dlr_find_what_margin_finds(subject_of):
    subject, how = subject_of(linear), {"epsilon": 0.2, "steps": 20, "stop": True}
    margin = watch.climb(subject, objective="margin", **how).fooled
    each = [
        watch.climb(subject, objective="towards", rank=rank, **how).fooled
        for rank in range(2, CLASSES + 1)
    ]
    assert (np.any(each, axis=0) >= margin).all()
    assert watch.climb(subject, objective="dlr", **how).fooled.sum() > 0


def test_an_example_is_seen_the_same_in_any_batch_and_on_any_devices(subject_of):
    subject, how = subject_of(linear), {"epsilon": 0.1, "steps": 3}
    expected = watch.climb(subject, **how)
    other = subject._replace(batch_size=8, devices=jax.devices()[:4])
    found = watch.climb(other, among=_some(7), **how)
    np.testing.assert_allclose(found.loss[:7], expected.loss[:7], rtol=1e-5)
    assert np.isnan(found.loss[7:]).all()


def test_a_line_bends_where_a_network_has_overfitted_to_its_end(subject_of):
    assert sweeps.on_the_way(watch.line(subject_of(linear), 0.3)["success"]).passed

    def bent(x):
        """Right at the natural image and far away, wrong in between."""
        far = jnp.abs(x - 0.5).mean(axis=(1, 2, 3)) * 20
        own = jnp.cos(far)[:, None] * jnp.ones((1, CLASSES))
        return linear(x) * own

    line = watch.line(subject_of(bent), 0.3)
    assert sweeps.on_the_way(line["success"]).passed is False
    assert not line["flat"].any()
    assert watch.line(subject_of(rounded), 0.3)["flat_margin"].all()
    assert watch.line(subject_of(large), 0.3)["flat"].any()
    assert not watch.line(subject_of(large), 0.3)["flat_margin"].any()


def test_noise_changes_a_linear_network_as_it_should(subject_of):
    near = watch.around(subject_of(linear), indicators.NOISE, "linf")
    assert 0 < np.median(near["change"]) < 0.1
    jagged = watch.around(
        subject_of(
            lambda x: linear(x) * (1 + jnp.sin(1e5 * x.sum(axis=(1, 2, 3))))[:, None]
        ),
        indicators.NOISE,
        "linf",
    )
    assert indicators.unstable_predictions(jagged["change"]).passed is False
    far = watch.around(subject_of(linear), 0.2, "linf")
    assert near["success"].sum() < far["success"].sum()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_with_gradients_finds_what_is_planted(subject_of, norm):
    honest = watch.plant(subject_of(linear, norm), 0.1)
    assert honest.separated.sum() > COUNT / 4
    assert honest.attack[honest.separated].mean() > 0.9
    assert honest.random[honest.separated].mean() < 0.4


def test_an_attack_without_gradients_does_not(subject_of):
    masked = watch.plant(subject_of(rounded), 0.1)
    assert masked.separated.sum() > COUNT / 4
    assert binarization.binarization(masked).passed is False


# The whole.


@pytest.fixture(scope="module")
def honest(images, labels):
    jax.config.update("jax_disable_most_optimizations", True)
    how = {"epsilon": 0.05, "objective": "margin", **ONE}
    return advloss.diagnose(linear, images, labels, **how)


def test_a_linear_network_is_trusted(honest, images, labels):
    assert honest.failed == ()
    assert honest.trusted
    assert len(honest.checks) == 23
    expected = advloss.evaluate(
        linear, images, labels, epsilon=0.05, attacks="strong", **ONE
    )
    assert honest.robust_accuracy <= expected.robust_accuracy[0] + 1e-9
    assert honest.robust_accuracy == pytest.approx(
        expected.robust_accuracy[0], abs=0.05
    )
    assert 0 < honest.robust_accuracy <= honest.accuracy < 1
    assert honest.best_attack in honest.attacks
    assert "can be trusted" in honest.sentence
    assert honest.by_epsilon[1, -1] == 0
    assert honest.by_steps.shape == (2, 201)


def test_the_table_fits_a_terminal(honest):
    text = str(honest)
    assert max(map(len, text.splitlines())) <= 80
    for each in honest.checks:
        assert f"{each.name} " in text
    assert "give surrogates=[classifier, ...]" in text
    assert text.endswith(" ".join(honest.sentence.split()[-2:]))


def test_a_network_without_gradients_is_not_trusted(images, labels):
    right = np.argmax(rounded(images), axis=-1) == labels
    found = advloss.diagnose(
        rounded, images[right], labels[right], epsilon=0.1, surrogates=[linear], **ONE
    )
    assert not found.trusted
    failed = {each.name for each in found.failed}
    assert {
        "gradients are missing (IAF 1)",
        "logits have no gradient",
        "fails without a bound (IAF 6)",
        "transfer finds more than gradients",
        "Square finds more than gradients",
    } <= failed
    assert "can NOT be trusted" in found.sentence
    assert max(map(len, str(found).splitlines())) <= 80


def test_an_objective_may_be_a_name_or_a_function(images, labels):
    for objective in ("hinge", lambda z, y: losses.hinge(z, y, margin=100.0)):
        found = advloss.diagnose(
            linear, images[:8], labels[:8], epsilon=0.1, objective=objective, steps=3,
            **ONE,
        )  # fmt: skip
        named = "hinge" if objective == "hinge" else "the training loss"
        assert found.attack == f"PGD-3 on {named}"
        assert "PGD-40 on softmax_cross_entropy" in found.attacks


def test_two_classes_and_l2(images, labels):
    two = (labels == 1).astype(np.int32)

    def classifier(x):
        z = linear(x)
        rest = jnp.concatenate([z[:, :1], z[:, 2:]], axis=1).max(axis=1)
        return jnp.stack([rest, z[:, 1]], axis=1)

    found = advloss.diagnose(classifier, images, two, epsilon=0.3, norm="l2", **ONE)
    by_name = {each.name: each for each in found.checks}
    assert by_name["classes are few"].passed is None
    assert found.robust_accuracy < 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon": [0.1, 0.2]}, "epsilon=.*one radius"),
        ({"epsilon": 0.0}, "epsilon=.*larger than 0"),
        ({"epsilon": "x"}, r"epsilon='x' is not valid: use a number in \[0, 1\]$"),
        ({"norm": "l1"}, "norm='l1' .*linf, l2"),
        ({"steps": 0}, "steps=0 .*1 to"),
        ({"steps": 2.5}, "steps=2.5"),
        ({"step_size": -1.0}, "step_size=-1.0"),
        ({"surrogates": 3}, "surrogates=3 .*list"),
        ({"surrogates": [3]}, r"surrogates\[0\]: classifier=3"),
        ({"objective": "training"}, "objective='training'"),
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_wrong_arguments_are_named(images, labels, change, said):
    with pytest.raises(InputError, match=said):
        advloss.diagnose(linear, images, labels, **{**ONE, **change})


def test_a_network_of_nan_is_refused_at_once(images, labels):
    with pytest.raises(InputError, match="not finite"):
        advloss.diagnose(lambda x: linear(x) * jnp.nan, images, labels, **ONE)
    with pytest.raises(InputError, match="none of the 40 images"):
        advloss.diagnose(linear, images, (labels + 1) % CLASSES, **ONE)


def test_a_network_that_leaves_the_numbers_under_attack_is_named(images, labels):
    def classifier(x):
        far = jnp.abs(x).max(axis=(1, 2, 3), keepdims=True)[:, 0, 0] > 0.95
        return jnp.where(far, jnp.nan, linear(x))

    with pytest.raises(InputError, match="not finite near"):
        advloss.diagnose(classifier, images, labels, epsilon=0.3, **ONE)


def test_a_verdict_of_few_words():
    bad = check.at_most("x", 0.5, 0.1, "it is bad", "us")
    found = verdict.Diagnosis(
        "linf", 0.3, "PGD-40", YES, _some(20), _some(10),
        {"PGD-40": 0.5, "Square": 0.25}, (bad,), np.ones((2, 1)), np.ones((2, 1)), 1.0,
    )  # fmt: skip
    assert found.accuracy == 0.5
    assert found.robust_accuracy == 0.25
    assert found.best_attack == "Square"
    assert found.sentence == (
        "The accuracy of 50.0 % under PGD-40 can NOT be trusted: 1 of 1 checks fail; "
        "the best attack, Square, leaves 25.0 %, and all together leave 25.0 %."
    )
    assert "it is bad." in str(found)


@pytest.mark.slow
def test_modes_of_jax_change_nothing(images, labels):
    how = {"epsilon": 0.1, "norm": "l2", "steps": 2, **ONE}
    expected = advloss.diagnose(linear, images[:8], labels[:8], **how)
    for mode in (jax.enable_x64(True), jax.debug_nans(True), jax.disable_jit()):
        with mode:
            found = advloss.diagnose(linear, images[:8], labels[:8], **how)
        np.testing.assert_array_equal(found.robust, expected.robust)
        assert found.attacks == expected.attacks


def test_a_network_is_compiled_once(images, labels):
    traced = []

    def classifier(x):
        # Of one image alone every call looks at the network anew.
        traced.extend([x.shape] * (isinstance(x, jax.core.Tracer) and len(x) > 1))
        return linear(x)

    advloss.diagnose(classifier, images, labels, epsilon=0.1, steps=2, **ONE)
    once = len(traced)
    advloss.diagnose(classifier, images, labels, epsilon=0.2, steps=9, seed=3, **ONE)
    assert 0 < once == len(traced)
