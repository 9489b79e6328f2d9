"""Attacks called directly: nothing wrong is answered with a number, and an attack
compiles once."""

import dataclasses
import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss import attacks, losses
from advloss.errors import InputError

pytestmark = pytest.mark.usefixtures("compiled_quickly")
CLASSES = 3
SHAPE = (5, 4, 4, 1)
_PGD = {
    "objective": losses.softmax_cross_entropy,
    "epsilon": 0.1,
    "step_size": 0.05,
    "steps": 3,
}


def _network(weights, images):
    return jnp.tanh(images.reshape(len(images), -1) - 0.5) @ weights


_WEIGHTS = np.random.default_rng(0).normal(size=(16, CLASSES)).astype(np.float32)
classifier = functools.partial(_network, jnp.asarray(_WEIGHTS))


def _batch(shape=SHAPE):
    rng = np.random.default_rng(1)
    images = rng.uniform(size=shape).astype(np.float32)
    labels = rng.integers(0, CLASSES, shape[0]).astype(np.int32)
    keys = attacks.example_keys(jax.random.key(2), jnp.arange(shape[0]))
    return keys, images, labels


def _pgd(*, classifier=classifier, images=None, labels=None, attack=None, **settings):
    keys, *whole = _batch(SHAPE if images is None else np.shape(images))
    keys = settings.pop("keys", keys)
    images = whole[0] if images is None else images
    labels = whole[1] if labels is None else labels
    attack = attack or attacks.pgd
    return attack(classifier, keys, images, labels, **{**_PGD, **settings})


_IMAGES, _LABELS = _batch()[1:]


def _with(array, value):
    changed = array.copy()
    changed[3] = value
    return changed


def _flattens(images):
    """A network to which every layout is the same."""
    return images.reshape(len(images), -1)[:, :CLASSES]


def _logits(value, where):
    """A classifier whose logits are that where the first pixel is above a bound."""

    def classify(images):
        logits = _network(_WEIGHTS, images)
        return jnp.where(images[:, 0, 0] > where, value, logits)

    return classify


def _fab(classifier, keys, images, labels, *, start, **_):
    return attacks.fab(classifier, keys, images, labels, steps=1, start=start)


def _n_fgsm(*given, step_size, steps, **settings):
    return attacks.n_fgsm(*given, **settings)


