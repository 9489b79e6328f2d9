"""Configs as they are read: defaults filled in, values checked, saved and compared.

`configs/default.py` declares every key; a config has exactly these, with values of the
same types.
"""

import difflib
import json
import shlex
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss import checks
from advloss.errors import InputError
from advloss.losses import LOSSES
from configs import default

# A trained network depends on these sections; the others may change afterwards.
_TRAINING_SECTIONS = ("seed", "loss", "data", "model", "train")
# Where data lie does not change what they are.
_LOCATIONS = ("data.dir", "data.manual_dir")
_LOSS_HYPERPARAMETERS = ("margin", "scale")
_OPTIONAL = tuple(f"loss.{key}" for key in _LOSS_HYPERPARAMETERS)
_TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple of texts",
}


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy with the loss's defaults filled in and every value checked.

    Raises:
        InputError: a key is missing or unknown, a value is not valid, or a
            hyperparameter is set that the loss does not have. The message names the
            key, the value and what is valid.
    """
    config = _conform(config)
    checks.check(config)
    every, chunk = config.train.checkpoint_every, config.train.chunk_steps
    if every % chunk:
        raise checks.invalid(
            "train.checkpoint_every", every, f"a multiple of train.chunk_steps={chunk}"
        )
    examples = config.train.steps * config.train.batch_size
    if examples >= 2**31:
        raise checks.invalid(
            "train.steps", config.train.steps, "less than 2**31 images in all"
        )
    _resolve_loss(config)
    return config


def _conform(config: ConfigDict) -> ConfigDict:
    """A copy with the keys of configs/default.py and values of their types."""
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"the config is a {type(config).__name__}: a config file's get_config must "
            "return an ml_collections.ConfigDict, as configs/default.py does"
        )
    result = default.get_config()
    declared, given = dict(flatten(result)), dict(flatten(config))
    for key, value in given.items():
        if key not in declared:
            raise unknown_key(key, value, declared)
    for key in declared:
        if key not in given:
            raise InputError(f"config.{key} is missing: configs/default.py declares it")
        *path, last = key.split(".")
        section = checks.get(result, path)
        section[last] = _as_type(key, given[key], section.get_type(last))
    return result


def unknown_key(key: str, value: Any, known: Iterable[str]) -> InputError:
    """The error of a key that there is not, with the nearest that there are."""
    close = difflib.get_close_matches(key, known, n=3, cutoff=0.0)
    return InputError(
        f"config.{key}={value!r} is not a key of configs/default.py: use one such as "
        f"{', '.join(close)}"
    )


def _as_type(key: str, value: Any, kind: type) -> Any:
    """The value, whole numbers as floats where those are asked for."""
    if key in _OPTIONAL and value is None:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise checks.invalid(key, value, _TYPES[kind])
    if kind is tuple:  # The command line gives ("a,b",) for a,b.
        if not all(isinstance(item, str) for item in value):
            raise checks.invalid(key, value, _TYPES[kind])
        return tuple(part.strip() for item in value for part in item.split(","))
    return value


def _resolve_loss(config: ConfigDict) -> None:
    loss = LOSSES[config.loss.name]
    for key in _LOSS_HYPERPARAMETERS:
        value = config.loss[key]
        if key not in loss.defaults:
            if value is not None:
                raise checks.invalid(
                    f"loss.{key}", value, f"unset, as {config.loss.name} has no {key}"
                )
            continue
        if value is None:
            config.loss[key] = loss.defaults[key]
        checks.apply(config, checks.positive(f"loss.{key}"))
    for key, bound in loss.bounds.items():
        highest = bound(config.data.num_classes)
        if config.loss[key] > highest:
            raise checks.invalid(
                f"loss.{key}",
                config.loss[key],
                f"a number in (0, {highest:.4g}] for {config.loss.name} with "
                f"data.num_classes={config.data.num_classes}",
            )


def flatten(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key, in the config's order."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from ((f"{key}.{rest}", v) for rest, v in flatten(value))
        else:
            yield key, value


def flatten_training(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """The values that a trained network depends on, each with its dotted key."""
    for key, value in flatten(config):
        if key.split(".")[0] in _TRAINING_SECTIONS and key not in _LOCATIONS:
            yield key, value


def training_differences(first: ConfigDict, second: ConfigDict) -> list[str]:
    """Keys, with both values, that would train another network."""
    old, new = dict(flatten_training(first)), dict(flatten_training(second))
    return [
        f"{key}: {old.get(key, 'absent')!r} there, {new.get(key, 'absent')!r} here"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def command_line(
    launcher: str,
    config: ConfigDict,
    workdir: str | Path,
    base: ConfigDict | None = None,
) -> str:
    """The shell command that runs a launcher with exactly this config.

    Args:
        launcher: the name of a module in experiments/.
        config: resolved.
        workdir: where it runs.
        base: what the launcher starts from; by default configs/default.py.
    """
    words = ["python", "-m", f"experiments.{launcher}", f"--workdir={workdir}"]
    if base is None:
        base = default.get_config()
        words.append("--config=configs/default.py")
    known = dict(flatten(base))
    changes = [
        f"--config.{key}={value}"
        for key, value in flatten(config)
        if value is not None and value != known[key]
    ]
    return shlex.join([*words, *changes])


def to_json(config: ConfigDict) -> str:
    """The config as JSON text; `from_dict(json.loads(text))` reads it back."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_saved(
    values: dict[str, Any], source: Path, *, quiet: bool = False
) -> ConfigDict:
    """The config that was saved as JSON, perhaps by an earlier version.

    A key that there was not yet takes its default, which is what was done then; unless
    `quiet` a warning names it. A key that there is no longer is left, for `resolve` to
    refuse.
    """
    config, usual = from_dict(values), default.get_config()
    filled = []
    if not set(usual) <= set(config):
        return config  # Of no version that there was.
    for key, value in flatten(usual):
        *path, last = key.split(".")
        section = config
        for part in path:
            section = section.get(part) if isinstance(section, ConfigDict) else None
        if isinstance(section, ConfigDict) and last not in section:
            section[last] = value
            filled.append(f"{key}={value!r}")
    if filled and not quiet:
        warnings.warn(
            f"{source} was saved by an earlier version: it is read with "
            f"{', '.join(filled)}",
            stacklevel=2,
        )
    return config


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The config whose `to_dict` went through JSON: lists become tuples again."""

    def revive(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: revive(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(revive(values))
