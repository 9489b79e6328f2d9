"""An attack called directly: its input is checked, and its program compiled once."""

import contextlib
import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advloss.attacks import base, checks, given
from advloss.attacks.kept import in_float32, kept, stand_in
from advloss.errors import InputError
from advloss.registry import Valid
from advloss.types import Array, AttackResult, Classifier, Objective, PyTree

# What any attack's settings may be: some hand on those of others.
_KINDS: dict[str, frozenset[Any]] = {}
# Of arrays in programs, whatever JAX's own default is.
_TYPES = {"f": np.float32, "i": np.int32}
# Where functions stay as they are.
_FIXED = str(Path(jax.__file__).parent), str(Path(__file__).parents[1])


def attack(
    function: Callable[..., AttackResult], **ranges: Valid
) -> Callable[..., AttackResult]:
    """Lets an attack be called on arrays of a notebook as within a compiled program.

    Within one (where an argument is traced, or an array that the classifier or the
    objective holds) the call is passed on, with logits in float32. Elsewhere values are
    checked, images and logits become float32, and the attack runs as one program,
    compiled once for each classifier, objective, shape and choice of static settings;
    floats and arrays are its arguments. Classifier and objective must be the same
    objects then. What they hold is part of the program: where it has changed since, the
    program is compiled anew, and where the attack is another than it was. It is kept as
    long as the classifier is.

    Args:
        function: the attack.
        **ranges: of settings that this attack takes fewer values of than others do.

    Raises:
        InputError: images that are no floats, not finite or not in [0, 1], labels or
            targets that are no classes, a target that is the label, a setting of
            another type, a number that is negative or not finite, `start` outside the
            ball, an empty batch, channels first, a classifier or an objective that
            fails or gives another shape, logits that are not finite; the message names
            the argument.
    """
    own, ours = checks.kinds(function), function.__module__.startswith("advloss.")
    _KINDS.update(own)

    @functools.wraps(function)
    def checked(
        classifier: Classifier,
        keys: Array,
        images: Array,
        labels: Any,
        **settings: Any,
    ) -> AttackResult:
        traced = functools.partial(_within, function, classifier, keys, images, labels)
        if checks.is_traced((keys, images, labels, settings)):
            return traced(settings)
        seen = checks.check_images(images)
        # On the device where they are.
        images = jnp.asarray(
            images if isinstance(images, jax.Array) else seen, jnp.float32
        )
        settings = {key: checks.plain(value) for key, value in settings.items()}
        for key, value in settings.items():
            kinds = {**_KINDS, **own}.get(key, frozenset())
            checks.check_setting(key, value, kinds)
            if ours:
                checks.check_own(key, value, ranges)
            if float in kinds and value is not None:  # Whole numbers, too.
                settings[key] = np.asarray(value, np.float32)
        try:
            network = look(classifier, images)
            classes = given.count_classes(network.result, len(images))
            held = network.program
            if (objective := settings.get("objective")) is not None:
                held += look_at_objective(objective, len(images), classes).program
            bound = functools.partial(function, **settings)
            held += look_at_attack(bound, images.shape, classes).program
        except checks.TracedError:
            return traced(settings)
        labels = checks.check_labels(labels, len(images), classes)
        checks.check_keys(keys)
        base.check_arguments(keys, images, labels)
        settings |= checks.check_aims(settings, seen, labels, classes)
        arrays = {  # Of the host, wherever they lay: they go where the images are.
            key: np.asarray(value, _TYPES.get(jnp.result_type(value).kind))
            for key, value in settings.items()
            if isinstance(value, float | np.ndarray | jax.Array)
        }
        static = tuple((k, v) for k, v in settings.items() if k not in arrays)
        run = _program(stand_in(classifier, network.arrays), function, static, held)
        result, finite = run(keys, images, labels, arrays)
        # Within a program that is being traced, values are not known.
        if not checks.is_traced(finite) and not finite.all():
            raise InputError(
                f"the classifier's logits are not finite at {int((~finite).sum())} of "
                f"{len(finite)} images: nothing can be said of its robustness"
            )
        return result

    return checked


def _within(
    function: Callable[..., AttackResult],
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    settings: dict[str, Any],
) -> AttackResult:
    """A call within a compiled program, of logits and objectives in float32."""
    if settings.get("objective") is not None:
        settings = {**settings, "objective": in_float32(settings["objective"])}
    return function(in_float32(classifier), keys, images, labels, **settings)


class Look(NamedTuple):
    """What a function computes of arrays of some shapes.

    Attributes:
        program: the digest of all of it: where what the function computes or holds has
            changed behind the same object, it is another.
        lasting: the same digest in every process: which function is called on the host
            is left out, as only this process can tell.
        arrays: the digest of the arrays that it holds.
        result: the shapes and types of what it gives.
    """

    program: bytes
    lasting: bytes
    arrays: bytes
    result: Any


def look(classifier: Callable[..., Any], images: Any, *variables: PyTree) -> Look:
    """A classifier's program; nothing is computed.

    Args:
        classifier: images, and `variables` where they are given -> logits.
        images: an array of their shape.
        *variables: what enters the program as arguments.

    Raises:
        InputError: the classifier fails.
        TracedError: it holds arrays that are traced.
    """
    with checks.blamed(
        f"the classifier fails for images of shape {images.shape}: it must be a JAX "
        "function of images [batch, height, width, channels]"
    ):
        shape = jax.ShapeDtypeStruct(images.shape, np.float32)
        return fingerprint(classifier, shape, *variables)