_AIMS = (_LABELS + 1) % CLASSES
BAD = {
    "images 0..255": ({"images": 255 * _IMAGES}, r"images lie in \[.*, 25\d.*\[0, 1\]"),
    "images -1..1": ({"images": 2 * _IMAGES - 1}, r"images lie in \[-0.9.*\[0, 1\]"),
    "a pixel above 1": (
        {"images": _with(_IMAGES, np.nextafter(np.float32(1), np.float32(2)))},
        r"images lie in \[.*\]: use values in \[0, 1\]",
    ),
    "images nan": (
        {"images": _with(_IMAGES, np.nan)},
        r"16 values of images are not finite",
    ),
    "images inf": ({"images": _with(_IMAGES, np.inf)}, r"images are not finite"),
    "images uint8": (
        {"images": (255 * _IMAGES).astype(np.uint8)},
        r"images are uint8: use floats .*images / 255",
    ),
    "images int32": ({"images": _IMAGES.astype(np.int32)}, r"images are int32: use fl"),
    "images bool": ({"images": _IMAGES > 0.5}, r"images are bool: use floats"),
    "one image": (
        {"images": _IMAGES[0]},
        r"images have shape \(4, 4, 1\): use \[batch, height, width, channels\]",
    ),
    "no channels": ({"images": _IMAGES[..., 0]}, r"images have shape \(5, 4, 4\): use"),
    "no images": (
        {"images": np.zeros((0, 4, 4, 1), np.float32), "labels": np.zeros(0, int)},
        r"images have shape \(0, 4, 4, 1\).*none of them 0",
    ),
    "no pixels": (
        {"images": np.zeros((5, 0, 4, 1), np.float32)},
        r"shape \(5, 0, 4, 1\).*none of them 0",
    ),
    "channels first, grey": (
        {"images": np.zeros((5, 1, 28, 28), np.float32), "classifier": _flattens},
        r"\(5, 1, 28, 28\), channels first: .*transpose\(0, 2, 3, 1\)",
    ),
    "channels first, of colours": (
        {"images": np.zeros((5, 3, 24, 32), np.float32), "classifier": _flattens},
        r"\(5, 3, 24, 32\), channels first",
    ),
    "label too large": (
        {"labels": _with(_LABELS, CLASSES)},
        r"labels\[3\]=3 is no class: use 0 to 2",
    ),
    "label negative": ({"labels": _with(_LABELS, -1)}, r"labels\[3\]=-1 is no class"),
    "target too large": (
        {"targets": _with(_AIMS, CLASSES)},
        r"targets\[3\]=3 is no class: use 0 to 2",
    ),
    "target negative": ({"targets": _with(_AIMS, -2)}, r"targets\[3\]=-2 is no class"),
    "target is the label": (
        {"targets": _with(_AIMS, _LABELS[3])},
        r"targets\[3\]=\d is the label of that example: use another",
    ),
    "epsilon nan": ({"epsilon": np.nan}, r"epsilon=nan is not valid: use a numb"),
    "epsilon inf": ({"epsilon": np.inf}, r"epsilon=inf is not valid"),
    "epsilon negative": ({"epsilon": -0.1}, r"epsilon=-0.1 is not valid: use a number"),
    "epsilon negative, whole": ({"epsilon": -1}, r"epsilon=-1 is not valid"),
    "epsilon negative, an array": (
        {"epsilon": jnp.array(-0.5)},
        r"epsilon=-0.5 is not",
    ),
    "step nan": ({"step_size": np.float32(np.nan)}, r"step_size=nan is not valid"),
    "step negative": ({"step_size": -0.01}, r"step_size=-0.01 is not valid"),
    "steps negative": ({"steps": -1}, r"steps=-1 is not valid"),
    "no restarts": ({"restarts": 0}, r"restarts=0 is not valid: use .*>= 1"),
    "start outside": (
        {"start": (_IMAGES + 0.2).clip(0, 1), "random_start": False},
        r"start is 0.2\d* from the images, epsilon=0.1: use images within epsilon",
    ),
    "start outside, in l2": (
        {
            "start": (_IMAGES + 0.05).clip(0, 1),
            "norm": "l2",
            "random_start": False,
        },
        r"start is 0.\d* from the images, epsilon=0.1",
    ),
    "start outside the box": (
        {"start": _IMAGES - 0.09, "random_start": False},
        r"start lie in \[-0.0",
    ),
    "start nan": (
        {"start": _with(_IMAGES, np.nan), "random_start": False},
        r"16 values of start are not finite",
    ),
    "start of another shape": (
        {"start": _IMAGES[:1], "random_start": False},
        r"start has shape \(1, 4, 4, 1\): use that of the images, \(5, 4, 4, 1\)",
    ),
    "start that a random one replaces": (
        {"start": _IMAGES},
        r"start is given: use it with random_start=False",
    ),
    # Of attacks without a radius it is checked, too.
    "start of fab outside the box": (
        {"attack": _fab, "start": _IMAGES - 2},
        r"start lie in \[-\d.*\]: use values in \[0, 1\]",
    ),
    "start of fab nan": (
        {"attack": _fab, "start": _with(_IMAGES, np.nan)},
        r"16 values of start are not finite",
    ),
    "start of fab of another shape": (
        {"attack": _fab, "start": _IMAGES[:1]},
        r"start has shape \(1, 4, 4, 1\)",
    ),
    "start of fab of bytes": (
        {"attack": _fab, "start": (255 * _IMAGES).astype(np.uint8)},
        r"start are uint8: use floats",
    ),
    # Infinite in float32, in which all is computed.
    "epsilon huge": ({"epsilon": 1e39}, r"epsilon=1e\+39 is not valid: use a numb"),
    "step whose square is not finite": (
        {"step_size": 3e19, "norm": "l2"},
        r"step_size=3e\+19 is not valid: use a number in \[0, 1e\+18\]",
    ),
    "step huge": ({"step_size": 10**39}, r"step_size=10+ is not valid: use a numb"),
    "an offset of no class": (
        {"attack": attacks.multi_targeted, "offset": 2 * CLASSES},
        r"offset=6 leads back to the label: use 1 to 2",
    ),
    "images masked": (
        {"images": np.ma.masked_array(_IMAGES, _IMAGES > 0.5)},
        r"\d+ values of images are masked: use arrays without a mask",
    ),
    "labels masked": (
        {"labels": np.ma.masked_array(_LABELS, _LABELS > 0)},
        r"\d values of labels are masked",
    ),
    "targets masked": (
        {"targets": np.ma.masked_array(_AIMS, _AIMS > 0)},
        r"\d values of targets are masked",
    ),
    "logits nan": (
        {"classifier": _logits(np.nan, where=-1)},
        r"logits are not finite at 5 of 5 images: nothing can be said",
    ),
    "logits inf": (
        {"classifier": _logits(np.inf, where=-1)},
        r"logits are not finite at 5 of 5 images",
    ),
    "logits nan of some images": (
        {"classifier": _logits(np.nan, where=0.5)},
        r"logits are not finite at [1-4] of 5 images",
    ),
    "logits nan of attacked images alone": (
        {
            "images": np.full(SHAPE, 0.5, np.float32),
            "classifier": _logits(np.nan, where=0.55),
            "objective": lambda logits, labels: logits[:, 0],
            "start": np.full(SHAPE, 0.6, np.float32),
            "random_start": False,
            "steps": 0,
        },
        r"logits are not finite at 5 of 5 images",
    ),
    "no logits": (
        {"classifier": lambda images: images.sum(axis=(1, 2, 3))},
        r"the classifier gives float32 \(5,\) for 5 images: .*\[5, classes\]",
    ),
    "logits and more": (
        {"classifier": lambda images: (classifier(images), images)},
        r"the classifier gives tuple for 5 images",
    ),
    "logits of one class": (
        {"classifier": lambda images: classifier(images)[:, :1]},
        r"gives float32 \(5, 1\) for 5 images: .* at least 2 classes",
    ),
    "predictions": (
        {"classifier": lambda images: jnp.argmax(classifier(images), axis=-1)},
        r"the classifier gives int32 \(5,\) for 5 images",
    ),
    "a classifier that fails": (
        {"classifier": lambda images: images @ _WEIGHTS},
        r"the classifier fails for images of shape \(5, 4, 4, 1\): .*TypeError: dot_",
    ),
    "no classifier": ({"classifier": None}, r"the classifier fails .*not callable"),
    "an objective by name": (
        {"objective": "margin"},
        r"objective='margin' is not valid: use a function .*losses.margin",
    ),
    "an objective of the batch": (
        {"objective": lambda logits, labels: losses.margin(logits, labels).mean()},
        r"the objective gives float32 \(\) for 5 images: .*float \[5\]",
    ),
    "an objective of each class": (
        {"objective": lambda logits, labels: logits},
        r"the objective gives float32 \(5, 3\) for 5 images",
    ),
    "an objective and more": (
        {"objective": lambda logits, labels: (logits[:, 0], labels)},
        r"the objective gives tuple for 5 images",
    ),
    "an objective that fails": (
        {"objective": lambda logits, labels: logits @ logits},
        r"the objective fails for logits \(5, 3\) and labels \(5,\) \(TypeError",
    ),
    "labels one-hot": (
        {"labels": np.eye(CLASSES)[_LABELS]},
        r"labels are float64: use whole numbers, 0 to 2 \(.* labels.argmax\(-1\)\)",
    ),
    "labels float": ({"labels": _LABELS / 1.0}, r"labels are float64: use whole"),
    "labels of fewer": (
        {"labels": _LABELS[:3]},
        r"labels have shape \(3,\): use \(5,\)",
    ),
    "targets float": ({"targets": _AIMS / 1.0}, r"targets are float64: use whole"),
    "targets of fewer": ({"targets": _AIMS[:1]}, r"targets have shape \(1,\)"),
    "images complex": ({"images": _IMAGES + 0j}, r"images are complex64: use floats"),
    "steps float": ({"steps": 3.0}, r"steps=3.0 is not valid: use a whole number >= 0"),
    "steps bool": ({"steps": True}, r"steps=True is not valid: use a whole number"),
    "restarts float": ({"restarts": 2.0}, r"restarts=2.0 is not valid"),
    "epsilon bool": ({"epsilon": True}, r"epsilon=True is not valid: use a numb"),
    "epsilon several": (
        {"epsilon": [0.1, 0.2]},
        r"epsilon=\[0.1, 0.2\] is not valid: use a number in \[0, 1e\+18\]",
    ),
    "epsilon for each image": (
        {"epsilon": np.full(5, 0.1)},
        r"epsilon=\[0.1 0.1 0.1 0.1 0.1\] is not valid",
    ),
    "epsilon for each row": ({"epsilon": jnp.full(4, 0.1)}, r"epsilon=.* is not valid"),
    "step a text": ({"step_size": "0.1"}, r"step_size='0.1' is not valid"),
    "random start a number": ({"random_start": 1}, r"random_start=1 .*True or False"),
    "another norm": ({"norm": "l0"}, r"norm='l0' is not valid: use one of linf, l2"),
    "norm a number": ({"norm": 2}, r"norm=2 is not valid"),
    "an offset of JAX of no class": (
        {"attack": attacks.multi_targeted, "offset": jnp.int32(CLASSES)},
        r"offset=3 leads back to the label: use 1 to 2",
    ),
    "a norm of n_fgsm": (
        {"attack": _n_fgsm, "norm": "l2"},
        r"norm='l2' is no setting of n_fgsm, which starts once, in linf",
    ),
    "restarts of n_fgsm": (
        {"attack": _n_fgsm, "restarts": 3},
        r"restarts=3 is no setting of n_fgsm",
    ),
    "no keys": ({"keys": None}, r"keys=None is not valid: use attacks.example_keys"),
    "keys in a list": (
        {"keys": [jax.random.key(i) for i in range(5)]},
        r"keys=.* is not valid: use attacks.example_keys",
    ),
    "keys that are numbers": ({"keys": jnp.arange(5)}, r"keys=\[0 1 2 3 4\] is not"),
    "logits of another batch": (
        {"classifier": lambda images: classifier(images)[:1]},
        r"the classifier gives float32 \(1, 3\) for 5",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case):
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message) as raised:
        _pgd(**changes)
    assert "\n" not in str(raised.value)


