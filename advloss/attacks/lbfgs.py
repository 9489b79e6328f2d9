"""The paper's Eq. 1: the closest image that fools, by box-constrained L-BFGS."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from advloss.attacks import base
from advloss.types import Array, AttackResult, Classifier, Objective, PyTree

_MEMORY = 10  # Pairs of steps and gradient changes that L-BFGS remembers.
_DECREASE = 1e-4  # Armijo: the share of the predicted decrease that a step must keep.
_SHORTEST_RATE = 1e-2  # A direction of which only so little is of use is given up.
_GROWTH = 10.0  # Of the constant, until it is bracketed.


class _Closest(NamedTuple):
    """The closest image so far that fools; the original, at infinity, before any."""

    images: Array
    success: Array
    objective: Array
    distance: Array


class _Bracket(NamedTuple):
    """`[batch]` constants: the one in use, the largest that fooled, the least not."""

    constant: Array
    fooled: Array
    failed: Array


class _Descent(NamedTuple):
    """L-BFGS on every example: where it stands and where it looks next."""

    images: Array
    success: Array
    value: Array
    gradient: Array
    direction: Array
    rate: Array
    memory: PyTree


def lbfgs(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    objective: Objective,
    steps: int = 50,
    search_steps: int = 9,
    initial_constant: Array | float = 1.0,
    targets: Array | None = None,
) -> AttackResult:
    """Minimises `c * ||x' - x||_2^2 + objective(x', target)` over x' in [0, 1].

    Without targets it goes towards the wrong class with the highest logit at x, and any
    wrong prediction is a success.

    Each example has a constant c, an L-BFGS memory and a step length of its own. Where
    the minimiser fools, c grows, elsewhere it shrinks: by tens until it is bracketed,
    then by bisection of its logarithm. Of all images that were looked at, the closest
    that fools is kept. An image that fools already is its own result, at distance 0.

    Every step is one evaluation of the whole batch. It is a trial of L-BFGS's
    direction, clipped to the box: an example takes it where the value falls enough,
    and tries a shorter one next where not. So no example waits for another's line
    search.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` typed keys, unused: nothing is random here.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        objective: (logits, labels) -> `[batch]`, descended towards the target.
        steps: evaluations for each constant, at least 0.
        search_steps: constants tried, at least 0.
        initial_constant: the first c, in units of objective by squared pixel value,
            above 0; may be traced.
        targets: `[batch]` int, the classes to be reached; by default any wrong one.

    Returns:
        The closest image that fools, with its l2 distance and the objective of its
        target, or of its label without targets. Where none was found, `success` is
        false, `images` the original and `distance` infinite. The worst images are the
        images: this attack has no other aim than closeness.

    Raises:
        AssertionError: a shape or a type is not as above.

    See "Robust Loss Functions" by Vu and Tran, Eq. 1, "Intriguing properties of neural
    networks" by Szegedy et al., Section 4.1, and, on clipped quasi-Newton steps,
    "Projected Newton Methods for Optimization Problems with Simple Constraints" by
    Bertsekas.
    """
    base.check_arguments(keys, images, labels, targets)
    logits = classifier(images)
    goal = _runner_up(logits, labels) if targets is None else targets
    judged = labels if targets is None else targets

    def look(x: Array, logits: Array, distance: Array) -> _Closest:
        success = base.fooled(logits, labels, targets)
        return _Closest(x, success, objective(logits, judged), distance)

    def evaluate(x: Array, constant: Array) -> tuple[Array, tuple[Array, _Closest]]:
        logits = classifier(x)
        squares = base.dot(x - images, x - images)
        values = constant * squares + objective(logits, goal).astype(squares.dtype)
        return values.sum(), (values, look(x, logits, jnp.sqrt(squares)))

    def step(
        carry: tuple[_Descent, _Closest, Array], constant: Array
    ) -> tuple[Any, ...]:
        descent, closest, flat = carry
        trial = _trial(descent)
        gradient, (value, seen) = jax.grad(evaluate, has_aux=True)(trial, constant)
        descent = _judge(descent, trial, value, gradient, seen.success)
        return descent, _closer(closest, seen), flat & base.has_zero_gradient(gradient)

    def search(carry: tuple[_Bracket, _Closest, Array], _: None) -> tuple[Any, ...]:
        bracket, closest, flat = carry
        (descent, closest, flat), _ = jax.lax.scan(
            lambda carry, _: (step(carry, bracket.constant), None),
            (_start(images), closest, flat),
            length=steps,
        )
        return (_narrow(bracket, descent.success), closest, flat), None

    constant = jnp.full(labels.shape, initial_constant, images.dtype)
    bracket = _Bracket(
        constant, jnp.zeros_like(constant), jnp.full_like(constant, jnp.inf)
    )
    original = look(images, logits, jnp.zeros_like(constant))
    closest = original._replace(distance=jnp.where(original.success, 0.0, jnp.inf))
    flat = base.never_seen(labels, steps * search_steps)
    (_, closest, flat), _ = jax.lax.scan(
        search, (bracket, closest, flat), length=search_steps
    )
    return AttackResult(
        images=closest.images,
        success=closest.success,
        objective=closest.objective,
        distance=closest.distance,
        worst_images=closest.images,
        worst_success=closest.success,
        backward_passes=jnp.full(labels.shape, steps * search_steps, jnp.int32),
        forward_passes=jnp.ones(labels.shape, jnp.int32),
        zero_gradient=flat & ~closest.success,
    )


def _like(values: Array, images: Array) -> Array:
    """`[batch]` values with the rank of images."""
    return values.reshape(values.shape + (1,) * (images.ndim - 1))


def _runner_up(logits: Array, labels: Array) -> Array:
    """`[batch]` the class with the highest logit but the label's.

    To climb the label's own objective instead would be concave below: where the network
    is sure, c * ||x' - x||^2 holds x' at x until c is so small that x' leaps far beyond
    the boundary, and nothing stops it there but the box.
    """
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.argmax(jnp.where(true, -jnp.inf, logits), axis=-1).astype(labels.dtype)


def _where(mask: Array, where_true: PyTree, where_false: PyTree) -> PyTree:
    """`base.select` on every leaf."""
    return jax.tree.map(lambda a, b: base.select(mask, a, b), where_true, where_false)


def _closer(closest: _Closest, seen: _Closest) -> _Closest:
    nearer = seen.success & (seen.distance < closest.distance)
    return _where(nearer, seen, closest)


def _narrow(bracket: _Bracket, success: Array) -> _Bracket:
    """The bracket after its constant was tried, with the next constant to try."""
    constant, fooled, failed = bracket
    fooled = jnp.where(success, constant, fooled)
    failed = jnp.where(success, failed, constant)
    outside = jnp.where(success, constant * _GROWTH, constant / _GROWTH)
    bracketed = (fooled > 0) & (failed < jnp.inf)
    # Bisection of the logarithm; the roots are taken first lest the product overflow.
    middle = jnp.sqrt(fooled) * jnp.sqrt(failed)
    return _Bracket(jnp.where(bracketed, middle, outside), fooled, failed)


_LBFGS = optax.scale_by_lbfgs(memory_size=_MEMORY)


def _start(images: Array) -> _Descent:
    """A descent whose first trial is `images`, taken whatever its value."""
    batch = images.shape[0]
    return _Descent(
        images=images,
        success=jnp.zeros(batch, bool),
        value=jnp.full(batch, jnp.inf, images.dtype),
        gradient=jnp.zeros_like(images),
        direction=jnp.zeros_like(images),
        rate=jnp.ones(batch, images.dtype),
        memory=jax.vmap(_LBFGS.init)(images),
    )


def _trial(descent: _Descent) -> Array:
    # Clipping, not x = (1 + tanh w) / 2: a digit's pixels are mostly 0 and 1, where the
    # tanh is flat and L-BFGS can hardly move them (a third was never fooled).
    x = descent.images + _like(descent.rate, descent.images) * descent.direction
    return jnp.clip(x, 0.0, 1.0)


def _judge(
    descent: _Descent, trial: Array, value: Array, gradient: Array, success: Array
) -> _Descent:
    """Takes the trial where the value falls enough; else plans a shorter one."""
    # Pixels that the gradient presses against the box are held there.
    held = ((trial <= 0) & (gradient > 0)) | ((trial >= 1) & (gradient < 0))
    gradient = jnp.where(held, 0.0, gradient)
    change = trial - descent.images
    slope = base.dot(descent.gradient, change)
    taken = value <= descent.value + _DECREASE * slope
    # Along negative curvature, or where next to nothing of a direction is of use, the
    # memory misleads: start it afresh, with the gradient's own direction.
    concave = base.dot(gradient - descent.gradient, change) <= 0
    rate = descent.rate * _shorten(slope, value - descent.value)
    stuck = (rate < _SHORTEST_RATE) & (descent.memory.count > 1)
    renewed = jnp.where(taken, concave, stuck)

    kept = descent._replace(rate=rate)
    moved = _Descent(
        trial, success, value, gradient, descent.direction, rate, descent.memory
    )
    descent = _where(taken, moved, kept)
    fresh = jax.vmap(_LBFGS.init)(descent.images)
    direction, memory = jax.vmap(_LBFGS.update)(
        descent.gradient, _where(renewed, fresh, descent.memory), descent.images
    )
    turned = descent._replace(
        # What is held has gradient 0, but L-BFGS would move it by its memory.
        direction=jnp.where(held & _like(taken, held), 0.0, -direction),
        rate=jnp.ones_like(rate),
        memory=memory,
    )
    return _where(taken | renewed, turned, descent)


def _shorten(slope: Array, rise: Array) -> Array:
    """The factor to the minimum of the parabola through slope and rise, in bounds."""
    bend = 2 * (rise - slope)
    minimum = jnp.where(bend > 0, -slope / jnp.where(bend > 0, bend, 1.0), 0.0)
    return jnp.clip(minimum, 0.1, 0.5)
