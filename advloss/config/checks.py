"""Values of the config, held to what is known of their keys."""

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from advloss.config.keys import Key
from advloss.config.trees import flatten, get, invalid, renamed_value, unknown_key
from advloss.errors import InputError, line
from advloss.registry import Valid


def conform(config: ConfigDict, known: Mapping[str, Key]) -> dict[str, Any]:
    """The value of every key, of its type.

    Raises:
        InputError: a key is missing or unknown, or its value is of another type.
    """
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"the config is a {type(config).__name__}: a config file's get_config must "
            "return an ml_collections.ConfigDict, as configs/default.py does"
        )
    try:
        given = dict(flatten(config))
    except InputError:
        raise
    except Exception as error:  # A reference to nothing, say.
        raise InputError(f"the config can't be read: {line(error)}") from error
    for key, value in given.items():
        if key not in known:
            raise unknown_key(key, value, known)
    for key in known:
        if key not in given:
            raise InputError(f"config.{key} is missing: configs/default.py has it")
    return {key: _as_type(key, given[key], entry) for key, entry in known.items()}


def _as_type(key: str, value: Any, entry: Key) -> Any:
    """The value, whole numbers as floats where those are asked for."""
    kind = entry.valid.kind
    if entry.optional and value is None:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if kind is float and type(value) is int:
        with contextlib.suppress(OverflowError):
            value = float(value)
    if type(value) is float and not value:
        value = 0.0  # -0.0 is the same number, and no other attack.
    if kind is tuple:
        value = _as_tuple(value)
    if type(value) is not kind:
        form = ", as a tuple" if kind is tuple else ""
        raise invalid(key, value, entry.valid.text + form)
    if kind is tuple:  # The command line gives ("a,b",) for a,b.
        parts = (i.split(",") if isinstance(i, str) else [i] for i in value)
        return tuple(
            part.strip() if isinstance(part, str) else part
            for each in parts
            for part in each
        )
    return value


def _as_tuple(value: Any) -> Any:
    """Lists and arrays, of NumPy's and JAX's numbers too, as tuples of Python's."""
    if hasattr(value, "tolist") and getattr(value, "ndim", 0) == 1:
        value = value.tolist()
    if type(value) not in (list, tuple):
        return value
    return tuple(i.item() if isinstance(i, np.generic) else i for i in value)


def check(config: ConfigDict, key: str, valid: Valid) -> None:
    """Holds one value to what is valid. Raises InputError."""
    value = get(config, key)
    if accepts(valid, value):
        return
    for item in value if isinstance(value, tuple) else (value,):
        new = renamed_value(item)
        if new and accepts(valid, (new,) if isinstance(value, tuple) else new):
            raise invalid(key, value, f"{new!r}, as {item} is called since version 0.2")
    raise invalid(key, value, valid.instead_of(value))


def accepts(valid: Valid, value: Any) -> bool:
    """Whether a value of the right type is valid."""
    try:
        return bool(valid.accepts(value))
    except TypeError:  # What can't be hashed or compared.
        return False