def _arguments(entry):
    """Least settings of any attack, by what it has."""
    small = {"epsilon": 0.1, "step_size": 0.05, "steps": 2, "rounds": 2}
    small |= {"binary_search_steps": 1, "search_steps": 1, "draws": 2}
    names = set(entry.settings)
    if entry.kind == attacks.MINIMUM_NORM:
        names.discard("epsilon")
    chosen = {key: value for key, value in small.items() if key in names}
    if "objective" in names:
        chosen["objective"] = losses.softmax_cross_entropy
    if "loss" in names:  # Of so few classes there is no targeted DLR.
        chosen["loss"] = "margin"
    return chosen


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_every_registered_attack_is_guarded(name):
    entry = attacks.ATTACKS[name]
    run = functools.partial(entry.function, classifier)
    keys, images, labels = _batch()
    chosen = _arguments(entry)
    with pytest.raises(InputError, match=r"images lie in"):
        run(keys, 255 * images, labels, **chosen)
    with pytest.raises(InputError, match=r"labels\[3\]=7 is no class"):
        run(keys, images, _with(labels, 7), **chosen)
    for key, value in chosen.items():
        if key not in ("objective", "loss"):
            with pytest.raises(InputError, match=f"{key}=-{value} is not valid"):
                run(keys, images, labels, **{**chosen, key: -value})
    nan = _logits(np.nan, where=-1)
    with pytest.raises(InputError, match=r"not finite at 5 of 5"):
        entry.function(nan, keys, images, labels, **chosen)


