"""What an entry of a registry says of its settings.

    Setting(0.3, positive(), "the margin m on the cosine", swept=True)

Losses, attacks, defences, networks, activations and data sources are entries in
explicit dicts. An entry holds its function and its settings; the config's keys, their
checks, what a sweep may vary, the help and the reference are made from them
(`config.schema`).
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

# The ends of float32, in which all is computed; nearer to 0 programs know only 0.
_TINY, _HUGE = (float(n) for n in (np.finfo(np.float32).tiny, np.finfo(np.float32).max))


_SHIPPED: dict[int, dict[str, Any]] = {}


def shipped(entries: Mapping[str, Any]) -> None:
    """What a registry has now is the library's, and what comes later is not."""
    _SHIPPED[id(entries)] = dict(entries)


def is_own(entries: Mapping[str, Any], name: str) -> bool:
    """Whether what stands under a name is one's own, entered at run time.

    Also where it has taken the place of the library's, or the registry has one's own.
    """
    return entries.get(name) is not _SHIPPED.get(id(entries), {}).get(name)


class Valid(NamedTuple):
    """Which values a setting takes.

    Attributes:
        kind: the values' type: bool, int, float, str or tuple.
        accepts: whether a value of that type is valid.
        text: what is valid, to go on from "use ...".
    """

    kind: type
    accepts: Callable[[Any], bool]
    text: str

    def instead_of(self, value: Any) -> str:
        """The text, with what a number is in float32 where it was refused for that."""
        if self.kind is float and type(value) is float and math.isfinite(value):
            held = _in_float32(value)
            if held != value and (math.isinf(held) or held.is_integer()):
                return (
                    f"{self.text}; {value!r} is {held:g} in float32, which goes from "
                    f"{_TINY:.2g} to {_HUGE:.2g}"
                )
        return self.text


def _in_float32(value: float) -> float:
    if abs(value) > _HUGE:
        return math.inf if value > 0 else -math.inf
    return float(np.float32(value)) if abs(value) >= _TINY else 0.0


class Setting(NamedTuple):
    """One setting of an entry.

    Attributes:
        default: what holds where nothing is said.
        valid: which values it takes.
        help: one line, in units where there are any.
        swept: it is a number that enters compiled programs as an array: runs that
            differ in it alone are trained as one program.
    """

    default: Any
    valid: Valid
    help: str
    swept: bool = False


def number(
    low: float, high: float, *, above: bool = False, below: bool = False
) -> Valid:
    """A number in [low, high]; where `above` not low itself, `below` not high.

    Nor what float32 would make one of these, infinite, or 0.
    """
    never = {math.inf, *([low] if above else []), *([high] if below else [])}

    def accepts(value: float) -> bool:
        if not low <= value <= high:
            return False
        held = _in_float32(value)
        return held not in never and (held != 0 or value == 0)

    if math.isinf(high):
        text = f"a finite number {'>' if above else '>='} {low:g}"
    else:
        ends = "(" if above else "[", ")" if below else "]"
        text = f"a number in {ends[0]}{low:g}, {high:g}{ends[1]}"
    return Valid(float, accepts, text)


def positive() -> Valid:
    """A finite number above 0."""
    return number(0, math.inf, above=True)


def whole(least: int = 0, most: int = 2**31 - 1) -> Valid:
    """A whole number from `least` to `most`."""
    text = f"a whole number from {least} to {most}"
    return Valid(int, lambda value: least <= value <= most, text)


def boolean() -> Valid:
    """True or False."""
    return Valid(bool, lambda value: True, "True or False")


def text() -> Valid:
    """Any text."""
    return Valid(str, lambda value: True, "a text")


class _Choice(Valid):
    """One of some names, as they are when it is asked; it lists them."""

    @property
    def text(self) -> str:
        told: Any = self[2]
        known, others = told
        ending = f", or {others}" if others else ""
        return f"one of {', '.join(sorted(known))}{ending}"


def choice(
    names: Iterable[str],
    *,
    beside: Callable[[str], bool] = lambda value: False,
    others: str = "",
) -> Valid:
    """One of some names; of a registry, those that it has when a value is checked.

    `beside` says what else is valid, and `others` what that is.
    """
    known = names if isinstance(names, Collection) else tuple(names)
    names_for_text: Any = (known, others)  # Of which the property makes the text.

    def accepts(value: str) -> bool:
        return value in known or beside(value)

    return _Choice(str, accepts, names_for_text)


def choices(names: Iterable[str]) -> Valid:
    """A tuple of names, at least one."""
    known = tuple(names)
    listed = f"one or more of {', '.join(sorted(known))}"
    return Valid(tuple, lambda value: bool(value) and set(value) <= set(known), listed)


def each_once(names: Iterable[str]) -> Valid:
    """A tuple of names, none of them twice; it may be empty."""
    known = tuple(names)

    def accepts(value: tuple[Any, ...]) -> bool:
        return set(value) <= set(known) and len(set(value)) == len(value)

    return Valid(tuple, accepts, f"none, or each once, of {', '.join(sorted(known))}")


def shares() -> Valid:
    """A tuple of growing numbers between 0 and 1."""

    def accepts(value: tuple[Any, ...]) -> bool:
        numbers = all(type(item) in (int, float) for item in value)
        return (
            numbers
            and all(0 < item < 1 for item in value)
            and (list(value) == sorted(set(value)))
        )

    return Valid(tuple, accepts, "growing numbers between 0 and 1, such as (0.5, 0.75)")


def numbers(*, least: float = -math.inf) -> Valid:
    """A tuple of finite numbers above `least`, at least one of them."""
    one = number(least, math.inf, above=True)

    def accepts(value: tuple[Any, ...]) -> bool:
        right = all(type(item) in (int, float) for item in value)
        return bool(value) and right and all(map(one.accepts, value))

    above = "" if math.isinf(least) else f" > {least:g}"
    return Valid(tuple, accepts, f"finite numbers{above}, at least one")
