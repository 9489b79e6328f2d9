"""What attacks climb beside losses: margins of classes, and their ratio."""

import warnings

import jax
import jax.numpy as jnp

from advloss.losses.gaps import chosen, gaps_of
from advloss.types import Array

DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4


def margin(logits: Array, labels: Array) -> Array:
    """The margin of the best wrong class: `max over j != y of f_j - f_y`.

    Not a loss to train with, but an objective for attacks: positive where the network
    is fooled, and with a gradient that no confidence can flatten.

    Args:
        logits: `[..., classes]` float.
        labels: `[...]` int, each in [0, classes).

    Returns:
        `[...]` in units of logit.

    See "Towards Evaluating the Robustness of Neural Networks" by Carlini and Wagner,
    Section V-B (f_6, without its constant).
    """
    gaps, wrong = gaps_of(logits, labels)
    return jnp.max(gaps, axis=-1, where=wrong, initial=-jnp.inf)


def targeted_margin(logits: Array, labels: Array, targets: Array) -> Array:
    """The margin of a target: `f_t - f_y`, `[...]`, in units of logit.

    Arguments are those of `margin`, and the targets, `[...]` int.
    """
    gaps, _ = gaps_of(logits, labels)
    return chosen(gaps, targets)


def dlr(logits: Array, labels: Array) -> Array:
    """Difference of logits ratio: `(max over j != y of f_j - f_y) / (f_(1) - f_(3))`.

    f_(k) is the k-th largest logit, so that a factor of the logits changes nothing. It
    needs 3 classes: of two it is `margin`, whose arguments it has, and warns.

    See "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks" by Croce and Hein, Eq. 6.
    """
    return _ratio(margin(logits, labels), logits, DLR_CLASSES)


def targeted_dlr(logits: Array, labels: Array, targets: Array) -> Array:
    """DLR of a target: `(f_t - f_y) / (f_(1) - (f_(3) + f_(4)) / 2)`, `[...]`.

    It needs 4 classes: of fewer it is `targeted_margin`, whose arguments it has, and
    warns. See the paper of `dlr`, Eq. 7.
    """
    margins = targeted_margin(logits, labels, targets)
    return _ratio(margins, logits, TARGETED_DLR_CLASSES)


def _ratio(margins: Array, logits: Array, least: int) -> Array:
    """Margins in units of how far the largest logit leads the third to the `least`."""
    if (classes := logits.shape[-1]) < least:
        text = f"DLR needs {least} classes, of {classes} the margin is climbed"
        warnings.warn(text, stacklevel=3)
        return margins
    largest, _ = jax.lax.top_k(logits, least)
    lead = largest[..., 0] - largest[..., 2:].mean(axis=-1)
    # Where all are equal, 0 / 0; halves know no 1e-12.
    return margins / (lead + max(1e-12, float(jnp.finfo(lead.dtype).tiny)))


TARGETED = {"dlr": targeted_dlr, "margin": targeted_margin}
"""What attacks climb towards classes: (logits, labels, targets) -> `[...]`."""