def test_what_would_be_ignored_is_refused():
    """FGSM has one step, of the ball's radius; noise has none."""
    for attack in (attacks.fgsm, attacks.noise):
        for more in ({"steps": 5}, {"step_size": 0.01}):
            settings = {"objective": losses.hinge, "epsilon": 0.1, **more}
            with pytest.raises(TypeError, match="multiple values"):
                attack(classifier, *_batch(), **settings)


def test_keys_of_another_shape_are_assertions():
    keys, images, labels = _batch()
    for wrong in (
        (keys[:3], images, labels),
        (jax.random.key(0), images, labels),
        (jax.random.split(jax.random.PRNGKey(0), len(images)), images, labels),
    ):
        with pytest.raises(AssertionError):
            attacks.pgd(classifier, *wrong, **_PGD)


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": 0},
        {"epsilon": 1},
        {"epsilon": 2**40},
        {"epsilon": jax.device_put(jnp.float32(0.1), jax.devices()[1])},
        {"images": _IMAGES.astype(np.float64).clip(None, 1 + 1e-12)},
        {"epsilon": np.float64(0.1), "steps": np.int64(3), "restarts": np.int32(2)},
        {"epsilon": jnp.float32(0.1), "random_start": np.False_},
        {"epsilon": jnp.bfloat16(0.125), "steps": jnp.array(3)},
        {"images": _IMAGES.astype(np.float64), "labels": _LABELS.astype(np.int64)},
        {"images": np.float16(_IMAGES)},
        {"images": _IMAGES.astype(jnp.bfloat16)},
        {"images": _IMAGES.tolist(), "labels": _LABELS.tolist()},
        {"images": np.broadcast_to(_IMAGES[:1], SHAPE)[:, ::-1]},  # And read-only.
        {"images": jax.device_put(_IMAGES, jax.devices()[1])},
        {"labels": _LABELS.astype(np.uint8)},
        {"images": jnp.zeros(SHAPE)},
        {"images": jnp.ones(SHAPE)},
        {"start": (_IMAGES + 0.1).clip(0, 1), "random_start": False},
        {"images": np.ones((5, 1, 2, 8), np.float32)},  # Wide, not channels first.
    ],
    ids=lambda changes: "-".join(changes),
)
def test_what_is_valid_is_taken(changes):
    """NumPy's numbers, whole numbers, and ends."""
    result = _pgd(**changes)
    assert result.images.dtype == jnp.float32
    assert result.images.devices() == jnp.asarray(changes.get("images", 0.0)).devices()
    assert np.isfinite(result.images).all()
    expected = int(changes.get("steps", 3)) * int(changes.get("restarts", 1))
    assert (result.backward_passes == expected).all()


