"""Auto-PGD: PGD with momentum that chooses its own step sizes, of AutoAttack.

Steps begin with 2 epsilon. At checkpoints, those examples whose objective does not rise
as it should go back to their best point and go on with half the step.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from advloss import losses
from advloss.attacks import base
from advloss.errors import InputError
from advloss.types import Array, AttackResult, Classifier, Objective

_MOMENTUM = 0.75  # The new step's share; the rest is the step before.
_RISING = 0.75  # Of an interval's steps at most so many raised it: halve the step.


def apgd(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    objective: Objective,
    epsilon: Array | float,
    steps: int = 100,
    restarts: int = 1,
    norm: str = "linf",
    restart: Array | int | None = None,
) -> AttackResult:
    """Auto-PGD towards any wrong class.

    Its result is the image of the highest objective, not the last. A start costs
    `steps + 1` gradients, that of its first point included. All is one compiled loop.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example, see `base.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        objective: (logits, labels) -> `[batch]`, climbed.
        epsilon: the ball's radius, in units of pixel value; may be traced.
        steps: the number of iterations of a start, at least 0.
        restarts: how many times to start, at least 1; the result is each example's
            best, one that fools before one that does not, then by objective.
        norm: "linf" or "l2".
        restart: the number of the one start to be made, of several; may be traced.

    Returns:
        The result for every example, with distances in the norm.

    Raises:
        AssertionError: a shape or a type is not as above.
        KeyError: no norm of that name.

    See "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks" by Croce and Hein, Algorithm 1.
    """
    base.check_arguments(keys, images, labels)

    numbers = jnp.arange(restarts) if restart is None else jnp.array([restart])
    return _best_of(
        classifier, keys, images, labels, numbers,
        lambda logits, _: objective(logits, labels),
        epsilon=epsilon, steps=steps, norm=norm,
    )  # fmt: skip


def apgd_rounds(settings: Mapping[str, Any], classes: int) -> list[base.Round]:
    """One start after the other."""
    return [
        base.Round({"restarts": 1}, {"restart": number})
        for number in range(settings["restarts"])
    ]


def apgd_t(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    epsilon: Array | float,
    loss: str = "dlr",
    steps: int = 100,
    target_classes: int = 9,
    norm: str = "linf",
    rank: Array | int | None = None,
) -> AttackResult:
    """Auto-PGD towards the most likely wrong classes in turn; any of them is a success.

    Arguments and result are those of `apgd`, with one start for each target.

    Args:
        classifier, keys, images, labels, epsilon, steps, norm: see `apgd`.
        loss: what is climbed, a key of `losses.TARGETED`.
        target_classes: how many wrong classes are targets, the most likely of the
            natural image first; at most all of them.
        rank: of the one target to be aimed at, from 2 (the most likely wrong class) to
            target_classes + 1; may be traced, and is the nearest of these then.

    Raises:
        AssertionError: a shape or a type is not as above.
        KeyError: no loss or no norm of that name.
        InputError: the network has no class of that rank.

    See "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks" by Croce and Hein, Section 4.2.
    """
    base.check_arguments(keys, images, labels)
    targeted, natural = losses.TARGETED[loss], classifier(images)
    count = min(target_classes, natural.shape[-1] - 1)
    if isinstance(rank, int) and not 2 <= rank <= count + 1:
        raise InputError(f"rank={rank} is not valid: use 2 to {count + 1}")
    wrong = ~jax.nn.one_hot(labels, natural.shape[-1], dtype=bool)
    _, likely = jax.lax.top_k(jnp.where(wrong, natural, -jnp.inf), count)

    def climbed(logits: Array, rank: Array) -> Array:
        return targeted(logits, labels, jnp.take(likely, rank - 2, axis=1, mode="clip"))

    result = _best_of(
        classifier, keys, images, labels,
        jnp.arange(2, count + 2) if rank is None else jnp.array([rank]),
        climbed, epsilon=epsilon, steps=steps, norm=norm,
    )  # fmt: skip
    return result._replace(forward_passes=result.forward_passes + 1)


def apgd_t_rounds(settings: Mapping[str, Any], classes: int) -> list[base.Round]:
    """One target after the other."""
    last = min(settings["target_classes"] + 1, classes)
    return [base.Round({}, {"rank": rank}) for rank in range(2, last + 1)]


def _best_of(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    numbers: Array,
    climbed: Callable[[Array, Array], Array],
    *,
    epsilon: Array | float,
    steps: int,
    norm: str,
) -> AttackResult:
    """The best of several runs, example by example.

    Args:
        classifier, keys, images, labels, epsilon, steps, norm: see `apgd`.
        numbers: of the runs, `[runs]`; from them come their keys.
        climbed: (logits, number) -> `[batch]`.
    """

    def run(number: Array) -> tuple[base.Worst, base.Worst, Array]:
        def evaluate(x: Array) -> tuple[Array, base.Worst]:
            logits = classifier(x)
            values, success = climbed(logits, number), base.fooled(logits, labels, None)
            return values.sum(), base.Worst(x, success, values)

        own = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
        start = _start(base.NORMS[norm], own, images, epsilon)
        return _climb(evaluate, start, images, epsilon, steps, norm)

    best, worst, flat = jax.lax.map(run, numbers)
    best, worst = base.worst_of(best), base.worst_of(worst)
    spent = len(numbers) * (steps + 1)
    return AttackResult(
        images=best.images,
        success=best.success,
        objective=best.objective,
        distance=base.NORMS[norm].distance(best.images, images),
        worst_images=worst.images,
        worst_success=worst.success,
        backward_passes=jnp.full(len(images), spent, jnp.int32),
        forward_passes=jnp.zeros(len(images), jnp.int32),
        zero_gradient=flat.all(axis=0) & ~worst.success,
    )


class _State(NamedTuple):
    """Where a run stands, each example for itself, before it looks at its iterate.

    Attributes:
        x: the iterate.
        before: the iterate before it, and `value`, the objective there.
        step_size: `[batch, 1, 1, 1]`.
        best: the iterate of the highest objective, and its `gradient`.
        rises: how many steps of this interval have raised the objective.
        checked: the highest objective at the last checkpoint.
        halved: the step was halved there.
        worst: the worst iterate, one that fools before one that does not.
        flat: every gradient was zero so far.
    """

    x: Array
    before: Array
    value: Array
    step_size: Array
    best: base.Worst
    gradient: Array
    rises: Array
    checked: Array
    halved: Array
    worst: base.Worst
    flat: Array


def _climb(
    evaluate: Callable[[Array], tuple[Array, base.Worst]],
    start: Array,
    images: Array,
    epsilon: Array | float,
    steps: int,
    norm: str,
) -> tuple[base.Worst, base.Worst, Array]:
    """One run: the best iterate by objective, the worst, whether no gradient was met.

    The loop looks at an iterate, then steps from it, so that the network is in the
    program once; the step after the last look is not used. `evaluate` gives the sum of
    the objective, and the iterates as they were seen.
    """
    ball = base.NORMS[norm]

    def iterate(state: _State, now: tuple[Array, Array]) -> tuple[_State, None]:
        share, interval = now
        gradient, seen = jax.grad(evaluate, has_aux=True)(state.x)
        flat = state.flat & base.has_zero_gradient(gradient)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        rises = state.rises + (seen.objective > state.value)
        higher = seen.objective > state.best.objective
        best, best_gradient = jax.tree.map(
            lambda new, old: base.select(higher, new, old),
            (seen, gradient),
            (state.best, state.gradient),
        )

        ends = interval > 0
        stuck = ~state.halved & (best.objective <= state.checked)
        halve = ends & ((rises <= _RISING * interval) | stuck)
        x = base.select(halve, best.images, state.x)
        gradient = base.select(halve, best_gradient, gradient)
        step_size = base.select(halve, state.step_size / 2, state.step_size)

        climbed = ball.project(x + step_size * ball.ascend(gradient), images, epsilon)
        change = share * (climbed - x) + (1 - share) * (x - state.before)
        return _State(
            x=ball.project(x + change, images, epsilon),
            before=x,
            value=seen.objective,
            step_size=step_size,
            best=best,
            gradient=best_gradient,
            rises=jnp.where(ends, 0, rises),
            checked=jnp.where(ends, best.objective, state.checked),
            halved=jnp.where(ends, halve, state.halved),
            worst=base.worse(state.worst, seen),
            flat=flat,
        ), None

    number, none = len(images), jnp.zeros(len(images), bool)
    lowest = jnp.full(number, -jnp.inf, images.dtype)
    unseen = base.Worst(start, none, lowest)
    state = _State(
        x=start,
        before=start,
        value=-lowest,  # The start itself is no rise.
        step_size=jnp.full((number, 1, 1, 1), 2 * epsilon, images.dtype),
        best=unseen,
        gradient=jnp.zeros_like(images),
        rises=jnp.zeros(number, jnp.int32),
        checked=lowest,
        halved=~none,
        worst=unseen,
        flat=~none,
    )
    shares: Any = np.where(np.arange(steps + 1), _MOMENTUM, 1.0).astype(images.dtype)
    state, _ = jax.lax.scan(iterate, state, (shares, jnp.asarray(_intervals(steps))))
    return state.best, state.worst, state.flat


def _start(
    ball: base.Norm, keys: Array, images: Array, epsilon: Array | float
) -> Array:
    """A random point at epsilon from the image, then cut to the box."""
    change = ball.draw(keys, images, 1.0)
    length = ball.distance(change, jnp.zeros_like(change))
    length = jnp.maximum(length, jnp.finfo(images.dtype).tiny)
    change = epsilon * change / length.reshape(-1, *[1] * (images.ndim - 1))
    return ball.project(images + change, images, epsilon)


def _intervals(steps: int) -> np.ndarray:
    """`[steps + 1]`, an interval's length at the iterate where it ends, elsewhere 0.

    Of 100 steps the intervals end at 22, 41, 57, 70, 80, 87, 93 and 99.
    """
    first, least, less = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    lengths = np.zeros(steps + 1, np.int32)
    length, end = first, first
    while end <= steps:
        lengths[end] = length
        length = max(length - less, least)
        end += length
    return lengths
