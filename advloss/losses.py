r"""Loss functions, per example, and the registry that configs choose from.

Every loss here is a function of the gaps `f_j - f_y` between a wrong class's score and
the true class's, j != y. Written that way it needs no special case for large scores,
and its gradient keeps its precision where the network is sure: in the textbook form the
true class's gradient `p_y - 1` rounds to zero, and an attack that follows it stands
still although the network could be fooled. Scores must be finite and labels in
[0, classes), which is not checked: under `jit`, values are not known.

    softmax_cross_entropy   log(1 + sum_j exp(f_j - f_y))
    hinge                   sum_j max(0, f_j - f_y + margin)
    lmcl                    log(1 + sum_j exp(scale * (cos_j - cos_y + margin)))

To add a loss: write a function `f(scores, labels, *, hyperparameters) -> [batch]`, and
enter it in `LOSSES` with its head and its hyperparameters' defaults (see
docs/add-a-loss.md).
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from advloss.types import Array, Objective


def _gaps(scores: Array, labels: Array) -> tuple[Array, Array]:
    """`f_j - f_y` `[..., classes]`, and where j is a wrong class."""
    chex.assert_type([scores, labels], [float, int])
    chex.assert_shape(labels, scores.shape[:-1])
    true = jnp.take_along_axis(scores, labels[..., None], axis=-1)
    wrong = ~jax.nn.one_hot(labels, scores.shape[-1], dtype=bool)
    return scores - true, wrong


def _log1p_sum_exp(gaps: Array, wrong: Array) -> Array:
    """log(1 + sum over wrong classes of exp(gap)), without overflow."""
    return jnp.logaddexp(0.0, jax.nn.logsumexp(gaps, axis=-1, where=wrong))


def softmax_cross_entropy(scores: Array, labels: Array) -> Array:
    """Cross-entropy of the softmax: `-log(exp(f_y) / sum_j exp(f_j))`.

    Args:
        scores: `[..., classes]` float, unnormalised.
        labels: `[...]` int, each in [0, classes).

    Returns:
        `[...]` the loss of each example, at least 0.

    See "Robust Loss Functions" by Vu and Tran, Section IV-A.
    """
    return _log1p_sum_exp(*_gaps(scores, labels))


def hinge(scores: Array, labels: Array, *, margin: float | Array = 1.0) -> Array:
    """Multi-class hinge loss: `sum over j != y of max(0, f_j - f_y + margin)`.

    This is the sum over all wrong classes (Weston and Watkins), as in the paper, not
    the largest term alone (Crammer and Singer).

    Args:
        scores: `[..., classes]` float.
        labels: `[...]` int, each in [0, classes).
        margin: how far, in units of score, the true class must lead.

    Returns:
        `[...]` the loss of each example, at least 0.

    See "Robust Loss Functions" by Vu and Tran, Section IV-A.
    """
    gaps, wrong = _gaps(scores, labels)
    return jnp.sum(jnp.maximum(gaps + margin, 0.0), axis=-1, where=wrong)


def lmcl(
    cosines: Array, labels: Array, *, scale: float | Array, margin: float | Array
) -> Array:
    r"""Large-margin cosine loss, softmax cross-entropy with a margin on the cosine.

    `-log(e^{s (cos_y - m)} / (e^{s (cos_y - m)} + sum over j != y of e^{s cos_j}))`

    Args:
        cosines: `[..., classes]` float, cosines of the angles between the features and
            the class vectors.
        labels: `[...]` int, each in [0, classes).
        scale: s, the length that features are given.
        margin: m, in units of cosine; more than `lmcl_margin_bound` can't be kept.

    Returns:
        `[...]` the loss of each example, at least 0.

    See "CosFace: Large Margin Cosine Loss for Deep Face Recognition" by Wang et al.,
    Eq. 4, and "Robust Loss Functions" by Vu and Tran, Section IV-A.
    """
    gaps, wrong = _gaps(cosines, labels)
    return _log1p_sum_exp(scale * (gaps + margin), wrong)


def lmcl_margin_bound(num_classes: int) -> float:
    """The largest margin that class vectors can keep: C / (C - 1).

    Among C unit vectors some two have a cosine of at least -1 / (C - 1), so a class's
    own direction leads them by at most 1 + 1 / (C - 1).

    Raises:
        ValueError: with fewer than two classes there is no margin.

    See "CosFace" by Wang et al., Section 3.3.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: at least 2 classes are needed")
    return num_classes / (num_classes - 1)


class Loss(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: `f(scores, labels, *, hyperparameters) -> [batch]`.
        head: what the model's last layer gives it as scores, a key of
            `models.HEADS`: "linear" or "cosine".
        defaults: its hyperparameters, keys of `config.loss`, with their defaults.
        bounds: the largest value a hyperparameter may take, from the number of
            classes, where there is one.
    """

    function: Callable[..., Array]
    head: str
    defaults: Mapping[str, float]
    bounds: Mapping[str, Callable[[int], float]] = {}


LOSSES = {
    "softmax_cross_entropy": Loss(softmax_cross_entropy, "linear", {}),
    "hinge": Loss(hinge, "linear", {"margin": 1.0}),
    "lmcl": Loss(
        lmcl,
        "cosine",
        {"margin": 0.3, "scale": 10.0},
        {"margin": lmcl_margin_bound},
    ),
}


def lead(scores: Array, labels: Array) -> Array:
    """By how much the best wrong class leads: `max over j != y of f_j - f_y`.

    Not a loss to train with, but an objective for attacks: positive where the network
    is fooled, and with a gradient that no confidence can flatten.

    Args:
        scores: `[..., classes]` float.
        labels: `[...]` int, each in [0, classes).

    Returns:
        `[...]` in units of score.

    See "Towards Evaluating the Robustness of Neural Networks" by Carlini and Wagner,
    Section V-B (f_6, without its constant).
    """
    gaps, wrong = _gaps(scores, labels)
    return jnp.max(gaps, axis=-1, where=wrong, initial=-jnp.inf)


OBJECTIVES = ("training", "lead", *LOSSES)


def bind(name: str, hyperparameters: Mapping[str, float | Array]) -> Objective:
    """The loss of that name as a function of scores and labels alone."""
    return functools.partial(LOSSES[name].function, **hyperparameters)


def objective(name: str, training: Objective, scale: float | Array = 1.0) -> Objective:
    """What an attack climbs, by its name in `OBJECTIVES`.

    Args:
        name: "training" for the network's own loss, "lead", or a loss's name, which
            then takes its default hyperparameters.
        training: the network's own loss.
        scale: the scores are multiplied by it first. Cross-entropy on cosines, say, is
            nearly flat, and says more of the network at a scale of 10 or 100.
    """
    if name == "training":
        chosen = training
    elif name == "lead":
        chosen = lead
    else:
        chosen = bind(name, LOSSES[name].defaults)
    return lambda scores, labels: chosen(scale * scores, labels)
