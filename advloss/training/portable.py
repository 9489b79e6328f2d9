"""A tree of variables as named arrays that any program can read, and back.

arrays, dtypes = portable.stored(portable.flatten(variables), precision="float16")
variables = portable.unflatten(portable.restored(arrays, dtypes))
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from advloss.errors import InputError, shown
from advloss.types import PyTree

PRECISIONS = ("float32", "float16")
_SAVED = ("float16", "float32", "float64", "int32", "uint32", "int8", "uint8", "bool")
_HALF = "bfloat16"  # NumPy does not have it: exact as float32.


def flatten(tree: PyTree) -> dict[str, Any]:
    """Leaves by their path, its parts joined by "/", which in a name is "%2F".

    Raises:
        InputError: the tree is no nested dicts of arrays of NumPy's types.
    """
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        names: list[Any] = [getattr(key, "key", None) for key in path]
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"variables{jax.tree_util.keystr(path)}: use nested dicts")
        names = [name.replace("%", "%25").replace("/", "%2F") for name in names]
        if leaf.dtype not in (*_SAVED, _HALF):
            where = "/".join(names)
            valid = ", ".join((*_SAVED, _HALF))
            raise InputError(f"{where} is {leaf.dtype}: use one of {valid}")
        found["/".join(names)] = leaf
    return found


def unflatten(arrays: Mapping[str, np.ndarray]) -> PyTree:
    """The tree of `flatten`."""
    tree: dict[str, Any] = {}
    for path, array in arrays.items():
        *parts, last = (
            name.replace("%2F", "/").replace("%25", "%") for name in path.split("/")
        )
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[last] = array
    return tree


def stored(
    leaves: Mapping[str, Any], *, precision: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays as they are written, and the types of those that had another.

    Args:
        leaves: of `flatten`.
        precision: "float32" writes every array as it is; "float16" writes those of
            float32 and float64 in half of the bytes or less, rounded to 11 bits.

    Raises:
        InputError: the precision is none of these, or a value is too large for it.
    """
    if precision not in PRECISIONS:
        raise InputError(
            f"precision={shown(precision)} is not valid: use one of "
            f"{', '.join(PRECISIONS)}"
        )
    arrays, dtypes = {}, {}
    for path, leaf in leaves.items():
        own, array = str(leaf.dtype), np.asarray(leaf)
        if own == _HALF:
            array = array.astype(np.float32)
        elif precision == "float16" and own in ("float32", "float64"):
            array = _halved(path, array)
        if str(array.dtype) != own:
            dtypes[path] = own
        arrays[path] = array
    return arrays, dtypes


def _halved(path: str, array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.array_equal(np.isfinite(half), np.isfinite(array)):
        raise InputError(
            f"precision='float16' is not valid: {path} goes to {np.abs(array).max():g} "
            f"and float16 to {np.finfo(np.float16).max:g}; use float32"
        )
    return half


def restored(
    arrays: Mapping[str, np.ndarray], dtypes: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """The arrays of the types that `stored` was given."""
    return {
        path: array.astype(dtypes[path]) if path in dtypes else array
        for path, array in arrays.items()
    }
