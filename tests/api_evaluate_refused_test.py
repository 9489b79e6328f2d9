"""What `advloss.evaluate` refuses: each in one line that names it."""

from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_linear import QUICK, WEIGHTS, Module, linear, linear_images, linear_labels

from advloss import attacks
from advloss.errors import InputError
from advloss.evaluation import front

pytestmark = pytest.mark.usefixtures("compiled_quickly", "one_device")


@pytest.fixture(scope="module")
def images():
    return linear_images()


@pytest.fixture(scope="module")
def labels(images):
    return linear_labels(images)


class _Whole(nn.Module):
    @nn.compact
    def __call__(self, images):
        return jnp.round(Module(name="own")(images)).astype(int)


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
    (lambda x, y: (np.ma.masked_array(x, x > 0.6), y), r"values of images are masked"),
    (lambda x, y: (x, np.ma.masked_array(y, y == 0)), r"values of labels are masked"),
]


@pytest.mark.parametrize(("change", "message"), BAD_DATA)
def test_data_that_are_not_valid_are_told(images, labels, change, message):
    images, labels = change(images, labels)
    with pytest.raises(InputError, match=message) as told:
        front.evaluate(linear, images, labels, **QUICK)
    assert "\n" not in str(told.value)


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
    ((Module(), {}), r"the classifier fails .*ScopeCollectionNotFound"),
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
    (
        {"objective": "margin", "attacks": "apgd_t_margin"},
        r"objective='margin' changes nothing: apgd_t_margin has no objective; leave",
    ),
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
                images, (Module(), {"params": {"Dense_0": {"kernel": w}}})
            )
        )(jnp.stack([WEIGHTS, WEIGHTS])),
    }
    for call in calls.values():
        with pytest.raises(InputError, match="evaluate was called within a function"):
            call()


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


@pytest.mark.parametrize("name", ["nothing", "pgd_l2", "n_fgsm"])
def test_a_suite_of_one_s_own_has_attacks_of_its_norm(
    images, labels, monkeypatch, name
):
    """Of another norm, its images would count as within epsilon of this one."""
    mine = attacks.Suite("mine", "linf", ("fgsm", name))
    monkeypatch.setitem(attacks.SUITES, "mine", mine)
    with pytest.raises(InputError, match=rf"attacks='mine' names {name}, which"):
        front.evaluate(linear, images, labels, attacks="mine", progress=False)
