"""What AutoAttack warns of, as pure functions of logits and of who was fooled.

See the "flags" of the authors' code and "Reliable Evaluation of Adversarial Robustness
with an Ensemble of Diverse Parameter-free Attacks" by Croce and Hein.
"""

import numpy as np

from advloss.evaluation.diagnosis.check import Check, at_most, not_run, share
from advloss.losses import TARGETED_DLR_CLASSES

_SOURCE = "AutoAttack"
_ROUNDING = 1e-4  # Ours: of logits, relative to their spread.
_SQUARE = 0.002  # Theirs.


def randomised(first: np.ndarray, second: np.ndarray) -> Check:
    """Images whose logits change when they are asked for again in another batch.

    Args:
        first, second: `[n, classes]` logits of the same images.
    """
    spread = np.maximum(np.ptp(first, axis=1), np.finfo(np.float32).tiny)
    moved = np.abs(first - second).max(axis=1) / spread
    return at_most(
        "outputs are random",
        np.mean(moved > _ROUNDING),
        0.0,
        "the output depends on chance or on the batch: take the mean of many, and "
        "attack that",
        _SOURCE,
    )


def is_distribution(logits: np.ndarray) -> Check:
    """Images whose output is no logit but a probability.

    Args:
        logits: `[n, classes]` what the network gives.
    """
    sums = np.abs(logits.sum(axis=1) - 1) < 1e-4
    return at_most(
        "outputs are probabilities",
        np.mean(sums & (logits >= 0).all(axis=1)),
        0.0,
        "a softmax is within the network: its gradient vanishes where it is sure; give "
        "the logits",
        _SOURCE,
    )


def zero_gradients(flat: np.ndarray) -> Check:
    """Natural images at which the margin of the logits has no gradient.

    Args:
        flat: `[m]` bool.
    """
    return at_most(
        "logits have no gradient",
        flat.mean(),
        0.0,
        "a step within the network, such as rounding, lets no gradient through: use "
        "one that goes around it, and black-box attacks",
        _SOURCE,
    )


def few_classes(classes: int) -> Check:
    """Whether there are enough classes for DLR, targeted too."""
    name, meaning = "classes are few", "DLR needs 4 classes: the margin takes its place"
    if classes >= TARGETED_DLR_CLASSES:
        return Check(name, None, None, True, meaning, _SOURCE)
    reason = f"there are {classes}: the margin takes the place of DLR"
    return not_run(name, reason, meaning, _SOURCE)


def square_beats_gradients(square: np.ndarray, gradients: np.ndarray) -> Check:
    """Images that Square fools, and no attack by gradients does.

    Args:
        square, gradients: `[n]` bool, who is fooled.
    """
    return at_most(
        "Square finds more than gradients",
        np.mean(square & ~gradients),
        share(len(square), _SQUARE),
        "random search must not beat gradients: they are masked, and even the worst "
        "case here is too high",
        _SOURCE,
    )
