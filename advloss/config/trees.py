"""Configs as trees of keys, and the one-line errors that name a key."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from advloss.errors import InputError

# Keys of version 0.1 and what they are called since.
_KEYS = {
    "evaluate.fgs": "evaluate.fgsm",
    "evaluate.penalty": "evaluate.lbfgs",
    "evaluate.worst_only": "evaluate.survivors_only",
}
_VALUES = {
    "challenge": "madry",
    "lead": "margin",
    "fgs": "fgsm",
    "penalty": "lbfgs",
}

_NUMBERS = {int: "a whole number", float: "a number"}


def flatten(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key, section by section in the order of names.

    Raises:
        InputError: the config contains itself.
    """
    yield from _flatten(config, "", ())


def _flatten(
    config: ConfigDict, prefix: str, above: tuple[int, ...]
) -> Iterator[tuple[str, Any]]:
    if id(config) in above:
        raise InputError(
            f"config.{prefix.rstrip('.')} contains itself: use plain values"
        )
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _flatten(value, f"{prefix}{key}.", (*above, id(config)))
        else:
            yield f"{prefix}{key}", value


def get(config: ConfigDict, key: str) -> Any:
    """The value at a dotted key. Raises KeyError where there is none."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, ConfigDict):
            raise KeyError(key)
        value = value[part]
    return value


def put(config: ConfigDict, key: str, value: Any) -> None:
    """Sets the value at a dotted key, of whatever type the old one is.

    Raises:
        KeyError: there is none.
    """
    get(config, key)
    put_all(config, {key: value})


def put_all(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Sets the values at dotted keys that there are: sooner than one by one.

    Raises InputError for a number that is none in floats, and for True as one.
    """
    with config.unlocked(), config.ignore_type():
        for key, value in values.items():
            section, _, last = key.rpartition(".")
            place = get(config, section) if section else config
            truth = isinstance(value, bool | np.bool_)
            if truth and place.get_type(last) in _NUMBERS:
                raise invalid(key, value, _NUMBERS[place.get_type(last)])
            try:
                place[last] = value
            except OverflowError:  # A whole number that no float holds.
                raise invalid(key, value, "a finite number") from None


def shown(value: Any) -> str:
    """A value's repr, no longer than a line."""
    try:
        text = repr(value)
    except Exception as error:  # Anything can stand in a config.
        text = f"a {type(value).__name__} ({type(error).__name__})"
    return text if len(text) <= 200 else f"{text[:200]}..."


def invalid(key: str, value: Any, valid: str) -> InputError:
    """The error of a value, with what would be valid."""
    return InputError(f"config.{key}={shown(value)} is not valid: use {valid}")


def renamed_value(value: Any) -> str | None:
    """What a value of version 0.1 is called since."""
    return _VALUES.get(value) if isinstance(value, str) else None


def is_renamed(key: str) -> bool:
    """Whether a key is of version 0.1."""
    return any(key == old or key.startswith(f"{old}.") for old in _KEYS)


def unknown_key(key: str, value: Any, known: Iterable[str]) -> InputError:
    """The error of a key that there is not, with what it is called since, if it was.

    Else with the nearest keys that there are.
    """
    if key == "train.attack.name":
        attack = f"adversarial defence.attack={value or 'pgd'}"
        new = "natural" if value == "none" else attack
        return InputError(
            f"config.{key}={shown(value)} is of version 0.1: use defence.name={new}"
        )
    for old, new in _KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return InputError(
                f"config.{key}={shown(value)} is of version 0.1: use "
                f"{new}{key.removeprefix(old)}"
            )
    close = difflib.get_close_matches(key.lower(), known, n=3, cutoff=0.0)
    return InputError(
        f"config.{key}={shown(value)} is not a key of configs/default.py: use one such "
        f"as {', '.join(close)}"
    )
