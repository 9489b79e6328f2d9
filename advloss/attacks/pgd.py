"""Projected gradient descent, the paper's universal adversary, and its relatives."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from advloss.attacks import base
from advloss.errors import InputError
from advloss.types import Array, AttackResult, Classifier, Objective

_ROUND_STEPS = 10  # A program's dispatch is not worth fewer.


def pgd(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    objective: Objective,
    epsilon: Array | float,
    step_size: Array | float,
    steps: int,
    norm: str = "linf",
    targets: Array | None = None,
    start: Array | None = None,
    random_start: bool = True,
    restarts: int = 1,
    restart: Array | int | None = None,
) -> AttackResult:
    """Steps that climb the objective, projected onto the ball and onto [0, 1].

    `x <- clip_{x0, epsilon}(x + step_size * sign(grad objective(x)))`, `steps` times,
    from a uniform random point of the ball; in l2, the gradient's direction takes the
    place of its sign. All iterations are one compiled loop. What the caller does not
    use of the result is not computed under `jit`: the loop keeps the worst iterate only
    where it is asked for.

    Args:
        classifier: images -> logits `[batch, classes]`.
        keys: `[batch]` one typed key an example, see `base.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        objective: (logits, labels) -> `[batch]`, climbed; with targets,
            (logits, targets) -> `[batch]`, descended.
        epsilon: the ball's radius, in units of pixel value; may be traced.
        step_size: the length of a step in the same norm; may be traced.
        steps: the number of iterations, at least 0.
        norm: "linf" or "l2".
        targets: `[batch]` int, the classes to be reached; by default any wrong one.
        start: images in the ball to go on from, without `random_start`; by default
            `images`.
        random_start: whether to start at a random point of the ball.
        restarts: how many times to start, at least 1; the result is each example's
            best, one that fools before one that does not, then by objective.
        restart: the number of the one start to be made, of several; may be traced.

    Returns:
        The result for every example, with distances in the norm.

    Raises:
        AssertionError: a shape or a type is not as above.
        InputError: `start` is given, and `random_start` asked for.
        KeyError: no norm of that name.

    See "Robust Loss Functions" by Vu and Tran, Section II-B4, and "Towards Deep
    Learning Models Resistant to Adversarial Attacks" by Madry et al.
    """
    base.check_arguments(keys, images, labels, targets)
    if start is not None and random_start:
        raise InputError("start is given: use it with random_start=False")
    if restart is not None:
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, restart)
        restarts = 1
    ball = base.NORMS[norm]
    goal, sign = (labels, 1.0) if targets is None else (targets, -1.0)

    def evaluate(x: Array) -> tuple[Array, base.Worst]:
        logits = classifier(x)
        values = sign * objective(logits, goal)
        success = base.fooled(logits, labels, targets)
        return values.sum(), base.Worst(x, success, values)

    def step(carry: tuple[Array, base.Worst, Array], _: None) -> tuple[Any, ...]:
        x, worst, flat = carry
        gradient, seen = jax.grad(evaluate, has_aux=True)(x)
        flat = flat & base.has_zero_gradient(gradient)
        x = ball.project(
            x + step_size * ball.ascend(base.finite(gradient)), images, epsilon
        )
        return (x, base.worse(worst, seen), flat), None

    def attack(keys: Array) -> tuple[base.Worst, base.Worst, Array]:
        """The last and the worst iterate of a start; whether no gradient was met."""
        first = images if start is None else start
        if random_start:
            change = ball.draw(keys, images, epsilon)
            first = ball.project(images + change, images, epsilon)
        unseen = base.Worst(
            first, jnp.zeros(labels.shape, bool), jnp.full(labels.shape, -jnp.inf)
        )
        begin = (first, unseen, base.never_seen(labels, steps))
        (x, worst, flat), _ = jax.lax.scan(step, begin, length=steps)
        _, last = evaluate(x)
        return last, base.worse(worst, last), flat

    if restarts == 1:
        last, worst, flat = attack(keys)
    else:
        last, worst, flat = jax.vmap(attack)(_keys_of_starts(keys, restarts))
        last, worst, flat = base.worst_of(last), base.worst_of(worst), flat.all(0)
    return AttackResult(
        images=last.images,
        success=last.success,
        objective=sign * last.objective,
        distance=ball.distance(last.images, images),
        worst_images=worst.images,
        worst_success=worst.success,
        backward_passes=jnp.full(labels.shape, restarts * steps, jnp.int32),
        forward_passes=jnp.full(labels.shape, restarts, jnp.int32),
        zero_gradient=flat & ~worst.success,
    )


def _keys_of_starts(keys: Array, restarts: int) -> Array:
    """`[restarts, batch]` keys, of which each of several starts takes a row."""
    starts = jnp.arange(restarts)
    each_start = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return jax.vmap(each_start, in_axes=(0, None), out_axes=1)(keys, starts)


def pgd_rounds(settings: Mapping[str, Any], classes: int) -> list[base.Round]:
    """PGD start by start, in rounds of a few steps."""
    starts, steps, found = settings["restarts"], settings["steps"], []
    for start in range(starts):
        number = {"restart": start} if starts > 1 else {}
        found.append(base.Round({"restarts": 1, "steps": 0}, number))
        for done in range(0, steps, _ROUND_STEPS):
            part = {"steps": min(_ROUND_STEPS, steps - done), "random_start": False}
            found.append(base.Round({"restarts": 1, **part}, resume=True))
    return found


def noise(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    draws: int = 1,
    **settings: Any,
) -> AttackResult:
    """The strongest of some uniform random changes of every pixel, without gradients.

    Arguments and result are those of `pgd`, without `step_size`, `steps` and
    `restarts`; an attack that finds less than this does not work.

    See "Robust Loss Functions" by Vu and Tran, Section III-A (there one draw).
    """
    none: dict[str, Any] = {"step_size": 0.0, "steps": 0}
    return pgd(classifier, keys, images, labels, restarts=draws, **none, **settings)


def noise_rounds(settings: Mapping[str, Any], classes: int) -> list[base.Round]:
    """One draw after the other."""
    if settings["draws"] == 1:
        return [base.Round()]
    return [base.Round({}, {"restart": draw}) for draw in range(settings["draws"])]


def multi_targeted(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    objective: Objective,
    norm: str = "linf",
    offset: Array | int | None = None,
    **settings: Any,
) -> AttackResult:
    """PGD towards every wrong class in turn; any wrong prediction is a success.

    Arguments and result are those of `pgd`, without `targets`; the objective returned
    is the label's. With an `offset`, which may be traced, it goes towards the class
    (label + offset) modulo the number of classes alone.

    Raises:
        InputError: the offset is a multiple of the number of classes.

    See "An Alternative Surrogate Loss for PGD-based Adversarial Testing" by Gowal et
    al.
    """
    classes = jax.eval_shape(classifier, images).shape[-1]
    if isinstance(offset, int) and offset % classes == 0:
        raise InputError(
            f"offset={offset} leads back to the label: use 1 to {classes - 1}"
        )

    def towards(offset: Array) -> tuple[base.Worst, base.Worst, tuple[Any, ...]]:
        result = pgd(
            classifier,
            jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, offset),
            images,
            labels,
            objective=objective,
            norm=norm,
            targets=(labels + offset) % classes,
            **settings,
        )
        spent = result.backward_passes, result.forward_passes, result.zero_gradient
        return look(result.images), look(result.worst_images), spent

    def look(x: Array) -> base.Worst:
        logits = classifier(x)
        success = base.fooled(logits, labels, None)
        return base.Worst(x, success, objective(logits, labels))

    if offset is None:
        offsets = jnp.arange(1, classes)
    else:  # A traced one that leads back to the label is 1.
        offsets = jnp.where(jnp.array([offset]) % classes == 0, 1, offset)
    last, worst, spent = jax.lax.map(towards, offsets)
    backward, forward, flat = spent
    last, worst = base.worst_of(last), base.worst_of(worst)
    worst = base.worse(worst, last)
    return AttackResult(
        images=last.images,
        success=last.success,
        objective=last.objective,
        distance=base.NORMS[norm].distance(last.images, images),
        worst_images=worst.images,
        worst_success=worst.success,
        backward_passes=backward.sum(axis=0, dtype=jnp.int32),
        forward_passes=forward.sum(axis=0, dtype=jnp.int32) + 2 * len(offsets),
        zero_gradient=flat.all(axis=0) & ~worst.success,
    )


def multi_targeted_rounds(
    settings: Mapping[str, Any], classes: int
) -> list[base.Round]:
    """One target after the other."""
    return [base.Round({}, {"offset": offset}) for offset in range(1, classes)]
