"""The front door: a network and arrays in, what is left of its accuracy out."""

import gc
import weakref
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import advloss
from advloss import losses
from advloss.errors import InputError
from advloss.evaluation import front

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CLASSES, COUNT = 3, 60
QUICK = {"steps": 8, "progress": False, "devices": jax.devices()[:1]}


def _weights():
    return np.random.default_rng(0).normal(size=(16, CLASSES)).astype(np.float32)


WEIGHTS = _weights()


def linear(images):
    """Logits of a linear network: its robustness is known."""
    return (images - 0.5).reshape(len(images), -1) @ WEIGHTS


@pytest.fixture(scope="module")
def images():
    # Far enough from 0 and 1 that the box is never reached.
    pixels = np.random.default_rng(1).uniform(0.3, 0.7, size=(COUNT, 4, 4, 1))
    return pixels.astype(np.float32)


@pytest.fixture(scope="module")
def labels(images):
    labels = np.argmax(np.asarray(linear(images)), axis=-1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    return labels


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


def test_a_network_is_compiled_once(images, labels):
    traced = []

    def classifier(x):
        # Of one image alone every call looks at the network anew.
        traced.extend([x.shape] * (isinstance(x, jax.core.Tracer) and len(x) > 1))
        return linear(x)

    how = {**QUICK, "attacks": "strong", "batch_size": 20}
    front.evaluate(classifier, images, labels, epsilon=0.01, **how)
    once = len(traced)
    assert once > 0
    # A curve of other radii, other values, another seed; the batches are as large.
    front.evaluate(classifier, images, labels, epsilon=[0.02, 0.03], **how)
    front.evaluate(classifier, images**2, labels, epsilon=0.02, seed=3, **how)
    assert len(traced) == once


class _Module(nn.Module):
    @nn.compact
    def __call__(self, images):
        flat = (images - 0.5).reshape(len(images), -1)
        return nn.Dense(CLASSES, use_bias=False)(flat)


class _Whole(nn.Module):
    @nn.compact
    def __call__(self, images):
        return jnp.round(_Module(name="own")(images)).astype(int)


class _Trained:
    classifier = staticmethod(linear)


class _Unhashable:
    __hash__ = None

    def __call__(self, images):
        return linear(images)


@pytest.mark.parametrize(
    "classifier",
    [
        (_Module(), {"params": {"Dense_0": {"kernel": WEIGHTS}}}),
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
    for devices, batch_size in ((1, 7), (4, 8), (4, None)):
        chosen = jax.devices()[:devices]
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


def _numpy(images):
    return np.asarray(images).reshape(len(images), -1) @ WEIGHTS


def _spoilt(value):
    def spoil(images, labels):
        images = images.copy()
        images[0, 0, 0, 0] = value
        return images, labels

    return spoil


BAD_DATA = [
    (lambda x, y: (255 * x, y), r"images lie in \[7[67]\.\d+, 178[\d.]*\]: use values"),
    (
        lambda x, y: (2 * x - 1, y),
        r"images lie in \[-0.\d+, 0.\d+\]: use values in \[0",
    ),
    ((_spoilt(np.nan)), r"1 values of images are not finite"),
    ((_spoilt(-np.inf)), r"1 values of images are not finite"),
    (lambda x, y: ((255 * x).astype(np.uint8), y), r"images are uint8: .*/ 255"),
    (lambda x, y: (x > 0.5, y), r"images are bool"),
    (lambda x, y: (x[..., 0], y), r"shape \(60, 4, 4\)"),
    (lambda x, y: (x[0], y[:1]), r"shape \(4, 4, 1\)"),
    (lambda x, y: (x[:0], y[:0]), r"shape \(0, 4, 4, 1\)"),
    (lambda x, y: ("images", y), r"images are <U6"),
    (lambda x, y: (None, y), r"images are object"),
    (lambda x, y: ((each for each in x), y), r"images are object"),
    (lambda x, y: ([[1.0], []], y), r"images can't be read as an array \(ValueError"),
    (lambda x, y: (x.astype(complex), y), r"images are complex128: use floats"),
    (lambda x, y: (np.full((2, 3, 8, 8), 0.5), y[:2]), r"channels first"),
    (lambda x, y: (x.reshape(60, 2, 2, 4)[..., :3], y), r"fails for images of shape"),
    (lambda x, y: (x, y[:-1]), r"labels have shape \(59,\): use \(60,\)"),
    (lambda x, y: (x, y[:, None]), r"labels have shape \(60, 1\)"),
    (lambda x, y: (x, jax.nn.one_hot(y, 3)), r"labels are float32: use .*argmax\(-1\)"),
    (lambda x, y: (x, y == 1), r"labels are bool"),
    (lambda x, y: (x, y + 1), r"labels\[\d+\]=3 is no class: use 0 to 2"),
    (lambda x, y: (x, y - 1), r"labels\[\d+\]=-1 is no class"),
    (lambda x, y: (x, None), r"labels are object"),
]


@pytest.mark.parametrize(("change", "message"), BAD_DATA)
def test_data_that_are_not_valid_are_told(images, labels, change, message):
    images, labels = change(images, labels)
    with pytest.raises(InputError, match=message) as told:
        front.evaluate(linear, images, labels, **QUICK)
    assert "\n" not in str(told.value)


BAD_DATA += [
    (lambda x, y: (np.ma.masked_array(x, x > 0.6), y), r"values of images are masked"),
    (lambda x, y: (x, np.ma.masked_array(y, y == 0)), r"values of labels are masked"),
]
BAD_CLASSIFIERS = [
    (None, r"classifier=None is not valid"),
    ("resnet", r"classifier='resnet' is not valid"),
    (lambda images: images, r"gives float32 \(60, 4, 4, 1\) for 60 images"),
    (lambda images: linear(images)[:, 0], r"gives float32 \(60,\)"),
    (lambda images: linear(images)[:, :1], r"of at least 2 classes"),
    (lambda images: linear(images)[:1], r"gives float32 \(1, 3\)"),
    (lambda images: jnp.argmax(linear(images), axis=-1), r"gives int32 \(60,\)"),
    (lambda images: linear(images) > 0, r"gives bool \(60, 3\)"),
    (lambda images: {"logits": linear(images)}, r"gives dict"),
    (lambda images: None, r"gives NoneType"),
    (lambda: 3, r"the classifier fails for images of shape"),
    (lambda images: 1 / 0, r"ZeroDivisionError"),
    (_numpy, r"it must be a JAX function .*TracerArrayConversionError"),
    ((lambda x: x, {}), r"use a flax module with its variables"),
    ((_Module(), {}), r"the classifier fails .*ScopeCollectionNotFound"),
    (
        (_Whole(), {"params": {"own": {"Dense_0": {"kernel": WEIGHTS}}}}),
        r"the classifier gives int32 \(60, 3\)",
    ),
    (lambda x: jnp.nan * linear(x), r"logits are not finite for 60 of 60 images"),
    (lambda x: linear(x) / 0, r"logits are not finite for 60 of 60 images"),
]


@pytest.mark.parametrize(("classifier", "message"), BAD_CLASSIFIERS)
def test_what_is_no_classifier_is_told(images, labels, classifier, message):
    with pytest.raises(InputError, match=message) as told:
        front.evaluate(classifier, images, labels, **QUICK)
    assert "\n" not in str(told.value)


BAD_ARGUMENTS = [
    ({"epsilon": -0.1}, r"epsilon=-0.1 is not valid: use a number in \[0, 1\]"),
    ({"epsilon": [0.1, np.nan]}, r"epsilon=nan is not valid"),
    ({"epsilon": np.inf}, r"epsilon=inf is not valid"),
    ({"epsilon": 8}, r"epsilon=8 is not valid: use a number in \[0, 1\]"),
    ({"epsilon": "big"}, r"epsilon='big' is not valid"),
    ({"epsilon": None}, r"epsilon=None is not valid"),
    ({"epsilon": True}, r"epsilon=True is not valid"),
    ({"epsilon": []}, r"epsilon=\[\] is not valid"),
    ({"epsilon": [[0.1]]}, r"epsilon=\[\[0.1\]\] is not valid"),
    ({"epsilon": [0.1, "a"]}, r"epsilon=\[0.1, 'a'\] is not valid"),
    ({"epsilon": [[0.1], 0.1]}, r"is not valid"),
    ({"attacks": "pdg"}, r"attacks='pdg' is not valid in linf: use some of .*pgd"),
    ({"attacks": "pgd_l2"}, r"attacks='pgd_l2' is not valid in linf"),
    ({"attacks": ["pgd", 3]}, r"attacks=\['pgd', 3\] is not valid"),
    ({"attacks": 3}, r"attacks=3 is not valid"),
    ({"attacks": ()}, r"attacks=\(\) is not valid"),
    ({"attacks": [["pgd"]]}, r"is not valid in linf"),
    ({"attacks": {"pgd": {"steps": 3}}}, r"is not valid: use a list of names, and set"),
    ({"epsilon": [True, 0.1]}, r"epsilon=\[True, 0.1\] is not valid"),
    ({"epsilon": Fraction(8, 255)}, r"epsilon=Fraction\(8, 255\) is not valid"),
    ({"epsilon": 1 + 1e-9}, r"epsilon=1.000000001 is not valid"),
    ({"batch_size": 2**70}, r"batch_size=\d+ is not valid: .* below 2147483648"),
    ({"norm": "l3"}, r"norm='l3' is not valid: use one of l0, l1, l2, linf"),
    ({"norm": np.inf}, r"norm=inf is not valid"),
    ({"norm": "l0"}, r"attacks='strong' is not valid in l0: use some of carlini_l0"),
    ({"objective": "training"}, r"objective='training' is not valid"),
    ({"objective": 3}, r"objective=3 is not valid"),
    ({"objective": []}, r"objective=\[\] is not valid"),
    ({"seed": -1}, r"seed=-1 is not valid"),
    ({"seed": 2**31}, r"seed=2147483648 is not valid"),
    ({"seed": 0.5}, r"seed=0.5 is not valid"),
    ({"batch_size": 0}, r"batch_size=0 is not valid"),
    ({"batch_size": 2.0}, r"batch_size=2.0 is not valid"),
    ({"batch_size": 3, "devices": jax.devices()[:2]}, r"a multiple of the 2 devices"),
    ({"steps": -1}, r"steps=-1 is not valid: use a whole number from 0"),
    ({"steps": 2.5}, r"steps=2.5 is not valid"),
    ({"step_size": np.nan}, r"step_size=nan is not valid"),
    ({"step_size": -0.1}, r"step_size=-0.1 is not valid"),
    ({"epsilon": np.ma.masked_array([0.1, 0.2], [0, 1])}, r"epsilon=\[.*\] is not val"),
    ({"epsilon": 1e-50}, r"epsilon=1e-50 .*; 1e-50 is 0 in float32"),
    # Of the first attack it would be valid, or of the last.
    ({"attacks": ["fmn", "pgd"], "step_size": 0}, r"step_size=0 .*> 0, as fmn asks"),
    ({"attacks": ["pgd", "fmn"], "step_size": 5.0}, r"5.0 .*\[0, 1\], as pgd asks"),
    ({"restarts": 0}, r"restarts=0 is not valid"),
    ({"draws": 3}, r"draws=3 is no setting of pgd, multi_targeted: use one of"),
    ({"stepsize": 0.1}, r"stepsize=0.1 is no setting of"),
    ({"random_start": 1}, r"random_start=1 is not valid: use True or False"),
    ({"step_size": np.ones((2, 2))}, r"step_size=\[\[1. 1.\] \[1. 1.\]\] is not valid"),
    ({"epsilon": np.ones((2, 2))}, r"epsilon=\[\[1. 1.\] \[1. 1.\]\] is not valid"),
    ({"devices": []}, r"devices=\[\] is not valid: use a list of some of jax.devices"),
    ({"devices": "cpu"}, r"devices='cpu' is not valid"),
    ({"devices": jax.devices()[:1] * 2}, r"devices=.* is not valid.*each once"),
    ({"objective": lambda *_: jnp.ones(())}, r"the objective gives float32 \(\) for"),
    ({"objective": lambda x, _: x @ x}, r"the objective fails for logits \(4, 3\)"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_ARGUMENTS)
def test_arguments_that_are_not_valid_are_told(images, labels, changes, message):
    with pytest.raises(InputError, match=message) as told:
        front.evaluate(linear, images, labels, **{**QUICK, **changes})
    assert "\n" not in str(told.value)


def _held_networks():
    """Somebody's networks in a few guises, and their weights."""

    class Network:
        def __init__(self):
            self.weights = jnp.asarray(WEIGHTS + 0)

        def __call__(self, images):
            return (images - 0.5).reshape(len(images), -1) @ self.weights

        def logits(self, images):
            return self(images)

    made = [Network() for _ in range(4)]
    first, second, third, fourth = made
    module = _Module(), {"params": {"Dense_0": {"kernel": fourth.weights}}}
    return [first, second.logits, jax.jit(third.__call__), module], made


def test_a_network_is_not_kept(images, labels):
    """Neither by what was compiled for it nor by JAX: a loop over many ends."""

    def attack():
        networks, owners = _held_networks()
        for network in networks:
            for objective in ("margin", lambda logits, _: logits[:, 0]):
                front.evaluate(
                    network, images, labels, objective=objective, attacks="fgsm",
                    progress=False, devices=jax.devices()[:2],
                )  # fmt: skip
        return [weakref.ref(owner.weights) for owner in owners]

    held = attack()
    gc.collect()
    assert [weights() is None for weights in held] == [True] * 4


def test_a_method_is_compiled_once(images, labels):
    """Though every look at it gives a new object."""

    class Network:
        traced = 0

        def logits(self, images):
            self.traced += len(images) > 1
            return linear(images)

    network, counts = Network(), []
    for _ in range(2):
        front.evaluate(network.logits, images, labels, attacks="fgsm", progress=False)
        counts.append(network.traced)
    assert counts[0] == counts[1] > 0


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


@pytest.mark.parametrize(
    "mode",
    [jax.enable_x64(True), jax.debug_nans(True), jax.disable_jit()],
    ids=["x64", "debug_nans", "disable_jit"],
)
def test_modes_of_jax_change_nothing(images, labels, mode):
    how = {**QUICK, "attacks": "pgd_l2", "norm": "l2", "epsilon": 0.1, "steps": 3}
    expected = front.evaluate(linear, images, labels, **how)
    with mode:
        found = front.evaluate(linear, images, labels, **how)
    np.testing.assert_array_equal(found.robust, expected.robust)


def test_within_a_traced_function_it_is_refused(images, labels):
    def evaluate(images, classifier=linear):
        found = front.evaluate(classifier, images, labels, **QUICK)
        return found.robust_accuracy

    calls = {
        "its images": lambda: jax.jit(evaluate)(images),
        "nothing": lambda: jax.jit(lambda _: evaluate(images))(1.0),
        "its weights": lambda: jax.vmap(
            lambda w: evaluate(images, lambda x: linear(x) * w)
        )(jnp.ones(2)),
        "a module's": lambda: jax.vmap(
            lambda w: evaluate(
                images, (_Module(), {"params": {"Dense_0": {"kernel": w}}})
            )
        )(jnp.stack([WEIGHTS, WEIGHTS])),
    }
    for call in calls.values():
        with pytest.raises(InputError, match="evaluate was called within a function"):
            call()


def test_an_objective_of_a_loss_that_was_entered_later(images, labels, monkeypatch):
    """Its name is an objective; entered anew, it is another."""
    found = []
    for sign in (1.0, -1.0):
        loss = losses.Loss(lambda *given, s=sign: s * losses.margin(*given), "x", "y")
        monkeypatch.setitem(losses.LOSSES, "mine", loss)
        how = {**QUICK, "attacks": "fgsm", "epsilon": 0.03, "objective": "mine"}
        del how["steps"]
        found.append(front.evaluate(linear, images, labels, **how).robust_accuracy)
    assert found[0] < found[1]
    monkeypatch.delitem(losses.LOSSES, "mine")
    with pytest.raises(InputError, match="objective='mine' is not valid: use one of"):
        front.evaluate(linear, images, labels, objective="mine", **QUICK)


def test_what_changed_behind_equal_objects_is_seen(images, labels, monkeypatch):
    """A module's own variable, a loss's, an equal classifier; and no hash is needed."""
    held = {"sign": 1.0}

    class Module(nn.Module):
        @nn.compact
        def __call__(self, images):
            return held["sign"] * _Module(name="own")(images)

    class Equal:
        def __init__(self, sign):
            self.sign = sign

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 0

        def __call__(self, images):
            return self.sign * linear(images)

    class Objective:
        __hash__ = None

        def __call__(self, logits, labels):
            return held["sign"] * losses.margin(logits, labels)

    def loss(logits, labels):
        return held["sign"] * losses.margin(logits, labels)

    monkeypatch.setitem(losses.LOSSES, "mine", losses.Loss(loss, "mine", "linear"))
    variables = {"params": {"own": {"Dense_0": {"kernel": WEIGHTS}}}}
    objective, equal = Objective(), {sign: Equal(sign) for sign in (1.0, -1.0)}
    found = {1.0: [], -1.0: []}
    for held["sign"], rows in found.items():
        for classifier, chosen in (
            ((Module(), variables), "margin"),
            (equal[held["sign"]], "margin"),
            (linear, "mine"),
            (linear, objective),
        ):
            how = {"epsilon": 0.03, "attacks": "fgsm", "objective": chosen}
            made = front.evaluate(classifier, images, labels, progress=False, **how)
            rows.append(made.robust_accuracy[0])
    assert found[1.0] == [found[1.0][0]] * 4
    changed = np.array(found[-1.0]) - found[1.0]
    assert (changed[:2] < 0).all()
    assert (changed[2:] > 0).all()


def test_the_draws_are_of_one_kind_whatever_is_usual(images, labels):
    """Of others, what is drawn for an example depends on the batch."""
    how = {"epsilon": 0.03, "attacks": "noise", "progress": False}
    expected = front.evaluate(linear, images, labels, **how)
    with jax.default_prng_impl("rbg"):
        for size in (4, 60):
            found = front.evaluate(linear, images, labels, batch_size=size, **how)
            np.testing.assert_array_equal(found.robust, expected.robust)


def test_weights_that_changed_behind_the_same_function_are_seen():
    """As in a notebook, where a function reads a variable that is trained on."""
    held = {"sign": 1.0}
    images = np.random.default_rng(0).uniform(0.2, 0.8, (6, 2, 2, 1))
    images = images.astype(np.float32)
    labels = (images.sum(axis=(1, 2, 3)) > 2).astype(np.int32)

    def classifier(images):
        logit = held["sign"] * (images.sum(axis=(1, 2, 3)) - 2)
        return jnp.stack([-logit, logit], axis=-1)

    found = []
    for held["sign"] in (1.0, -1.0):
        result = advloss.evaluate(
            classifier, images, labels, epsilon=0.0, attacks="fgsm", progress=False
        )
        found.append(result.natural_accuracy)
    assert found == [1.0, 0.0]


def test_a_function_that_has_a_classifier_is_itself_attacked(images, labels):
    class Wrapped:
        classifier = staticmethod(linear)

        def __call__(self, images):
            return -linear(images)

    how = {"attacks": "noise", "progress": False}
    found = front.evaluate(Wrapped(), images, labels, **how)
    alone = front.evaluate(lambda x: -linear(x), images, labels, **how)
    assert found.natural_accuracy == alone.natural_accuracy


def test_a_threshold_that_changed_behind_the_same_function_is_seen():
    held = {"threshold": 0.60}
    images = np.full((4, 2, 2, 1), 0.62, np.float32)

    def classifier(images):
        above = images.mean(axis=(1, 2, 3)) - held["threshold"]
        return jax.nn.sigmoid(1e4 * jnp.stack([above, -above], axis=-1))

    found = []
    for held["threshold"] in (0.60, 0.64):
        result = advloss.evaluate(
            classifier, images, np.zeros(4, int), attacks="noise", progress=False
        )
        found.append(result.natural_accuracy)
    assert found == [1.0, 0.0]


def test_an_attack_that_is_entered_anew_is_run(images, labels, monkeypatch):
    from advloss.attacks import ATTACKS, Round, direct, example_keys, pgd, settings

    monkeypatch.setitem(ATTACKS, "mine", ATTACKS["noise"]._replace(settings={}))
    with pytest.raises(InputError, match=r"attacks=mine .* the setting epsilon"):
        front.evaluate(linear, images, labels, attacks="mine", progress=False)
    length = ATTACKS["pgd"].settings["step_size"]
    known = {"step_size": length, **settings.epsilon("linf")}
    held, left = {"length": 0.0}, []

    def mine(*batch, epsilon, step_size, objective=losses.margin):
        length = held["length"] * step_size  # A variable of the function's own.
        how = {"steps": 1, "random_start": False, "objective": objective}
        return pgd.__wrapped__(*batch, epsilon=epsilon, step_size=length, **how)

    entry = ATTACKS["noise"]._replace(function=direct.attack(mine), settings=known)
    monkeypatch.setitem(ATTACKS, "mine", entry._replace(rounds=lambda *_: [Round()]))
    how = {"attacks": "mine", "epsilon": 0.1, "step_size": 0.1, "progress": False}
    keys = example_keys(jax.random.key(0), jnp.arange(COUNT))
    for held["length"] in (0.0, 1.0):
        left.append(front.evaluate(linear, images, labels, **how).robust_accuracy[0])
        alone = entry.function(linear, keys, images, labels, epsilon=0.1, step_size=0.1)
        left.append(1 - alone.success.mean())
    assert left[:2] == pytest.approx([0.9, 0.9])
    assert max(left[2:]) < 0.5
    natural = []
    for name in ("noise", "fgsm"):
        monkeypatch.setitem(ATTACKS, "mine", ATTACKS[name])
        found = front.evaluate(
            linear, images, labels, epsilon=0.05, attacks="mine", progress=False
        )
        natural.append(found.backward_passes.sum())
    assert natural[0] == 0 < natural[1]


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


def test_a_network_that_looks_at_the_batch_is_told(images, labels):
    """As batch norm does that was left in the mode of training."""

    def centred(x):
        return linear(x) - linear(x).mean(axis=0, keepdims=True)

    with pytest.raises(InputError, match="gives the first image other logits in anoth"):
        front.evaluate(centred, images, labels, **QUICK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: None, "the attack gives NoneType: it must give an AttackResult"),
        (
            lambda found: found._replace(images=found.images[:, :2]),
            r"gives images of float32 \(1, 2, 4, 1\) for images \(1, 4, 4, 1\)",
        ),
        (lambda found: found._replace(success=True), r"gives success of bool \(\) for"),
        (
            lambda found: 1 / 0,
            r"the attack fails for images .* \(ZeroDivisionError: div",
        ),
    ],
)
def test_an_attack_of_one_s_own_is_held_to_what_attacks_give(
    images, labels, change, message, monkeypatch
):
    from advloss.attacks import ATTACKS, fgsm

    def mine(*batch, epsilon, objective):
        return change(fgsm.__wrapped__(*batch, epsilon=epsilon, objective=objective))

    known = dict(ATTACKS["fgsm"].settings)
    del known["random_start"]
    entry = ATTACKS["fgsm"]._replace(function=mine, settings=known)
    monkeypatch.setitem(ATTACKS, "mine", entry)
    with pytest.raises(InputError, match=message):
        front.evaluate(linear, images, labels, attacks="mine", progress=False)


def test_an_attack_without_rounds_is_not_a_result(images, labels, monkeypatch):
    from advloss.attacks import ATTACKS

    entry = ATTACKS["fgsm"]._replace(rounds=lambda *_: [])
    monkeypatch.setitem(ATTACKS, "mine", entry)
    with pytest.raises(InputError, match="the attack FGSM has no rounds: give at leas"):
        front.evaluate(linear, images, labels, attacks="mine", progress=False)
