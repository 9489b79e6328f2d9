"""What values a config's keys may have, one table of it all."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ml_collections import ConfigDict

from advloss import data, train
from advloss.attacks import ATTACKS
from advloss.errors import InputError
from advloss.losses import LOSSES, OBJECTIVES
from advloss.models import INITIALISERS, MODELS, PRECISIONS

Check = tuple[str, Callable[[Any], bool], str]


def _choices(names: Any) -> str:
    return f"one of {', '.join(sorted(names))}"


def _one_of(key: str, names: Any) -> Check:
    return key, lambda value: value in names, _choices(names)


def _whole(key: str, least: int) -> Check:
    return key, lambda value: least <= value < 2**31, f"a whole number >= {least}"


def _between(key: str, low: float, high: float) -> Check:
    return key, lambda value: low <= value <= high, f"a number in [{low:g}, {high:g}]"


def positive(key: str) -> Check:
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
            positive(f"{section}.{key}")
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
    _one_of("model.precision", PRECISIONS),
    _whole("train.steps", 1),
    _whole("train.batch_size", 1),
    positive("train.learning_rate"),
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


def check(config: ConfigDict) -> None:
    """Holds every value to the table, of attacks those that will be run.

    Raises:
        InputError: a value is not valid.
    """
    for entry in _CHECKS:
        apply(config, entry)
    if not config.evaluate.attacks:
        raise invalid("evaluate.attacks", (), "at least one attack")
    for name in config.evaluate.attacks:
        if name not in ATTACKS:
            raise invalid(
                "evaluate.attacks", config.evaluate.attacks, _choices(ATTACKS)
            )
        for entry in _attack_checks(f"evaluate.{name}", config.evaluate[name]):
            apply(config, entry)


def apply(config: ConfigDict, entry: Check) -> None:
    """Holds one value to its check."""
    key, is_valid, valid = entry
    value = get(config, key.split("."))
    if not is_valid(value):
        raise invalid(key, value, valid)


def get(config: ConfigDict, path: Sequence[str]) -> Any:
    """The value at a path of keys."""
    for part in path:
        config = config[part]
    return config


def invalid(key: str, value: Any, valid: str) -> InputError:
    """The error of a value, with what would be valid."""
    return InputError(f"config.{key}={value!r} is not valid: use {valid}")
