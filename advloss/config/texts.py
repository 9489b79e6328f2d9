"""Texts of a command line, a sweep or a study's network, read as what a key takes.

value("train.attack.epsilon", "8/255", keys()["train.attack.epsilon"])
"""

import ast
import contextlib
from typing import Any

from advloss.config.keys import Key
from advloss.config.trees import invalid


def value(key: str, text: str, entry: Key) -> Any:
    """What a text says to a key. Raises InputError where that is not of its type."""
    if entry.optional and text in ("None", "unset"):
        return None
    try:
        return read(entry.valid.kind, text)
    except ValueError:
        raise invalid(key, text, entry.valid.text) from None


def read(kind: type, text: str) -> Any:
    """A bool, int, float, str or tuple. Raises ValueError where it is none."""
    return _READ.get(kind, str)(text)


def unquoted(text: str) -> str:
    """The text without the quotes around it."""
    found = _literal(text)
    return found if isinstance(found, str) else text


def _number(text: str) -> float:
    """3, 1e-3 or 8/255."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(text)
    except ZeroDivisionError as error:
        raise ValueError(text) from error


def _whole(text: str) -> int:
    with contextlib.suppress(ValueError):
        return int(text)
    value = _number(text)
    if not value.is_integer():
        raise ValueError(text)
    return int(value)  # 1e5.


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError(text)
    return _TRUTHS[text.lower()]


def _items(text: str) -> tuple:
    """a,b and (1/2, 0.75) and [] and ("a b", "c")."""
    found = _literal(text)
    if isinstance(found, tuple | list):
        return tuple(found)
    parts = [part.strip() for part in text.split(",")]
    if text[:1] + text[-1:] in ("()", "[]"):
        parts = [part.strip() for part in text[1:-1].split(",") if part.strip()]
    return tuple(map(_item, parts))


def _item(text: str) -> Any:
    with contextlib.suppress(ValueError):
        return _number(text)
    return unquoted(text)


def _literal(text: str) -> Any:
    """What it is in Python, or None."""
    with contextlib.suppress(
        ValueError, SyntaxError, TypeError, MemoryError, RecursionError
    ):
        return ast.literal_eval(text)


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_READ = {bool: _truth, int: _whole, float: _number, tuple: _items}
