"""Minimum-norm attacks of one gradient a step: DDN and FMN.

Both keep a radius for every example, step along the gradient, and put the change back
on or into the ball of that radius. It shrinks where the image fools and grows where it
doesn't. Of all iterates that fool, the nearest is kept.
"""

from typing import Any

import jax
import jax.numpy as jnp

from advloss import losses
from advloss.attacks import base
from advloss.attacks.carlini import Aim, as_result, nothing_found
from advloss.attacks.plane import as_pixels
from advloss.types import Array, AttackResult, Classifier

_LAST_STEP = 0.01  # Of the first one.
_LAST_GAMMA = 0.02
_LEAST = 1e-3  # By which a radius exceeds what did not fool, though the classes tie.


def _cosine(first: Array | float, last: float, share: Array) -> Array:
    """From `first` to `last` times it as the share done goes from 0 to 1."""
    return first * (last + (1 - last) * (1 + jnp.cos(jnp.pi * share)) / 2)


def _shares(steps: int, images: Array) -> Array:
    """Before each step, which share of them is done."""
    return jnp.arange(steps, dtype=images.dtype) / steps


def ddn(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    steps: int = 100,
    initial_norm: Array | float = 1.0,
    step_size: Array | float = 1.0,
    gamma: Array | float = 0.05,
    targets: Array | None = None,
) -> AttackResult:
    """Decoupled direction and norm: the smallest Euclidean change, by cross-entropy.

    `change <- change + step * g / ||g||`, then the change is scaled to the radius. The
    radius is multiplied by 1 - gamma where the image before fooled and by 1 + gamma
    elsewhere. The step falls by cosine to a hundredth.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example; nothing is drawn from them.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        steps: the number of iterations.
        initial_norm: the first radius, in l2.
        step_size: the length of the first step, in l2.
        gamma: by which share the radius changes in a step, less than 1.
        targets: `[batch]` int, the classes to be reached; by default any wrong one.

    Returns:
        The nearest fooling images, see `carlini_l2`.

    Raises:
        AssertionError: a shape or a type is not as above.

    See "Decoupling Direction and Norm for Efficient Gradient-Based L2 Adversarial
    Attacks and Defenses" by Rony et al., Algorithm 1; iterates are not quantised.
    """
    base.check_arguments(keys, images, labels, targets)
    norm, aim = base.NORMS["l2"], Aim(labels, targets, 0.0)
    goal, sign = (labels, 1.0) if targets is None else (targets, -1.0)
    # No image of the box is further away.
    farthest = norm.distance(jnp.round(1 - images), images)

    def climbed(x: Array) -> tuple[Array, Array]:
        logits = classifier(x)
        value = sign * losses.softmax_cross_entropy(logits, goal)
        return value.sum(), aim.surely_fooled(logits)

    def step(carry: tuple[Any, ...], share: Array) -> tuple[Any, ...]:
        x, radius, found, flat = carry
        gradient, success = jax.grad(climbed, has_aux=True)(x)
        found = found.closer(x, norm.distance(x, images), success)
        flat = flat & base.has_zero_gradient(gradient)
        length = _cosine(step_size, _LAST_STEP, share)
        change = x - images + length * norm.ascend(base.finite(gradient))
        radius = radius * jnp.where(success, 1 - gamma, 1 + gamma)
        radius = jnp.minimum(radius, farthest)
        change = as_pixels(radius, images) * norm.ascend(change)
        return (jnp.clip(images + change, 0.0, 1.0), radius, found, flat), None

    found = nothing_found(classifier, images, aim)
    radius = jnp.full(labels.shape, initial_norm, images.dtype)
    begin = images, radius, found, base.never_seen(labels, steps)
    (_, _, found, flat), _ = jax.lax.scan(step, begin, _shares(steps, images))
    return as_result(classifier, aim, found, gradients=steps, flat=flat)


def _within_box(x: Array, gradient: Array) -> Array:
    """The gradient without pixels at an end of [0, 1] that a descent would leave.

    They would take up the ball and be clipped: in l1 nothing would be left to move.
    """
    leaves = ((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0))
    return jnp.where(leaves, 0.0, gradient)


def fmn(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    norm: str = "linf",
    steps: int = 100,
    step_size: Array | float = 1.0,
    gamma: Array | float = 0.05,
    targets: Array | None = None,
) -> AttackResult:
    """Fast minimum-norm attack: the smallest change in l-inf, l2 or l1, by the margin.

    `change <- project(change + step * g / ||g||_2)` into the ball of a radius. As long
    as nothing was found, the radius is the distance to the linearised boundary,
    `||change|| + margin / ||g||_dual`, and a share gamma more, so that it is crossed.
    What would leave [0, 1] is left out of g.
    Then it shrinks by 1 - gamma where the image fooled, to at most the nearest found,
    and grows by 1 + gamma elsewhere. Step and gamma fall by cosine, to a hundredth and
    a fiftieth.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example; nothing is drawn from them.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        norm: "linf", "l2" or "l1".
        steps: the number of iterations.
        step_size: the length of the first step, in l2 whatever the norm.
        gamma: by which share the radius changes in the first step, less than 1.
        targets: `[batch]` int, the classes to be reached; by default any wrong one.

    Returns:
        The nearest fooling images, see `carlini_l2`, with distances in the norm.

    Raises:
        AssertionError: a shape or a type is not as above.
        KeyError: no norm of that name.

    See "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints" by
    Pintor et al., Algorithm 1.
    """
    base.check_arguments(keys, images, labels, targets)
    ball, l2 = base.NORMS[norm], base.NORMS["l2"]
    aim = Aim(labels, targets, 0.0)

    def behind(x: Array) -> tuple[Array, tuple[Array, Array]]:
        logits = classifier(x)
        margin = base.finite(aim.margin(logits))
        return margin.sum(), (margin, aim.surely_fooled(logits))

    def step(carry: tuple[Any, ...], share: Array) -> tuple[Any, ...]:
        x, radius, found, flat = carry
        gradient, (margin, success) = jax.grad(behind, has_aux=True)(x)
        distance = ball.distance(x, images)
        found = found.closer(x, distance, success)
        flat = flat & base.has_zero_gradient(gradient)
        gradient = _within_box(x, base.finite(gradient))
        change = _cosine(gamma, _LAST_GAMMA, share)
        unit = base.largest(gradient)
        slope = base.dot(gradient / unit, ball.ascend(gradient))
        missing = margin / unit.reshape(margin.shape) / jnp.where(slope > 0, slope, 1.0)
        boundary = distance + jnp.maximum(missing, _LEAST)
        grown = jnp.where(jnp.isfinite(found.distance), radius, boundary) * (1 + change)
        shrunk = jnp.minimum(radius * (1 - change), found.distance)
        radius = jnp.where(success, shrunk, grown)
        length = _cosine(step_size, _LAST_STEP, share)
        x = x - length * l2.ascend(gradient)
        x = ball.project(x, images, as_pixels(radius, images))
        return (x, radius, found, flat), None

    found = nothing_found(classifier, images, aim)
    radius = jnp.full(labels.shape, jnp.inf, images.dtype)
    begin = images, radius, found, base.never_seen(labels, steps)
    (_, _, found, flat), _ = jax.lax.scan(step, begin, _shares(steps, images))
    return as_result(classifier, aim, found, gradients=steps, flat=flat)
