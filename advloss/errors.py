"""Errors that whoever runs an experiment can mend; launchers print them as one line."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any


def one_line(text: str) -> str:
    """The text with all that ends a line, or can't be seen, escaped: `\\n`, `\\x85`."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


class InputError(ValueError):
    """A config, a data file or a work directory that cannot be used.

    The message names the key or the file, its value, and what would be valid, in one
    line whatever text it quotes.
    """

    def __init__(self, message: str):
        super().__init__(one_line(message))


class DamagedError(InputError):
    """A checkpoint that is not what was written.

    Args:
        found: which, and what is wrong with it.
        advice: how to go on.
    """

    def __init__(self, found: str, advice: str):
        super().__init__(f"{found}: {advice}")
        self.found = found


class Stopped(Exception):
    """The process was asked to end, and has saved what it had."""


class DivergedError(RuntimeError):
    """Training left the finite numbers; the message says at which step."""


def line(error: BaseException) -> str:
    """A line of what may be a page, or nothing."""
    try:
        text = str(error)
    except Exception:  # Of somebody's class, which fails itself.
        text = ""
    return " ".join(text.split())[:200] or type(error).__name__


def shown(value: Any) -> str:
    """A value as a message names it: on one line, and not a page of numbers."""
    quoted = isinstance(value, str | Decimal | Fraction)
    try:
        text = repr(value) if quoted else str(value)
    except ValueError:  # Python does not write thousands of decimal digits.
        text = hex(value) if isinstance(value, int) else type(value).__name__
    return " ".join(text.split())[:80]


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it came of, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        hidden = cause.__suppress_context__
        cause = cause.__cause__ or (None if hidden else cause.__context__)
