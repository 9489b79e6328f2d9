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
    chosen = config.defence
    of_attack = key == "defence.attack" or key.startswith("train.attack.")
    if of_attack and not DEFENCES[chosen.name].attacks:
        return f"config.defence.name={chosen.name} attacks no batch"
    if key == "defence.label_smoothing" and chosen.teacher:
        return "the teacher that is named takes the place of the labels"
    return None