class _Traced:
    """A classifier that counts how often it is traced."""

    def __init__(self, weights):
        self.weights, self.count = weights, 0

    def __call__(self, images):
        self.count += isinstance(images, jax.core.Tracer)
        return _network(self.weights, images)


def test_two_calls_are_one_compilation():
    """Whatever their values; another shape or number of steps is another."""
    network = _Traced(jnp.asarray(_WEIGHTS))
    _pgd(classifier=network)
    once = network.count
    assert once
    # Every call looks at the network anew, once; more is a compilation.
    _pgd(classifier=network)
    _pgd(classifier=network, images=_IMAGES[::-1], epsilon=0.2, step_size=0.3)
    _pgd(classifier=network, labels=_AIMS, epsilon=np.float32(0.5))
    assert network.count == once + 3
    _pgd(classifier=network, steps=4)
    twice = network.count
    assert twice > once + 4
    _pgd(classifier=network, images=_IMAGES[:2])
    assert network.count > twice + 1


def test_a_changed_network_is_not_answered_from_its_old_program():
    """The same object with other weights, as a notebook's after more training."""
    network = _Traced(jnp.asarray(_WEIGHTS))
    before = _pgd(classifier=network)
    network.weights = -network.weights
    after = _pgd(classifier=network)
    fresh = _pgd(classifier=_Traced(-jnp.asarray(_WEIGHTS)))
    assert not np.array_equal(before.images, after.images)
    for ours, theirs in zip(after, fresh, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@dataclasses.dataclass
class _Module:
    """It compares by its arrays, and so can't be hashed."""

    weights: jax.Array

    def __call__(self, images):
        return _network(self.weights, images)


def test_equal_networks_are_not_the_same():
    """As of a class that compares by name."""

    @dataclasses.dataclass(frozen=True)
    class Named:
        name: str
        sign: float = dataclasses.field(compare=False)

        def __call__(self, images):
            return self.sign * classifier(images)

    first, second = Named("mine", 1.0), Named("mine", -1.0)
    for network in (first, second):
        found = _pgd(classifier=network)
        _equal(found, _pgd(classifier=lambda x, n=network: n.sign * classifier(x)))


def test_a_changed_rule_of_a_derivative_is_seen():
    """As of BPDA, which puts a gradient where the network has none."""
    sign = [1.0]

    @jax.custom_vjp
    def rounded(images):
        return jnp.round(8 * images) / 8

    rounded.defvjp(lambda x: (rounded(x), None), lambda _, g: (sign[0] * g,))
    found = []
    for sign[0] in (1.0, 0.0):
        found.append(_pgd(classifier=lambda x: classifier(rounded(x)), epsilon=0.3))
        kept = _pgd(classifier=_rounds(rounded), epsilon=0.3)
        _equal(kept, found[-1])
    assert not found[0].zero_gradient.any()
    assert found[1].zero_gradient.any()


@functools.cache
def _rounds(rounded):
    return lambda images: classifier(rounded(images))


def test_a_function_of_the_host_that_changed_is_seen():
    shape = jax.ShapeDtypeStruct((len(_IMAGES), CLASSES), np.float32)
    held = {}

    def network(images):
        return jax.pure_callback(held["logits"], shape, images)

    found = []
    for sign in (1, -1):
        held["logits"] = lambda x, sign=sign: np.float32(
            sign * (np.tanh(x.reshape(len(x), -1) - 0.5) @ _WEIGHTS)
        )
        how = {"objective": losses.margin, "epsilon": 0.0, "queries": 1}
        labels = np.argmax(_network(_WEIGHTS, _IMAGES), axis=-1)
        found.append(attacks.square(network, _batch()[0], _IMAGES, labels, **how))
    assert not found[0].success.any()
    assert found[1].success.all()


def test_a_network_that_can_not_be_hashed_is_attacked():
    _equal(_pgd(classifier=_Module(jnp.asarray(_WEIGHTS))), _pgd())


def test_a_changed_objective_is_not_answered_from_its_old_program():
    sign = [1.0]

    def objective(logits, labels):
        return sign[0] * losses.margin(logits, labels)

    before = _pgd(objective=objective)
    sign[0] = -1.0
    after = _pgd(objective=objective)
    assert (after.objective > 0).any()
    assert not np.array_equal(before.images, after.images)


@pytest.mark.parametrize("name", attacks.ATTACKS)
def test_floats_of_other_sizes_are_computed_in_float32(name):
    """Logits and objectives of halves, and doubles where JAX makes them."""
    entry = attacks.ATTACKS[name]

    def halves(images):
        return classifier(images).astype(jnp.bfloat16)

    def doubles(images):
        return classifier(images).astype(jnp.float64)

    def types(classifier, *batch):
        attack = functools.partial(entry.function, classifier, **_arguments(entry))
        return jax.tree.map(
            lambda x: (x.shape, x.dtype), jax.eval_shape(attack, *batch)
        )

    batch = _batch()
    expected = types(classifier, *batch)
    assert types(halves, *batch) == expected
    with jax.enable_x64(True):
        assert types(classifier, *batch) == expected
        assert types(doubles, *batch) == expected


@pytest.mark.parametrize("kind", ["halves", "doubles"])
def test_a_direct_call_is_of_float32(kind):
    """It gives what is given of the same logits in float32."""
    weights = _WEIGHTS.astype(jnp.bfloat16)
    expected = _pgd(classifier=functools.partial(_network, weights.astype(np.float32)))
    with jax.enable_x64(kind == "doubles"):
        dtype = jnp.float64 if kind == "doubles" else jnp.float32
        found = _pgd(
            classifier=lambda x: _network(weights.astype(dtype), x.astype(dtype)),
            objective=lambda *given: losses.softmax_cross_entropy(*given).astype(dtype),
            images=_IMAGES.astype(dtype),
            epsilon=np.asarray(0.1, dtype),
        )
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(found.images, expected.images, atol=1e-6)


def test_a_network_is_not_kept():
    """Neither by what was compiled for it nor by JAX."""

    def attack():
        weights = jnp.asarray(_WEIGHTS + 0)
        network = functools.partial(_network, weights)
        _pgd(classifier=network)
        _pgd(classifier=network, steps=2)
        return weakref.ref(weights)

    held = attack()
    gc.collect()
    assert held() is None


# The same functions in another norm or with another objective.
_VARIANTS = (
    "apgd_l2", "apgd_ce", "apgd_ce_l2", "apgd_dlr", "apgd_dlr_l2", "apgd_margin",
    "apgd_margin_l2", "apgd_t_l2", "apgd_t_margin", "apgd_t_margin_l2", "fab_l2",
    "fab_t_l2", "fmn_l1", "fmn_l2", "multi_targeted_l2", "pgd_l2", "square_l2",
)  # fmt: skip


@pytest.mark.parametrize("name", [n for n in attacks.ATTACKS if n not in _VARIANTS])
def test_a_direct_call_equals_the_call_under_jit(name):
    entry = attacks.ATTACKS[name]
    attack = functools.partial(entry.function, classifier, **_arguments(entry))
    batch = jax.tree.map(jnp.asarray, _batch())
    direct, compiled = attack(*batch), jax.jit(attack)(*batch)
    for field in direct._fields:
        ours, theirs = getattr(direct, field), getattr(compiled, field)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6, err_msg=field)


