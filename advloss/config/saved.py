"""Configs on disk and on the command line: saved, read again and compared.

    files.write_text(workdir / saved.CONFIG, saved.to_json(config))
    config = saved.load_config(workdir)

What is saved is resolved: every setting in it has the value it was trained with, so
that a default that changes later does not change a run.
"""

import json
import shlex
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from advloss.attacks import ATTACKS
from advloss.config.idle import asked_attacks
from advloss.config.schema import default, keys, resolve
from advloss.config.trees import flatten, get, is_renamed, put
from advloss.errors import InputError, line
from advloss.runtime import files

CONFIG = "config.json"
NETWORK = "model.safetensors"  # Beside it where `Trained.save` wrote.
# A trained network depends on these sections; the others may change afterwards.
_TRAINING = ("seed", "loss", "defence", "data", "model", "train")
# What was done before there was the key, where that is not the default.
_BEFORE = {"train.validation.examples": 0}
# Where data and a teacher lie does not change what they are.
_LOCATIONS = ("data.dir", "data.file", "data.manual_dir", "defence.teacher")


def flatten_training(config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """The values that a trained network depends on, each with its dotted key."""
    for key, value in flatten(config):
        if key.split(".")[0] in _TRAINING and key not in _LOCATIONS:
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
        base = default()
        words.append("--config=configs/default.py")
    changes = _changes(base, config)
    words += [f"--config.{key}={_flag_text(value)}" for key, value in changes]
    return shlex.join(words)


def recipe(config: ConfigDict) -> Iterator[tuple[str, str]]:
    """What a network depends on and is not the default, with the text of a flag."""
    known = dict(flatten_training(config))
    for key, value in _changes(default(), config):
        if key in known:
            yield key, _flag_text(value)


def _flag_text(value: Any) -> str:
    """Several names or numbers joined by commas, as a flag takes them."""
    several = isinstance(value, tuple) and len(value) > 0
    return ",".join(map(str, value)) if several else str(value)


def _changes(base: ConfigDict, config: ConfigDict) -> Iterator[tuple[str, Any]]:
    """What must be set in `base` so that it resolves to `config`."""
    known, usual = keys(), base.copy_and_resolve_references()
    told, wanted = dict(flatten(usual)), dict(flatten(config))
    for key, value in wanted.items():
        if not known[key].optional and value != told[key]:
            put(usual, key, value)
    try:
        filled = dict(flatten(resolve(usual)))
    except InputError:  # It sets what the chosen loss does not have, say.
        filled = told
    for key, value in wanted.items():
        reached = filled if known[key].optional else told
        if value is not None and value != reached[key]:
            yield key, value


def to_json(config: ConfigDict) -> str:
    """The config as JSON text; `from_dict(json.loads(text))` reads it back."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_dict(values: dict[str, Any]) -> ConfigDict:
    """The config whose `to_dict` went through JSON: lists become tuples again.

    Raises:
        InputError: a key is none that a config can have.
    """

    def revive(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: revive(item) for key, item in value.items()}
        return tuple(value) if isinstance(value, list) else value

    try:
        return ConfigDict(revive(values))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"the config can't be read: {line(error)}") from error


def from_saved(
    values: dict[str, Any], source: Path, *, quiet: bool = False
) -> ConfigDict:
    """The config that was saved as JSON, perhaps by an earlier version, resolved.

    A key that there was not yet takes its default, which is what was done then, and so
    does one that was unset, as nothing took it; unless `quiet` a warning names them,
    and counts those of attacks that are not in `evaluate.attacks`. What an entry of
    one's own had added, and nothing in the config takes, is left out.

    Args:
        values: what the JSON holds.
        source: where it lay, for the warning.
        quiet: without a warning.

    Raises:
        InputError: a value or a key is none that a config can have.
    """
    config, usual = from_dict(values), default()
    _leave_out(config, keys())
    absent = []
    if set(usual) <= set(config):  # Else it is of no version that there was.
        for key, value in flatten(usual):
            *path, last = key.split(".")
            section = _section(config, path)
            if section is not None and last not in section:
                section[last] = _BEFORE.get(key, value)
                absent.append(key)
    unset = [key for key, value in flatten(config) if value is None]
    resolved = resolve(config)
    filled = {key: get(resolved, key) for key in dict.fromkeys([*absent, *unset])}
    filled = {key: value for key, value in filled.items() if value is not None}
    if filled and not quiet:
        idle = _idle_attacks(resolved)
        told = [
            f"{key}={value!r}"
            for key, value in filled.items()
            if not key.startswith(idle)
        ]
        if more := len(filled) - len(told):
            told.append(f"{more} defaults of attacks that it does not ask for")
        warnings.warn(
            f"{source} was saved by an earlier version, or before something was "
            f"entered: it is read with {', '.join(told)}",
            stacklevel=2,
        )
    return resolved


def _leave_out(config: ConfigDict, known: Collection[str]) -> None:
    """Takes keys away that are not known here and say nothing of this config.

    They are unset, or of an attack that `evaluate.attacks` has not: what had entered
    them need not be entered for this config to be read.
    """
    evaluate = config.get("evaluate")
    asked = evaluate.get("attacks") if isinstance(evaluate, ConfigDict) else None
    asked = asked if isinstance(asked, tuple) else ()
    for key, value in list(flatten(config)):
        section, *path = key.split(".")
        of_attack = section == "evaluate" and len(path) == 2 and path[0] not in ATTACKS
        idle = of_attack and not is_renamed(key) and path[0] not in asked
        if key not in known and (value is None or idle):
            place, _, last = key.rpartition(".")
            del (get(config, place) if place else config)[last]
            if idle and not evaluate[path[0]]:
                del evaluate[path[0]]


def _idle_attacks(config: ConfigDict) -> tuple[str, ...]:
    """What the keys of those attacks begin with that `evaluate.attacks` has not."""
    asked = asked_attacks(config)
    return tuple(f"evaluate.{name}." for name in ATTACKS if name not in asked)


def _section(config: ConfigDict, path: list[str]) -> ConfigDict | None:
    """The section at a path, made where a later version put one into another."""
    for part in path:
        if part not in config:
            config[part] = ConfigDict()
        config = config[part]
        if not isinstance(config, ConfigDict):
            return None
    return config


def load_config(workdir: str | Path) -> ConfigDict:
    """The config saved in a work directory.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = Path(workdir) / CONFIG
    if Path(workdir).exists() and not Path(workdir).is_dir():
        raise InputError(f"--workdir={workdir} is not a folder: name a run's")
    advice = "delete it: the command that trained the run writes it again"
    if (path.parent / NETWORK).exists():
        advice = "save the network again"
    values = files.read_json(path, f"; {advice}")
    if values is None:
        raise InputError(
            f"--workdir={workdir} holds no run: {path} is missing; train one there "
            "with `advloss train`: the command that trained a run writes it again"
        )
    try:
        return from_saved(values, path)
    except InputError as error:
        raise InputError(
            f"{path} is damaged or of another version, or names what is not entered "
            f"here: {error}; where it is damaged, {advice}"
        ) from error


def check_no_network(workdir: str | Path, advice: str) -> None:
    """Raises InputError where `Trained.save` wrote there, whose config is a run's."""
    if (Path(workdir) / NETWORK).exists():
        raise InputError(
            f"--workdir={workdir} holds a network that Trained.save wrote: {advice}"
        )
