r"""Losses of cosines: softmax cross-entropy that asks for a margin of the true class.

-log(e^{s phi} / (e^{s phi} + sum over j != y of e^{s cos_j}))

lmcl         phi = cos_y - m               a margin on the cosine
arcface      phi = cos(theta_y + m)        on the angle, added
sphereface   phi = cos(m theta_y)          on the angle, times
"""

import math
import operator
from collections.abc import Callable

import jax.numpy as jnp

from advloss.errors import InputError, shown
from advloss.losses.gaps import chosen, gaps_of, log1p_sum_exp
from advloss.types import Array

# The sine of an angle has no slope in the cosine at 0 and pi: nearer than this it is
# taken as constant. In float32 a cosine tells smaller angles apart badly anyway.
_SMALLEST_SINE = 1e-3


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
    Eq. 4, and "Robust Loss Functions" by Vu and Tran, Section IV-A. Hypersphere
    embedding is this loss, with an attack that climbs it at margin 0: see "Boosting
    Adversarial Training with Hypersphere Embedding" by Pang et al., Eq. 8.
    """
    gaps, wrong = gaps_of(cosines, labels)
    return log1p_sum_exp(scale * (gaps + margin), wrong)


def arcface(
    cosines: Array, labels: Array, *, scale: float | Array, margin: float | Array
) -> Array:
    r"""Additive angular margin: `cos(theta_y + m)` stands for the true cosine.

    Where theta_y + m is beyond pi, `-2 - cos(theta_y + m)` does: it goes on falling.

    Args:
        cosines: `[..., classes]` float, cosines of the angles between the features and
            the class vectors.
        labels: `[...]` int, each in [0, classes).
        scale: s, the length that features are given.
        margin: m, in radians; more than `arcface_margin_bound` can't be kept.

    Returns:
        `[...]` the loss of each example, at least 0.

    See "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" by Deng et
    al., Eq. 3, which leaves open what holds beyond pi.
    """

    def turn(cosine: Array) -> Array:
        square = jnp.maximum((1 - cosine) * (1 + cosine), _SMALLEST_SINE**2)
        turned = cosine * jnp.cos(margin) - jnp.sqrt(square) * jnp.sin(margin)
        return jnp.where(cosine < -jnp.cos(margin), -2 - turned, turned)

    return _turned(cosines, labels, turn, scale)


def sphereface(
    cosines: Array, labels: Array, *, scale: float | Array, multiplier: int
) -> Array:
    r"""Multiplicative angular margin: `cos(m theta_y)` stands for the true cosine.

    It is `(-1)^k cos(m theta) - 2k` for theta from k pi / m to (k + 1) pi / m, which
    falls from 0 to pi; cos(m theta) is a polynomial of the cosine. The features have
    length s here, as in the losses beside it.

    Args:
        cosines: `[..., classes]` float, cosines of the angles between the features and
            the class vectors.
        labels: `[...]` int, each in [0, classes).
        scale: s, the length that features are given.
        multiplier: m, a whole number, at least 1: with 1 there is no margin.

    Returns:
        `[...]` the loss of each example, at least 0.

    Raises:
        InputError: the multiplier is no such number; it can't be traced.

    See "SphereFace: Deep Hypersphere Embedding for Face Recognition" by Liu et al.,
    Eq. 6 and 7.
    """
    multiplier = _whole(multiplier)
    ends = [math.cos(i * math.pi / multiplier) for i in range(1, multiplier)]

    def turn(cosine: Array) -> Array:
        before, turned = jnp.ones_like(cosine), cosine  # Chebyshev's, of degree 0, 1.
        for _ in range(multiplier - 1):
            before, turned = turned, 2 * cosine * turned - before
        below = ((cosine < end).astype(cosine.dtype) for end in ends)
        k = sum(below, jnp.zeros_like(cosine))
        return jnp.where(k % 2 == 0, turned, -turned) - 2 * k

    return _turned(cosines, labels, turn, scale)


def _whole(multiplier: int) -> int:
    try:
        count = 0 if isinstance(multiplier, bool) else operator.index(multiplier)
    except TypeError:  # A float, or what is traced.
        count = 0
    if count < 1:
        raise InputError(
            f"multiplier={shown(multiplier)} is not valid: use a whole number >= 1"
        )
    return count


def _turned(
    cosines: Array,
    labels: Array,
    turn: Callable[[Array], Array],
    scale: float | Array,
) -> Array:
    """Softmax cross-entropy in which the true class has another cosine."""
    gaps, wrong = gaps_of(cosines, labels)
    true = chosen(cosines, labels)
    return log1p_sum_exp(scale * (gaps + (true - turn(true))[..., None]), wrong)


def lmcl_margin_bound(num_classes: int) -> float:
    """The largest margin that class vectors can keep: C / (C - 1).

    Among C unit vectors some two have a cosine of at least -1 / (C - 1), so a class's
    own direction leads them by at most 1 + 1 / (C - 1).

    Raises:
        ValueError: with fewer than two classes there is no margin.

    See "CosFace" by Wang et al., Section 3.3.
    """
    _check_classes(num_classes)
    return num_classes / (num_classes - 1)


def arcface_margin_bound(num_classes: int) -> float:
    """The largest angle that class vectors can keep: that of a simplex's corners.

    arccos(-1 / (C - 1)): see `lmcl_margin_bound`, which raises the same.
    """
    _check_classes(num_classes)
    return math.acos(-1 / (num_classes - 1))


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: at least 2 classes are needed")