def _equal(one, other):
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_traced_arguments_pass_through():
    """Under jit, vmap or both, each argument alone."""
    keys, images, labels = jax.tree.map(jnp.asarray, _batch())
    expected = attacks.pgd(classifier, keys, images, labels, **_PGD)

    def by(**changes):
        arguments = {"keys": keys, "images": images, "labels": labels, **_PGD}
        return attacks.pgd(classifier, **{**arguments, **changes})

    jit, vmap = jax.jit, jax.vmap
    for name, value, mapped in (
        ("images", images, vmap),
        ("labels", labels, lambda run: jit(vmap(run))),
        ("keys", keys, lambda run: vmap(jit(run))),
        ("epsilon", jnp.float32(0.1), vmap),
        ("step_size", jnp.float32(0.05), lambda run: vmap(jit(run), axis_size=2)),
    ):
        two = {name: jnp.stack([value, value])}
        found = mapped(lambda changes: by(**changes))(two)
        _equal(jax.tree.map(lambda x: x[1], found), expected)
    _equal(jit(lambda epsilon: by(epsilon=epsilon))(0.1), expected)


def test_a_classifier_may_hold_traced_arrays():
    """All other arguments are known: the call is of the program around it."""
    batch = _batch()
    expected = attacks.pgd(classifier, *batch, **_PGD)

    def run(weights):
        return attacks.pgd(functools.partial(_network, weights), *batch, **_PGD)

    weights = jnp.asarray(_WEIGHTS)
    two = jnp.stack([-weights, weights])
    for run_two in (jax.vmap(run), jax.jit(jax.vmap(run))):
        _equal(jax.tree.map(lambda x: x[1], run_two(two)), expected)
    with jax.checking_leaks():
        _equal(jax.jit(run)(weights), expected)
    # And once more outside: nothing of these programs is left behind.
    _equal(run(weights), expected)


