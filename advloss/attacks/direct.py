"""An attack called directly: its input is checked, and its program compiled once."""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from advloss.attacks import base
from advloss.errors import InputError
from advloss.types import Array, AttackResult, Classifier

_ROUNDING = 1e-6  # Of a value in [0, 1], in float32.


def attack(function: Callable[..., AttackResult]) -> Callable[..., AttackResult]:
    """Lets an attack be called on arrays of a notebook as within a compiled program.

    Within one (where an argument is traced, or an array that the classifier or the
    objective holds) the call is passed on as it is. Elsewhere values are checked, and
    the attack runs as one program, compiled once for each classifier, objective, shape
    and choice of static settings; floats and arrays are its arguments. Classifier
    and objective must be the same objects then. What they hold is part of the program:
    where it has changed since, the program is compiled anew.

    Raises:
        InputError: images that are no floats, not finite or not in [0, 1], labels or
            targets that are no classes, a target that is the label, a number that is
            negative or not finite, `start` outside the ball, an empty batch, channels
            first, logits that are no numbers; the message names the argument.
    """

    @functools.wraps(function)
    def checked(
        classifier: Classifier,
        keys: Array,
        images: Array,
        labels: Array,
        **settings: Any,
    ) -> AttackResult:
        arguments = (keys, images, labels, settings)
        if _is_traced(arguments):
            return function(classifier, keys, images, labels, **settings)
        check_images(images)
        given, images, labels = labels, jnp.asarray(images), jnp.asarray(labels)
        settings = {key: plain(value) for key, value in settings.items()}
        base.check_arguments(keys, images, labels, settings.get("targets"))
        try:
            held, logits = fingerprint(classifier, images)
            _check_logits(logits, images.shape)
            objective = settings.get("objective")
            if objective is not None:
                held += fingerprint(objective, logits, labels)[0]
        except TracedError:
            return function(classifier, keys, images, labels, **settings)
        _check_classes("labels", given, logits.shape[1])
        _check_settings(settings, images, labels, logits.shape[1])
        arrays = {
            key: jnp.asarray(value, images.dtype if type(value) is float else None)
            for key, value in settings.items()
            if _is_array(value)
        }
        static = tuple((k, v) for k, v in settings.items() if k not in arrays)
        try:
            program = _program(function, classifier, static, held)
        except TypeError:  # Of what can't be hashed, no program is kept.
            program = _program.__wrapped__(function, classifier, static, held)
        result, finite = program(keys, images, labels, arrays)
        # Within a program that is being traced, values are not known.
        if not _is_traced(finite) and not finite.all():
            raise InputError(
                f"the classifier's logits are not finite at {int((~finite).sum())} of "
                f"{len(finite)} images: nothing can be said of its robustness"
            )
        return result

    return checked