def look_at_objective(objective: Objective, count: int, classes: int) -> Look:
    """An objective's program for that many images and classes.

    Raises:
        InputError: the objective fails, or gives no number for each image.
        TracedError: it holds arrays that are traced.
    """
    logits = jax.ShapeDtypeStruct((count, classes), np.float32)
    labels = jax.ShapeDtypeStruct((count,), np.int32)
    with checks.blamed(
        f"the objective fails for logits {logits.shape} and labels {labels.shape}"
    ):
        found = fingerprint(objective, logits, labels)
    given.check_values(found.result, count)
    return found


def look_at_attack(
    attack: Callable[..., AttackResult], shape: tuple[int, ...], classes: int
) -> Look:
    """The program of an attack of one's own, whatever it attacks.

    Of one of this package, which stays as it is, the digests are empty.

    Args:
        attack: with its settings bound.
        shape: of the images.
        classes: how many there are.

    Raises:
        InputError: one of one's own fails, or gives no `AttackResult` of such images.
    """
    own = inspect.unwrap(getattr(attack, "func", attack))
    if getattr(own, "__module__", "").startswith("advloss."):
        return Look(b"", b"", b"", None)

    def program(images: Array) -> AttackResult:
        def logits(images: Array) -> Array:
            return jnp.tile(images.reshape(len(images), -1)[:, :1], classes)

        keys = base.example_keys(jax.random.key(0), jnp.arange(len(images)))
        return attack(logits, keys, images, jnp.zeros(len(images), jnp.int32))

    with checks.blamed(f"the attack fails for images {shape}"):
        found = fingerprint(program, jax.ShapeDtypeStruct(shape, np.float32))
    given.check_result(found.result, shape)
    return found


def fingerprint(function: Callable[..., Any], *arrays: Any) -> Look:
    """What a function computes of arrays of these shapes; nothing is computed.

    Raises TracedError where it holds arrays that are traced.
    """
    # A function that is new to JAX, which would answer for an old one from its cache.
    made, result = jax.make_jaxpr(lambda *xs: function(*xs), return_shape=True)(*arrays)
    found, equations = [made], [e for each in _programs(made) for e in each.eqns]
    if any(map(_has_own_rule, equations)):
        # Rules of derivatives, as of BPDA, are called for gradients alone. Of what has
        # no gradient, an attack that asks for one says so.
        with contextlib.suppress(Exception):
            found.append(jax.make_jaxpr(_gradient(function))(*arrays))
    held = [array for each in _programs(found) for array in getattr(each, "consts", ())]
    if checks.is_traced(held):
        raise checks.TracedError("evaluate was called")
    # Addresses of functions in memory say nothing, but of those that run on the host.
    text = re.sub(r"0x[0-9a-f]+", "", "".join(map(str, found)))
    calls = [id(call) for equation in equations for call in _on_host(equation)]
    parts = [hashlib.blake2b(_bytes(array)).digest() for array in held]
    constants = hashlib.blake2b(b"".join(parts)).digest()
    lasting = hashlib.blake2b(text.encode()).digest() + constants
    return Look(lasting + str(calls).encode(), lasting, constants, result)


def _gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function's pull of ones back to its first argument."""

    def pulled(first: Array, *rest: Any) -> Array:
        found, pull = jax.vjp(lambda x: function(x, *rest), first)
        return pull(jnp.ones_like(found))

    return pulled


def _has_own_rule(equation: Any) -> bool:
    """Whether it has a rule of derivatives that is neither JAX's nor ours."""
    if not equation.primitive.name.startswith("custom_"):
        return False
    body = getattr(equation.params.get("call_jaxpr"), "jaxpr", None)
    source = str(getattr(body, "debug_info", ""))
    return not any(folder in source for folder in _FIXED)


def _on_host(equation: Any) -> Iterator[Any]:
    """The functions that run in Python, whatever they are then."""
    if equation.primitive.name in ("pure_callback", "io_callback"):
        call = equation.params.get("callback")
        yield getattr(call, "callback_func", call)


def _bytes(array: Array) -> bytes:
    if checks.is_key(array.dtype):
        array = jax.random.key_data(array)
    return np.asarray(array).tobytes()


def _programs(program: Any) -> Iterator[Any]:
    """The programs in a tree, and those that they call."""
    if isinstance(program, tuple | list):
        for part in program:
            yield from _programs(part)
    elif hasattr(program, "eqns"):
        yield program
        for equation in program.eqns:
            yield from _programs(tuple(equation.params.values()))


@kept
def _program(
    classifier: Classifier,
    function: Callable[..., Any],
    static: tuple[Any, ...],
    held: bytes,
) -> Callable[..., Any]:
    fixed = dict(static)
    if (objective := fixed.get("objective")) is not None:
        fixed["objective"] = in_float32(objective)

    def run(
        keys: Array, images: Array, labels: Array, arrays: dict[str, Any]
    ) -> tuple[Any, ...]:
        result = function(classifier, keys, images, labels, **fixed, **arrays)
        seen = classifier(images), classifier(result.images)
        return result, jnp.isfinite(jnp.stack(seen)).all(axis=(0, 2))

    return jax.jit(run)