def test_an_objective_may_hold_traced_numbers():
    batch = _batch()

    def run(margin):
        objective = functools.partial(losses.hinge, margin=margin)
        return attacks.pgd(classifier, *batch, **{**_PGD, "objective": objective})

    expected = run(0.5)
    _equal(jax.jit(run)(0.5), expected)
    found = jax.vmap(run)(jnp.array([2.0, 0.5]))
    _equal(
        jax.tree.map(lambda x: x[1] if x.ndim and len(x) == 2 else x, found), expected
    )


def test_values_within_a_program_are_not_judged():
    """Its NaN logits never fool, and its images are still images."""
    keys, images, labels = _batch()
    nan = _logits(np.nan, where=-1)
    result = jax.jit(functools.partial(attacks.pgd, nan, **_PGD))(keys, images, labels)
    assert not result.success.any()
    assert not result.worst_success.any()
    assert np.isfinite(result.images).all()


@pytest.mark.parametrize(
    ("attack", "settings", "message"),
    [
        (
            attacks.fmn,
            {"gamma": 5.0},
            r"gamma=5.0 is not valid: use a number in \[0, 1",
        ),
        (attacks.ddn, {"initial_norm": 0}, r"initial_norm=0 is not valid: .*> 0"),
        (attacks.square, {"p_init": 0.0}, r"p_init=0.0 is not valid: .*\(0, 1\]"),
        (attacks.square, {"p_init": 5}, r"p_init=5 is not valid: .*\(0, 1\]"),
        (attacks.fab, {"alpha_max": 3.0}, r"alpha_max=3.0 is not valid"),
        (attacks.carlini_l2, {"learning_rate": 0}, r"learning_rate=0 is not valid"),
        (attacks.carlini_linf, {"decay": 2.0}, r"decay=2.0 is not valid"),
        (attacks.carlini_l0, {"share": 2.0}, r"share=2.0 is not valid"),
        (attacks.lbfgs, {"initial_constant": 0.0}, r"initial_constant=0.0 is not va"),
        (
            attacks.apgd_t,
            {"loss": "nix"},
            r"loss='nix' is not valid: use one of dlr, m",
        ),
        (attacks.apgd_t, {"loss": losses.margin}, r"loss=.* is not valid"),
        (attacks.ddn, {"step_size": 0}, r"step_size=0 is not valid: use a finite num"),
        (attacks.fmn, {"step_size": 0.0}, r"step_size=0.0 is not valid: use a finite"),
        (attacks.fmn_l1, {"step_size": 0}, r"step_size=0 is not valid: use a finite"),
        (attacks.fab, {"norm": "l1"}, r"norm='l1' is not valid: use one of linf, l2"),
        (attacks.fab_t, {"norm": "l1"}, r"norm='l1' is not valid: use one of linf, l2"),
        (
            attacks.square,
            {"norm": "l1"},
            r"norm='l1' is not valid: use one of linf, l2",
        ),
    ],
)
def test_settings_have_the_ranges_that_they_have_in_configs(attack, settings, message):
    needed = {"epsilon": 0.1} if attack in (attacks.square, attacks.apgd_t) else {}
    if attack in (attacks.square, attacks.lbfgs):
        needed["objective"] = losses.margin
    with pytest.raises(InputError, match=message):
        attack(classifier, *_batch(), **needed, **settings)


