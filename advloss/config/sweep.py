"""A sweep as one line of text, and the configs that it stands for.

    expand(config, "loss.margin=0.1,0.3 seed=0,1,2")     # six configs

The values of every key are combined with those of all others. A number may be a
fraction, `8/255`; a tuple stands in brackets: `train.milestones=(0.5,0.75),(0.9,)`.
Keys are those of the config; those in `schema.swept()` are trained together as one
program.
"""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advloss.config import texts
from advloss.config.checks import check, conform
from advloss.config.keys import NAME, Key
from advloss.config.schema import keys, resolve, run_name
from advloss.config.trees import flatten, put_all, shown, unknown_key
from advloss.errors import InputError

MOST_RUNS = 5_000  # Of a sweep or a study; more are a slip of the hand.
_LONGEST = 40  # Characters of a name.
_UNFIT = re.compile(r"[^!-.0-\[\]-~]")  # What the values put into it may not have.


class Variant(NamedTuple):
    """One of a sweep's runs.

    Attributes:
        config: resolved; its name tells the values, but for the seed.
        values: what it has of the swept keys.
    """

    config: ConfigDict
    values: dict[str, Any]


def expand(config: ConfigDict, text: str) -> list[Variant]:
    """Every combination of the values in a text, seed by seed.

    Args:
        config: what all of them share.
        text: `KEY=VALUE,VALUE KEY=VALUE`, separated by spaces.

    Raises:
        InputError: the text is not of that form, or stands for more than `MOST_RUNS`,
            or for one run twice, or a config is not valid.
    """
    known = dict(flatten(config))
    axes = _parse(text, known)
    # The seed varies slowest: after the first round there is one of everything.
    order = sorted(axes, key=lambda key: key != "seed")
    chosen = []
    for combination in itertools.product(*(axes[key] for key in order)):
        by_key = dict(zip(order, combination, strict=True))
        chosen.append({key: by_key[key] for key in axes})
    names = _names(_base(config, axes), chosen)
    variants = [
        Variant(_with_values(config, name, values), values)
        for name, values in zip(names, chosen, strict=True)
    ]
    _check_unlike(variants, text)
    return variants


def _base(config: ConfigDict, swept: Collection[str]) -> str:
    """What every variant's name begins with. Raises InputError."""
    values = conform(config, keys())
    if values["name"] is not None:
        check(config, "name", NAME)
        return values["name"]
    if {"loss.name", "defence.name"} & set(swept):  # Then the values tell it.
        return "sweep"
    return run_name(values["loss.name"], values["defence.name"])


def _check_unlike(variants: Sequence[Variant], text: str) -> None:
    """None stands for a default, say, that is named beside it."""
    found: dict[tuple, Variant] = {}
    for variant in variants:
        own = tuple((k, repr(v)) for k, v in flatten(variant.config) if k != "name")
        if (other := found.setdefault(own, variant)) is not variant:
            told = [_words(each.values) for each in (other, variant)]
            raise _invalid(text, f"{told[0]} and {told[1]} are the same run")


def _words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _with_values(
    config: ConfigDict, name: str, values: Mapping[str, Any]
) -> ConfigDict:
    variant = config.copy_and_resolve_references()
    put_all(variant, values)
    with variant.unlocked():
        variant.name = name
    return resolve(variant)


def _parse(text: str, known: Collection[str]) -> dict[str, Sequence[Any]]:
    axes: dict[str, Sequence[Any]] = {}
    declared, runs = keys(), 1
    for word in filter(None, _split(text, " \t\n\r\f\v", text)):
        key, _, listed = word.partition("=")
        if not key or not listed:
            raise _invalid(text, f"{shown(word)} is not of the form KEY=VALUE,VALUE")
        if key not in known or key not in declared:
            raise unknown_key(key, listed.partition(",")[0], known)
        if "" in (parts := _split(listed, ",", text)):
            raise _invalid(text, f"{shown(word)} is not of the form KEY=VALUE,VALUE")
        if key == "name":
            raise _invalid(text, "a variant's name is made of its values")
        if (runs := runs * len(parts)) > MOST_RUNS:
            raise _invalid(text, f"it has more than {MOST_RUNS} runs")
        values = [_value(key, part, declared[key]) for part in parts]
        if key in axes or len({repr(value) for value in values}) < len(values):
            raise _invalid(text, f"{key} is named twice, or one of its values is")
        axes[key] = values
    if not axes:
        raise _invalid(text, "it names no key")
    return axes


def _value(key: str, text: str, entry: Key) -> Any:
    """What a text says; 1.0 as 1, so that a name tells it as it is mostly written."""
    text = texts.unquoted(text) if entry.valid.kind is str else text
    value = texts.value(key, text, entry)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _split(text: str, separators: str, whole: str) -> list[str]:
    """The parts between separators that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character in separators and not depth:
            parts.append("")
            continue
        parts[-1] += character
    if depth or quote:
        raise _invalid(whole, "a bracket or a quote is not closed")
    return [part.strip() for part in parts]


def _names(base: str, chosen: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for every variant, whatever its values: readable, and its own.

    The seed is not a part of it. A name is made of the values alone, so that a sweep
    that grows finds what it has; where they don't fit, a hash of them ends it.
    """
    told = [{k: v for k, v in values.items() if k != "seed"} for values in chosen]
    names = [_name(base, values, 0) for values in told]
    # Two that read the same, which takes texts with "_" in them, or much bad luck.
    for digits in (6, 12):
        pairs = {(n, repr(v)) for n, v in zip(names, told, strict=True)}
        alike = Counter(name for name, _ in pairs)
        names = [
            _name(base, values, digits) if alike[name] > 1 else name
            for name, values in zip(names, told, strict=True)
        ]
    return names


def _name(base: str, values: Mapping[str, Any], digits: int) -> str:
    """The base with the values; with a hash, of so many digits, where one is needed."""
    plain = base + "".join(f"_{_last(k)}{_told(v)}" for k, v in values.items())
    name = base + _UNFIT.sub("-", plain.removeprefix(base))
    if name == plain and len(name) <= _LONGEST and not digits:
        return name
    content = repr(dict(values)).encode("utf-8", errors="backslashreplace")
    digest = hashlib.blake2b(content).hexdigest()[: digits or 6]
    room = _LONGEST - len(digest) - 1
    if len(name) > room:
        short = "".join(f"_{_short(k)}{_told(v, 3)}" for k, v in values.items())
        name = base[: max(4, room - len(short))] + _UNFIT.sub("-", short)
    return f"{name[:room]}-{digest}"


def _last(key: str) -> str:
    return key.split(".")[-1]


def _told(value: Any, digits: int = 0) -> str:
    if isinstance(value, tuple):
        return "+".join(_told(item, digits) for item in value)
    return f"{value:.{digits}g}" if digits and isinstance(value, float) else str(value)


def _short(key: str) -> str:
    """A key's last part, shortened: learning_rate is lr, epsilon is eps."""
    words = _last(key).split("_")
    return words[0][:3] if len(words) == 1 else "".join(word[:1] for word in words)


def _invalid(text: str, reason: str) -> InputError:
    return InputError(
        f"config.sweep={shown(text)} is not valid: {reason}; use keys with their "
        'values, such as "loss.margin=0.1,0.3 seed=0,1,2"'
    )
