"""A sweep as one line of text, and the configs that it stands for.

    expand(config, "loss.margin=0.1,0.3 seed=0,1,2")     # six configs

The values of every key are combined with those of all others. Keys are those of
configs/default.py; those in `sweep.SWEPT` are trained together as one program.
"""

import ast
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from advloss import config as configs
from advloss.errors import InputError


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
        config: what all of them share, with the keys of configs/default.py.
        text: `KEY=VALUE,VALUE KEY=VALUE`, separated by spaces.

    Raises:
        InputError: the text is not of that form, or a config is not valid.
    """
    axes = _parse(text)
    # The seed varies slowest: after the first round there is one of everything.
    order = sorted(axes, key=lambda key: key != "seed")
    found = []
    for combination in itertools.product(*(axes[key] for key in order)):
        chosen = dict(zip(order, combination, strict=True))
        values = {key: chosen[key] for key in axes}
        found.append(Variant(_with_values(config, values), values))
    return found


def _parse(text: str) -> dict[str, Sequence[Any]]:
    axes: dict[str, Sequence[Any]] = {}
    for word in text.split():
        key, equals, listed = word.partition("=")
        values = [_value(part) for part in listed.split(",")] if equals else []
        if not key or "" in values or not values:
            raise _invalid(text, f"{word!r} is not of the form KEY=VALUE,VALUE")
        if key in axes or len(set(values)) < len(values):
            raise _invalid(text, f"{key} is named twice, or one of its values is")
        if key == "name":
            raise _invalid(text, "a variant's name is made of its values")
        axes[key] = values
    if not axes:
        raise _invalid(text, "it names no key")
    return axes


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _with_values(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    variant = config.copy_and_resolve_references()
    known = dict(configs.flatten(variant))
    name = variant.name
    for key, value in values.items():
        if key not in known:
            raise configs.unknown_key(key, value, known)
        *path, last = key.split(".")
        section = variant
        for part in path:
            section = section[part]
        with section.unlocked(), section.ignore_type():
            section[last] = value
        if key != "seed":
            name += f"_{last}{value}"
    variant.name = name
    return configs.resolve(variant)


def _invalid(text: str, reason: str) -> InputError:
    return InputError(
        f"config.sweep={text!r} is not valid: {reason}; use keys with their values, "
        'such as "loss.margin=0.1,0.3 seed=0,1,2"'
    )