@pytest.mark.parametrize(
    ("key", "indices", "message"),
    [
        (
            jax.random.key(0),
            [0.2, 0.7],
            r"indices of float64 \(2,\) are not valid: use",
        ),
        (jax.random.key(0), 3, r"indices of int64 \(\) are not valid"),
        (
            jax.random.key(0),
            np.zeros((2, 2), int),
            r"indices of int64 \(2, 2\) are not",
        ),
        (0, [0, 1], "key=0 is not valid: use one typed key, such as jax.random.key"),
        (jax.random.PRNGKey(0), [0, 1], r"key=\[0 0\] is not valid: use one typed key"),
    ],
)
def test_what_gives_no_keys_is_one_line(key, indices, message):
    with pytest.raises(InputError, match=message):
        attacks.example_keys(key, indices)


def test_indices_may_be_a_list():
    key = jax.random.key(0)
    found, same = (attacks.example_keys(key, i) for i in ([3, 1], jnp.array([3, 1])))
    np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(same))


def test_a_traced_offset_never_leads_to_the_label():
    settings = {**_PGD, "objective": losses.margin}

    def attack(offset):
        return attacks.multi_targeted(classifier, *_batch(), offset=offset, **settings)

    first = jax.jit(attack)(1).images
    for back in (0, CLASSES):
        np.testing.assert_array_equal(jax.jit(attack)(back).images, first)
