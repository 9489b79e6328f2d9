"""What a caller gave, held to the contract: one line for each mistake."""

import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from advloss.attacks import base, given
from advloss.errors import InputError, shown
from advloss.losses.climbed import TARGETED
from advloss.registry import Valid, choice, number, positive

_ROUNDING = 1e-6  # Of a value in [0, 1], in float32.
_MOST = 1e18  # Of a setting: its square is finite in float32.


def check_outside(name: str, *values: Any) -> None:
    """Raises TracedError within a function that JAX traces."""
    if given.is_traced((jnp.zeros(()), *values)):
        raise given.TracedError(f"{name} was called")


def plain(value: Any) -> Any:
    """NumPy's and JAX's numbers as Python's: whole ones may count steps."""
    number = isinstance(value, np.generic | np.ndarray | jax.Array)
    number = number and value.ndim == 0 and not isinstance(value, jax.core.Tracer)
    number = number and not given.is_key(value.dtype)
    return value.item() if number else value


def as_array(values: Any, name: str) -> np.ndarray:
    """Values of NumPy, JAX, another package on this machine, or a list.

    Raises:
        InputError: they can't be read, or some are masked.
    """
    if np.ma.is_masked(values):
        raise InputError(
            f"{np.ma.count_masked(values)} values of {name} are masked: use arrays "
            "without a mask"
        )
    with given.blamed(f"{name} can't be read as an array"):
        return np.asarray(values)


def is_of_numbers(array: np.ndarray) -> bool:
    """Whether it holds real numbers; NumPy does not know all types of floats."""
    return array.dtype.kind in "iu" or jnp.issubdtype(array.dtype, jnp.floating)


def check_images(given: Any, name: str = "images") -> np.ndarray:
    """Images as every function here takes them, in values too, as float32.

    Other floats are converted: halves as they are, doubles rounded.

    Raises:
        InputError: they are not float `[batch, height, width, channels]` in [0, 1].
    """
    images = as_array(given, name)
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"{name} are {images.dtype}: use floats in [0, 1] (of bytes, divide by "
            f"255: {name} / 255)"
        )
    check_layout(images.shape, name)
    if not np.isfinite(images).all():
        raise InputError(
            f"{int((~np.isfinite(images)).sum())} values of {name} are not finite: use "
            "values in [0, 1]"
        )
    with np.errstate(over="ignore"):  # Of doubles, to infinity: refused.
        images = images.astype(np.float32)
    low, high = float(images.min()), float(images.max())
    if low < 0 or high > 1:
        raise InputError(
            f"{name} lie in [{low:.9g}, {high:.9g}]: use values in [0, 1]; what a "
            "network needs beside, as another mean, belongs into the classifier"
        )
    return images


def check_layout(shape: tuple[int, ...], name: str) -> None:
    """Raises InputError where it is not `[batch, height, width, channels]`."""
    array = name.split()[-1]  # Before it may stand where it comes from.
    if len(shape) != 4 or 0 in shape:
        raise InputError(
            f"{name} have shape {shape}: use [batch, height, width, channels], none of "
            "them 0" + (f" (of one, {array}[None])" if len(shape) == 3 else "")
        )
    _, first, second, last = shape
    if first in (1, 3) and second > 4 and last > 4:
        raise InputError(
            f"{name} have shape {shape}, channels first: use [batch, height, width, "
            f"channels], {array}.transpose(0, 2, 3, 1)"
        )


def check_labels(
    given: Any, count: int, classes: int | None = None, name: str = "labels"
) -> np.ndarray:
    """Labels `[count]` as int32; `classes` is how many there are, where that is known.

    Raises:
        InputError: they are no whole numbers, of another shape, or no classes.
    """
    labels, most = as_array(given, name), classes or 2**31 - 1
    valid = f"0 to {most - 1}" if classes else "0 and more"
    if labels.dtype.kind not in "iu":
        one_hot = f" (of rows with a 1, {name}.argmax(-1))" if labels.ndim == 2 else ""
        raise InputError(
            f"{name} are {labels.dtype}: use whole numbers, {valid}{one_hot}"
        )
    if labels.shape != (count,):
        raise InputError(
            f"{name} have shape {labels.shape}: use ({count},), one an image"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= most))
    if bad.size:
        gives = f", as the classifier gives {classes} logits" if classes else ""
        raise InputError(
            f"{name}[{bad[0]}]={labels[bad[0]]} is no class: use {valid}{gives}"
        )
    return labels.astype(np.int32)


