"""What must hold of losses and weights while a network is trained."""

import warnings
from collections.abc import Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from advloss.attacks import ATTACKS
from advloss.defences import DEFENCES
from advloss.errors import DivergedError
from advloss.types import TrainState


def check_state(state: TrainState, config: ConfigDict) -> None:
    """The last update too must be finite, before it is kept. Raises DivergedError."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state)):
        raise DivergedError(
            f"the parameters are no longer finite after step {int(state.step)} of "
            f"{config.train.steps} (config.train.learning_rate="
            f"{config.train.learning_rate:g}): use a smaller learning rate"
        )


def check_finite(
    chunk: Mapping[str, np.ndarray], done: int, config: ConfigDict
) -> None:
    """The losses of the steps after `done` must be finite. Raises DivergedError."""
    bad = np.flatnonzero(~np.isfinite(chunk["loss"]))
    if bad.size:
        at = int(bad[0])
        raise DivergedError(
            f"the loss became {float(chunk['loss'][at])} at step {done + at + 1} of "
            f"{config.train.steps} (config.loss.name={config.loss.name!r}, "
            f"config.train.learning_rate={config.train.learning_rate:g}): use "
            f"{_remedy(done + at, config)}"
        )


def lost(row: Mapping[str, float], config: ConfigDict) -> str:
    """A sentence where a row of metrics shows catastrophic overfitting, else "".

    Held-out images keep less than half of what they once kept under PGD, and that was
    more than twice what chance gives. Or, after the warm-up, less than a third of what
    batches keep under the attack that trains: it no longer finds what PGD finds.
    """
    if "validation_robust" not in row or not DEFENCES[config.defence.name].attacks:
        return ""
    now, best, trained = (
        row[key] for key in ("validation_robust", "best_robust", "accuracy")
    )
    chance = 1 / config.data.num_classes
    warm = row["step"] >= config.train.attack.warmup * config.train.steps
    said = (
        f"catastrophic overfitting at step {row['step']:.0f}: of held-out images "
        f"{now:.1%} are right under PGD-{config.train.validation.steps}, "
    )
    if best > 2 * chance and now < best / 2:
        when = f"step {row['best_step']:.0f}"
        keeps = config.train.keep == "best"
        kept = f"{when} is kept" if keeps else f"train.keep=best would keep {when}"
        return f"{said}{best:.1%} were at {when}; {kept}"
    climbs = ATTACKS[config.defence.attack].climbs
    if climbs and warm and trained > 2 * chance and now < trained / 3:
        return f"{said}of batches {trained:.1%} under the attack that trains"
    return ""


def warn_of_loss(
    chunk: Mapping[str, np.ndarray], done: int, config: ConfigDict
) -> bool:
    """Warns where a chunk shows catastrophic overfitting, and says whether it does."""
    row = {key: float(np.mean(value)) for key, value in chunk.items()}
    if told := lost({**row, "step": done}, config):
        warnings.warn(f"{config.name}: {told}", stacklevel=3)
    return bool(told)


def _remedy(updates: int, config: ConfigDict) -> str:
    if not updates:
        return "smaller numbers in config.loss, no weight has changed yet"
    decay = config.train.weight_decay
    natural = config.defence.name == "natural"
    return (
        "a smaller learning rate"
        + (f", less of config.train.weight_decay={decay:g}" if decay else "")
        + ("" if natural else " or a longer config.train.attack.warmup")
    )
