"""Keys that are set and change nothing: a command says so."""

import warnings
from collections.abc import Iterable, Sequence

from ml_collections import ConfigDict

from advloss.defences import DEFENCES


def warn_in_training(runs: Sequence[ConfigDict], keys: Iterable[str]) -> None:
    """Warns of keys that change nothing in how any of these runs is trained."""
    for key in dict.fromkeys(keys):
        reasons = [_reason(config, key) for config in runs]
        if all(reasons):
            listed = " and ".join(dict.fromkeys(map(str, reasons)))
            warnings.warn(f"config.{key} changes nothing: {listed}", stacklevel=2)


def _reason(config: ConfigDict, key: str) -> str | None:
    of_attack = key == "defence.attack" or key.startswith("train.attack.")
    if of_attack and not DEFENCES[config.defence.name].attacks:
        return f"config.defence.name={config.defence.name} attacks no batch"
    of_validation = key in ("train.validation.every", "train.validation.steps")
    if of_validation and not config.train.validation.examples:
        return "config.train.validation.examples=0"
    return None
