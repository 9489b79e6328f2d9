"""Keys that are set and change nothing: a command says so."""

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence

from ml_collections import ConfigDict

from advloss.config.idle import reason, reason_in_evaluation


def warn(runs: Sequence[ConfigDict], keys: Iterable[str]) -> None:
    """Warns of keys that change nothing in how any of these runs is trained."""
    _warn_where_all(reason, runs, keys)


def warn_in_evaluation(runs: Sequence[ConfigDict], keys: Iterable[str]) -> None:
    """Warns of keys of attacks that are in `evaluate.attacks` of none of these runs."""
    _warn_where_all(reason_in_evaluation, runs, keys)


def _warn_where_all(
    why: Callable[[ConfigDict, str], str | None],
    runs: Sequence[ConfigDict],
    keys: Iterable[str],
) -> None:
    for key in dict.fromkeys(keys):
        reasons = [why(config, key) for config in runs]
        if all(reasons):
            _warn(key, " and ".join(dict.fromkeys(map(str, reasons))))


def warn_of_replaced(keys: Iterable[str], own: Collection[str]) -> None:
    """Warns of keys that are set for all runs, each of which has its own value."""
    for key in keys:
        if key in own:
            _warn(key, "every run sets it itself")


def _warn(key: str, why: str) -> None:
    warnings.warn(f"config.{key} changes nothing: {why}", stacklevel=3)
