r"""Loss functions, per example, and the registry that configs choose from.

Every loss here is a function of the gaps `f_j - f_y` between a wrong class's logit and
the true class's, j != y. Written that way it needs no special case for large logits,
and its gradient keeps its precision where the network is sure: in the textbook form the
true class's gradient `p_y - 1` rounds to zero, and an attack that follows it stands
still although the network could be fooled. Logits must be finite and labels in
[0, classes), which is not checked: under `jit`, values are not known.

    softmax_cross_entropy   log(1 + sum_j exp(f_j - f_y))
    hinge                   sum_j max(0, f_j - f_y + margin)
    lmcl                    log(1 + sum_j exp(scale * (cos_j - cos_y + margin)))

To add a loss: write a function `f(logits, labels, *, settings) -> [batch]`, and enter
it in `LOSSES` with its head and its settings (docs/add-a-loss.md).
"""

import functools
import warnings
from collections import ChainMap
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from advloss.errors import InputError, shown
from advloss.registry import Setting, positive
from advloss.types import Array, Objective


def _gaps(logits: Array, labels: Array) -> tuple[Array, Array]:
    """`f_j - f_y` `[..., classes]`, and where j is a wrong class."""
    chex.assert_type([logits, labels], [float, int])
    chex.assert_shape(labels, logits.shape[:-1])
    true = jnp.take_along_axis(logits, labels[..., None], axis=-1)
    wrong = ~jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return logits - true, wrong


def _log1p_sum_exp(gaps: Array, wrong: Array) -> Array:
    """log(1 + sum over wrong classes of exp(gap)), without overflow."""
    return jnp.logaddexp(0.0, jax.nn.logsumexp(gaps, axis=-1, where=wrong))


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of the softmax: `-log(exp(f_y) / sum_j exp(f_j))`.

    Args:
        logits: `[..., classes]` float, unnormalised.
        labels: `[...]` int, each in [0, classes).

    Returns:
        `[...]` the loss of each example, at least 0.

    See "Robust Loss Functions" by Vu and Tran, Section IV-A.
    """
    return _log1p_sum_exp(*_gaps(logits, labels))


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
    gaps, wrong = _gaps(logits, labels)
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
        function: `f(logits, labels, *, settings) -> [batch]`.
        title: its name in tables.
        head: what the network's last layer gives it, a key of `networks.HEADS`:
            "linear" for logits, "cosine" for cosines.
        settings: its hyperparameters by name; they are keys of `config.loss`.
        bounds: the largest value a setting may take, from the number of classes,
            where there is one.
    """

    function: Callable[..., Array]
    title: str
    head: str
    settings: Mapping[str, Setting] = {}
    bounds: Mapping[str, Callable[[int], float]] = {}


LOSSES = {
    "softmax_cross_entropy": Loss(softmax_cross_entropy, "softmax", "linear"),
    "hinge": Loss(
        hinge,
        "hinge",
        "linear",
        {
            "margin": Setting(
                1.0, positive(), "by how much the true logit must lead", swept=True
            )
        },
    ),
    "lmcl": Loss(
        lmcl,
        "LMCL",
        "cosine",
        {
            "scale": Setting(
                10.0, positive(), "s, the length given to features", swept=True
            ),
            "margin": Setting(
                0.3,
                positive(),
                "m, on the cosine, at most C / (C - 1) for C classes",
                swept=True,
            ),
        },
        {"margin": lmcl_margin_bound},
    ),
}


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
    gaps, wrong = _gaps(logits, labels)
    return jnp.max(gaps, axis=-1, where=wrong, initial=-jnp.inf)


def targeted_margin(logits: Array, labels: Array, targets: Array) -> Array:
    """The margin of a target: `f_t - f_y`, `[...]`, in units of logit.

    Arguments are those of `margin`, and the targets, `[...]` int.
    """
    gaps, _ = _gaps(logits, labels)
    return jnp.take_along_axis(gaps, targets[..., None], axis=-1)[..., 0]


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


DLR_CLASSES, TARGETED_DLR_CLASSES = 3, 4


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

# What an attack can climb, by name: others, and the losses as they are registered.
_OTHERS = dict.fromkeys(("training", "margin", "dlr"))
OBJECTIVES: Collection[str] = ChainMap(LOSSES, _OTHERS)


def defaults(name: str) -> dict[str, float]:
    """The default settings of the loss of that name. Raises InputError."""
    return {key: setting.default for key, setting in _entry(name).settings.items()}


def _entry(name: str) -> Loss:
    if not isinstance(name, str) or name not in LOSSES:
        raise InputError(
            f"name={shown(name)} is no loss: use one of {', '.join(LOSSES)}"
        )
    return LOSSES[name]


def bind(name: str, settings: Mapping[str, float | Array]) -> Objective:
    """The loss of that name as a function of logits and labels. Raises InputError."""
    return functools.partial(_entry(name).function, **settings)


def objective(name: str, training: Objective, scale: float = 1.0) -> Objective:
    """What an attack climbs, by its name in `OBJECTIVES`.

    Args:
        name: "training" for the network's own loss, "margin", "dlr", or a loss's name,
            which then takes its default settings.
        training: the network's own loss.
        scale: the logits are multiplied by it first. Cross-entropy on cosines, say, is
            nearly flat, and says more of the network at a scale of 10 or 100.
    """
    chosen = {"training": training, "margin": margin, "dlr": dlr}.get(name)
    if chosen is None:
        chosen = bind(name, defaults(name))
    if scale == 1:
        return chosen
    return lambda logits, labels: chosen(scale * logits, labels)
