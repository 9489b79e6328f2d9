"""Carlini and Wagner's attack for the largest change of any pixel."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from advloss.attacks import base, carlini
from advloss.types import Array, AttackResult, Classifier


class _Example(NamedTuple):
    """What every example carries from round to round, `[batch, ...]`.

    Attributes:
        variables: w where the next round begins.
        threshold: tau, the change of a pixel that costs nothing.
        constant: the weight of the margin.
    """

    variables: Array
    threshold: Array
    constant: Array


def carlini_linf(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    confidence: Array | float = 0.0,
    learning_rate: Array | float = 1e-2,
    rounds: int = 40,
    steps: int = 50,
    initial_constant: Array | float = 1e-1,
    initial_threshold: Array | float = 1.0,
    decay: Array | float = 0.9,
    targets: Array | None = None,
) -> AttackResult:
    """The smallest change of the most changed pixel that fools the classifier.

    A round minimises `c * f(x) + sum_i max(0, |x_i - x0_i| - tau)`, from where the last
    one ended: the penalty acts on all pixels that changed by more than tau, while the
    maximum's gradient would act on one. Then, example by example:

    - an image within tau was found: tau becomes `decay` times its distance;
    - no image was found: c doubles;
    - the images found are all beyond tau: tau has come too low, and goes half of the
      way back to the least distance found so far. (The original stops here; a loop of
      fixed length has rounds left to use.)

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example; nothing is drawn from them.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        confidence: by how much, in units of logit, the wrong class must lead.
        learning_rate: Adam's, in units of w.
        rounds: how many thresholds are tried.
        steps: iterations in each round.
        initial_constant: c in the first round.
        initial_threshold: tau in the first round, in units of pixel value.
        decay: the factor on tau after a success, in (0, 1).
        targets: `[batch]` int, the classes to be reached; by default any wrong one.

    Returns:
        As `carlini_l2`'s, at l-inf distances: the original at distance 0 where it fools
        already, and at distance inf where no image was found.

    Raises:
        AssertionError: a shape or a type is not as above.

    See "Towards Evaluating the Robustness of Neural Networks" by Carlini and Wagner,
    Section VI-C.
    """
    base.check_arguments(keys, images, labels, targets)
    aim = carlini.Aim(labels, targets, confidence)
    adam = optax.scale_by_adam()
    axes = tuple(range(1, images.ndim))

    def objective(variables: Array, example: _Example) -> tuple[Array, tuple[Any, ...]]:
        x = carlini.to_images(variables)
        logits = classifier(x)
        tau = jnp.expand_dims(example.threshold, axes)
        excess = jnp.sum(jnp.maximum(jnp.abs(x - images) - tau, 0.0), axis=axes)
        values = excess + example.constant * aim.excess(logits)
        return values.sum(), (x, aim.surely_fooled(logits))

    def search(
        carry: tuple[_Example, carlini.Found, Array], _: None
    ) -> tuple[Any, ...]:
        example, found, flat = carry

        def step(carry: tuple[Any, ...], _: None) -> tuple[Any, ...]:
            variables, moments, found, nearest, flat = carry
            gradient, (x, success) = jax.grad(objective, has_aux=True)(
                variables, example
            )
            distance = base.NORMS["linf"].distance(x, images)
            found = found.closer(x, distance, success)
            nearest = nearest.closer(variables, distance, success)
            direction, moments = adam.update(gradient, moments)
            variables = variables - learning_rate * direction
            flat = flat & base.has_zero_gradient(gradient)
            return (variables, moments, found, nearest, flat), None

        nearest = carlini.Found(
            example.variables, jnp.full_like(example.threshold, jnp.inf)
        )
        moments = adam.init(example.variables)
        begin = (example.variables, moments, found, nearest, flat)
        (last, _, found, nearest, flat), _ = jax.lax.scan(step, begin, length=steps)

        success = jnp.isfinite(nearest.distance)
        within = nearest.distance < example.threshold
        lower = decay * nearest.distance
        back = (example.threshold + jnp.minimum(found.distance, nearest.distance)) / 2
        threshold = jnp.where(
            within, lower, jnp.where(success, back, example.threshold)
        )
        constant = jnp.where(success, example.constant, 2 * example.constant)
        variables = base.select(within, nearest.images, last)
        return (_Example(variables, threshold, constant), found, flat), None

    start = _Example(
        carlini.to_variables(images),
        jnp.full(labels.shape, initial_threshold, images.dtype),
        jnp.full(labels.shape, initial_constant, images.dtype),
    )
    found = carlini.nothing_found(classifier, images, aim)
    flat = base.never_seen(labels, rounds * steps)
    (_, found, flat), _ = jax.lax.scan(search, (start, found, flat), length=rounds)
    return carlini.as_result(
        classifier, aim, found, gradients=rounds * steps, flat=flat
    )
