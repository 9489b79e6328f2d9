"""Configs as they are read: defaults filled in, values checked, saved and compared.

`configs/default.py` declares every key; a config has exactly these, with values of the
same types.
"""

import difflib
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss import data, train
from advloss.attacks import ATTACKS
from advloss.errors import InputError
from advloss.losses import LOSSES, OBJECTIVES
from advloss.models import INITIALISERS, MODELS
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

Check = tuple[str, Callable[[Any], bool], str]


def _choices(names: Any) -> str:
    return f"one of {', '.join(sorted(names))}"


def _one_of(key: str, names: Any) -> Check:
    return key, lambda value: value in names, _choices(names)


def _whole(key: str, least: int) -> Check:
    return key, lambda value: least <= value < 2**31, f"a whole number >= {least}"


def _between(key: str, low: float, high: float) -> Check:
    return key, lambda value: low <= value <= high, f"a number in [{low:g}, {high:g}]"


def _positive(key: str) -> Check:
    return key, lambda value: 0 < value < float("inf"), "a finite number > 0"


def _attack_checks(section: str, keys: Iterable[str]) -> list[Check]:
    """The checks of an attack's settings, by their names."""
    # The farthest corner of [0, 1]^n is 1 away, in l2 sqrt(n), in l0 n.
    norms = {"penalty": 100, "pgd_l2": 100, "carlini_l2": 100, "carlini_l0": 10_000}
    farthest = norms.get(section.rsplit(".", 1)[1], 1)
    checks = [
        _one_of(f"{section}.objective", OBJECTIVES),
        _between(f"{section}.epsilon", 0, farthest),
        _between(f"{section}.step_size", 0, farthest),
        _between(f"{section}.confidence", 0, 1e6),
        _between(f"{section}.decay", 0, 1),
        _between(f"{section}.share", 0, 1),
        _between(f"{section}.initial_threshold", 0, 1),
        *(
            _positive(f"{section}.{key}")
            for key in ("objective_scale", "learning_rate", "initial_constant")
        ),
        *(
            _whole(f"{section}.{key}", 0)
            for key in ("steps", "binary_search_steps", "search_steps", "rounds")
        ),
        _whole(f"{section}.restarts", 1),
        _whole(f"{section}.draws", 1),
    ]
    return [check for check in checks if check[0].rsplit(".", 1)[1] in keys]


_CHECKS = [
    (
        "name",
        lambda value: re.fullmatch(r"(?!\.)[ -.0-~]{1,40}", value),
        "1 to 40 printable ASCII characters without /, the first of them no dot",
    ),
    _whole("seed", 0),
    _one_of("loss.name", LOSSES),
    _one_of("data.source", data.SOURCES),
    _whole("data.num_classes", 2),
    _one_of("model.name", MODELS),
    _one_of("model.init", INITIALISERS),
    _whole("train.steps", 1),
    _whole("train.batch_size", 1),
    _positive("train.learning_rate"),
    _one_of("train.schedule", train.SCHEDULES),
    _whole("train.chunk_steps", 1),
    _whole("train.checkpoint_every", 1),
    _one_of("train.attack.name", ("none", "pgd")),
    *_attack_checks("train.attack", ("objective", "epsilon", "step_size", "steps")),
    _between("train.attack.warmup", 0, 1),
    _whole("evaluate.seed", 0),
    _whole("evaluate.batch_size", 1),
    _whole("evaluate.examples", 0),
]


def resolve(config: ConfigDict) -> ConfigDict:
    """A copy with the loss's defaults filled in and every value checked.

    Raises:
        InputError: a key is missing or unknown, a value is not valid, or a
            hyperparameter is set that the loss does not have. The message names the
            key, the value and what is valid.
    """
    config = _conform(config)
    for check in _CHECKS:
        _apply(config, check)
    if not config.evaluate.attacks:
        raise _invalid("evaluate.attacks", (), "at least one attack")
    for name in config.evaluate.attacks:
        if name not in ATTACKS:
            raise _invalid(
                "evaluate.attacks", config.evaluate.attacks, _choices(ATTACKS)
            )
        for check in _attack_checks(f"evaluate.{name}", config.evaluate[name]):
            _apply(config, check)
    every, chunk = config.train.checkpoint_every, config.train.chunk_steps
    if every % chunk:
        raise _invalid(
            "train.checkpoint_every", every, f"a multiple of train.chunk_steps={chunk}"
        )
    examples = config.train.steps * config.train.batch_size
    if examples >= 2**31:
        raise _invalid(
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
        section = _get(result, path)
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
    texts = kind is not tuple or all(isinstance(item, str) for item in value or "")
    if type(value) is not kind or not texts:
        raise _invalid(key, value, _TYPES[kind])
    if kind is tuple:  # The command line gives ("a,b",) for a,b.
        return tuple(part.strip() for item in value for part in item.split(","))
    return value


def _resolve_loss(config: ConfigDict) -> None:
    loss = LOSSES[config.loss.name]
    for key in _LOSS_HYPERPARAMETERS:
        value = config.loss[key]
        if key not in loss.defaults:
            if value is not None:
                raise _invalid(
                    f"loss.{key}", value, f"unset, as {config.loss.name} has no {key}"
                )
            continue
        if value is None:
            config.loss[key] = loss.defaults[key]
        _apply(config, _positive(f"loss.{key}"))
    for key, bound in loss.bounds.items():
        highest = bound(config.data.num_classes)
        if config.loss[key] > highest:
            raise _invalid(
                f"loss.{key}",
                config.loss[key],
                f"a number in (0, {highest:.4g}] for {config.loss.name} with "
                f"data.num_classes={config.data.num_classes}",
            )


def _apply(config: ConfigDict, check: Check) -> None:
    key, is_valid, valid = check
    value = _get(config, key.split("."))
    if not is_valid(value):
        raise _invalid(key, value, valid)


def _get(config: ConfigDict, path: Sequence[str]) -> Any:
    for part in path:
        config = config[part]
    return config


def _invalid(key: str, value: Any, valid: str) -> InputError:
    return InputError(f"config.{key}={value!r} is not valid: use {valid}")


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


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The config whose `to_dict` went through JSON: lists become tuples again."""

    def revive(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: revive(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    return ConfigDict(revive(values))