def _is_traced(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's: whole ones may count steps."""
    number = isinstance(value, np.generic | np.ndarray) and value.ndim == 0
    return value.item() if number else value


def _is_array(value: Any) -> bool:
    """Whether a setting is an argument of the compiled program."""
    return isinstance(value, float | np.ndarray | jax.Array)


def fingerprint(function: Callable, *arrays: Any) -> tuple[bytes, Any]:
    """What a function computes of arrays of these shapes, and the shapes of its result.

    It names the program and the arrays that the function holds: where either has
    changed behind the same object, it is another. Nothing is computed.

    Raises:
        TracedError: the function holds arrays that are traced.
    """
    # A function that is new to JAX, which would answer for an old one from its cache.
    made, result = jax.make_jaxpr(lambda *xs: function(*xs), return_shape=True)(*arrays)
    held = list(_held(made))
    if _is_traced(held):
        raise TracedError
    # Addresses of functions in memory say nothing.
    text = re.sub(r"0x[0-9a-f]+", "", str(made))
    parts = [text.encode(), *(np.asarray(array).tobytes() for array in held)]
    digests = [hashlib.blake2b(part).digest() for part in parts]
    return hashlib.blake2b(b"".join(digests)).digest(), result


class TracedError(Exception):
    """A function holds arrays of a program that is being traced."""


def _held(program: Any) -> Iterator[Array]:
    """The arrays in a program and in those that it calls."""
    if isinstance(program, tuple | list):
        for part in program:
            yield from _held(part)
    elif hasattr(program, "eqns"):
        yield from getattr(program, "consts", ())
        for equation in program.eqns:
            yield from _held(tuple(equation.params.values()))


@functools.lru_cache(maxsize=16)
def _program(
    function: Callable, classifier: Classifier, static: tuple, held: bytes
) -> Callable:
    def run(keys: Array, images: Array, labels: Array, arrays: dict) -> tuple:
        result = function(classifier, keys, images, labels, **dict(static), **arrays)
        seen = classifier(images), classifier(result.images)
        return result, jnp.isfinite(jnp.stack(seen)).all(axis=(0, 2))

    return jax.jit(run)


def check_images(images: Array, name: str = "images") -> None:
    """Images as every function here takes them, in values too.

    Raises:
        InputError: they are not float `[batch, height, width, channels]` in [0, 1].
    """
    images = np.asarray(images)
    if images.dtype.kind != "f":
        raise InputError(
            f"{name} are {images.dtype}: use floats in [0, 1] (of bytes, images / 255)"
        )
    if images.ndim != 4 or not images.size:
        raise InputError(
            f"{name} have shape {images.shape}: use [batch, height, width, channels], "
            "none of them 0"
        )
    _, first, second, last = images.shape
    if first in (1, 3) and second > 4 and last > 4:
        raise InputError(
            f"{name} have shape {images.shape}, channels first: use [batch, height, "
            "width, channels], images.transpose(0, 2, 3, 1)"
        )
    if not np.isfinite(images).all():
        raise InputError(
            f"{int((~np.isfinite(images)).sum())} values of {name} are not finite: use "
            "values in [0, 1]"
        )
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{name} lie in [{low:.9g}, {high:.9g}]: use values in [0, 1]; what a "
            "network needs beside, as another mean, belongs into the classifier"
        )


def _check_logits(logits: Any, shape: tuple[int, ...]) -> None:
    found = getattr(logits, "shape", type(logits).__name__)
    if not hasattr(logits, "shape") or len(found) != 2 or found[0] != shape[0]:
        raise InputError(
            f"the classifier gives {found} for images {shape}: it must give logits "
            f"[{shape[0]}, classes]"
        )


def _check_classes(name: str, values: Array, classes: int) -> None:
    bad = np.flatnonzero((np.asarray(values) < 0) | (np.asarray(values) >= classes))
    if bad.size:
        raise InputError(
            f"{name}[{bad[0]}]={int(values[bad[0]])} is no class: use 0 to "
            f"{classes - 1}, as the classifier gives {classes} logits"
        )


def _check_settings(
    settings: dict[str, Any], images: Array, labels: Array, classes: int
) -> None:
    targets, start = settings.get("targets"), settings.get("start")
    for name, value in settings.items():
        number = _is_array(value) or isinstance(value, int)
        if name in ("targets", "start") or not number:
            continue
        least = 1 if name in ("restarts", "draws", "target_classes") else 0
        if not np.all(np.isfinite(value)) or np.any(np.asarray(value) < least):
            raise InputError(
                f"{name}={value} is not valid: use a finite number >= {least}"
            )
    if targets is not None:
        _check_classes("targets", targets, classes)
        same = np.flatnonzero(np.asarray(labels) == np.asarray(targets))
        if same.size:
            raise InputError(
                f"targets[{same[0]}]={int(targets[same[0]])} is the label of that "
                "example: use another class"
            )
    if start is not None and "epsilon" in settings:
        check_images(start, "start")
        if start.shape != images.shape:
            raise InputError(
                f"start has shape {start.shape}: use that of the images, {images.shape}"
            )
        epsilon, norm = settings["epsilon"], settings.get("norm", "linf")
        distance = base.NORMS[norm].distance(jnp.asarray(start), images)
        farthest = float(jnp.max(distance))
        if not farthest <= float(np.max(epsilon)) + _ROUNDING:
            raise InputError(
                f"start is {farthest:g} from the images, epsilon={epsilon}: use images "
                "within epsilon"
            )