def check_keys(keys: Any) -> None:
    """Raises InputError where they are no array of typed keys, of whatever shape."""
    array = isinstance(keys, jax.Array)
    if not array or (keys.ndim == 1 and not given.is_key(keys.dtype)):
        raise InputError(
            f"keys={shown(keys)} is not valid: use attacks.example_keys(key, indices)"
        )


def kinds(function: Callable[..., Any]) -> dict[str, frozenset[Any]]:
    """The types that each of a function's keyword arguments may have."""
    found = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = parameter.annotation
        if parameter.kind is parameter.KEYWORD_ONLY and kind is not parameter.empty:
            each = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
            found[name] = frozenset(each)
    return found


def check_setting(name: str, value: Any, kinds: frozenset[Any]) -> None:
    """Raises InputError where an attack's setting is of none of the kinds it may be."""
    if value is None and type(None) in kinds:
        return
    least = 1 if name in ("restarts", "draws", "target_classes", "queries") else 0
    number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
    number = number and bool(least <= value <= _MOST)
    if name == "objective":
        right = callable(value)
        valid = "a function (logits, labels) -> [batch], such as losses.margin"
    elif name == "norm":
        right = isinstance(value, str) and value in base.NORMS
        valid = f"one of {', '.join(base.NORMS)}"
    elif bool in kinds:
        right, valid = isinstance(value, bool), "True or False"
    elif float in kinds:
        right, valid = number, f"a number in [{least}, {_MOST:g}]"
    elif int in kinds:
        whole = type(value) is int or jax.Array in kinds
        right = number and whole and np.asarray(value).dtype.kind in "iu"
        valid = f"a whole number >= {least}"
    else:
        return
    if not right:
        raise InputError(f"{name}={shown(value)} is not valid: use {valid}")


# What settings of this package's attacks may be, as in configs.
_OWN = {
    "loss": choice(TARGETED),
    "p_init": number(0, 1, above=True),
    **dict.fromkeys(
        ("alpha_max", "beta", "decay", "gamma", "initial_threshold", "share"),
        number(0, 1),
    ),
    **dict.fromkeys(
        ("eta", "initial_constant", "initial_norm", "learning_rate"), positive()
    ),
}


def check_own(name: str, value: Any, ranges: Mapping[str, Valid]) -> None:
    """Raises InputError where a setting of one of our attacks is out of its range.

    `ranges` are those that the attack has beside or in place of what all have.
    """
    valid = {**_OWN, **ranges}.get(name)
    if valid and not (isinstance(value, float | int | str) and valid.accepts(value)):
        raise InputError(f"{name}={shown(value)} is not valid: use {valid.text}")


def check_aims(
    settings: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Those of `targets` and `start` that are given, held to the rest.

    Raises:
        InputError: a target is no class, or the label; `start` is not in the ball.
    """
    found = {}
    if settings.get("targets") is not None:
        targets = check_labels(settings["targets"], len(labels), classes, "targets")
        found["targets"] = targets
        same = np.flatnonzero(labels == targets)
        if same.size:
            raise InputError(
                f"targets[{same[0]}]={targets[same[0]]} is the label of that example: "
                "use another class"
            )
    if settings.get("start") is not None:
        start = found["start"] = check_images(settings["start"], "start")
        if start.shape != images.shape:
            raise InputError(
                f"start has shape {start.shape}: use that of the images, {images.shape}"
            )
    if "start" in found and "epsilon" in settings:
        epsilon = float(settings["epsilon"])
        norm = base.NORMS[settings.get("norm", "linf")]
        moved = norm.distance(jnp.asarray(start), jnp.asarray(images))
        farthest = float(jnp.max(moved))
        if not farthest <= epsilon + _ROUNDING:
            raise InputError(
                f"start is {farthest:g} from the images, epsilon={epsilon:g}: use "
                "images within epsilon"
            )
    return found
