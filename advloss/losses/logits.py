"""Losses of logits: softmax cross-entropy and hinge."""

import jax.numpy as jnp

from advloss.losses.gaps import gaps_of, log1p_sum_exp
from advloss.types import Array


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of the softmax: `-log(exp(f_y) / sum_j exp(f_j))`.

    Args:
        logits: `[..., classes]` float, unnormalised.
        labels: `[...]` int, each in [0, classes).

    Returns:
        `[...]` the loss of each example, at least 0.

    See "Robust Loss Functions" by Vu and Tran, Section IV-A.
    """
    return log1p_sum_exp(*gaps_of(logits, labels))


def hinge(logits: Array, labels: Array, *, margin: float | Array = 1.0) -> Array:
    """Multi-class hinge loss: `sum over j != y of max(0, f_j - f_y + margin)`.

    This is the sum over all wrong classes (Weston and Watkins), as in the paper, not
    the largest term alone (Crammer and Singer).

    Args:
        logits: `[..., classes]` float.
        labels: `[...]` int, each in [0, classes).
        margin: how far, in units of logit, the true class must lead.

    Returns:
        `[...]` the loss of each example, at least 0.

    See "Robust Loss Functions" by Vu and Tran, Section IV-A.
    """
    gaps, wrong = gaps_of(logits, labels)
    return jnp.sum(jnp.maximum(gaps + margin, 0.0), axis=-1, where=wrong)
