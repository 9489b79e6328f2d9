"""Projected gradient descent, the paper's universal adversary, and its relatives."""

import jax
import jax.numpy as jnp

from advloss.attacks import base
from advloss.types import Array, AttackResult, Classifier, Objective


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
) -> AttackResult:
    """Steps that climb the objective, projected onto the ball and onto [0, 1].

    `x <- clip_{x0, epsilon}(x + step_size * sign(grad objective(x)))`, `steps` times,
    from a uniform random point of the ball; in l2, the gradient's direction takes the
    place of its sign. All iterations are one compiled loop. What the caller does not
    use of the result is not computed under `jit`: the loop keeps the worst iterate only
    where it is asked for.

    Args:
        classifier: images -> scores `[batch, classes]`.
        keys: `[batch]` one typed key an example, see `base.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int, the true classes.
        objective: (scores, labels) -> `[batch]`, climbed; with targets,
            (scores, targets) -> `[batch]`, descended.
        epsilon: the ball's radius, in units of pixel value; may be traced.
        step_size: the length of a step in the same norm; may be traced.
        steps: the number of iterations, at least 0.
        norm: "linf" or "l2".
        targets: `[batch]` int, the classes to be reached; by default any wrong one.
        start: images in the ball to go on from; by default `images`.
        random_start: whether to start at a random point of the ball instead.
        restarts: how many times to start, at least 1; the result is each example's
            best, one that fools before one that does not, then by objective.

    Returns:
        The result for every example, with distances in the norm.

    Raises:
        AssertionError: a shape or a type is not as above.
        InputError: a target is the label.
        KeyError: no norm of that name.

    See "Robust Loss Functions" by Vu and Tran, Section II-B4, and "Towards Deep
    Learning Models Resistant to Adversarial Attacks" by Madry et al.
    """
    base.check_arguments(keys, images, labels, targets)
    ball = base.NORMS[norm]
    goal, sign = (labels, 1.0) if targets is None else (targets, -1.0)

    def evaluate(x: Array) -> tuple[Array, base.Worst]:
        scores = classifier(x)
        values = sign * objective(scores, goal)
        success = base.fooled(scores, labels, targets)
        return values.sum(), base.Worst(x, success, values)

    def step(carry: tuple[Array, base.Worst, Array], _) -> tuple:
        x, worst, blind = carry
        gradient, seen = jax.grad(evaluate, has_aux=True)(x)
        blind = blind & base.is_blind(gradient)
        gradient = jnp.where(jnp.isfinite(gradient), gradient, 0.0)
        x = ball.project(x + step_size * ball.ascend(gradient), images, epsilon)
        return (x, base.worse(worst, seen), blind), None

    def attack(keys: Array) -> tuple[base.Worst, base.Worst, Array]:
        """The last and the worst iterate from one start; whether it was blind."""
        first = images if start is None else start
        if random_start:
            change = ball.draw(keys, images, epsilon)
            first = ball.project(images + change, images, epsilon)
        unseen = base.Worst(
            first, jnp.zeros(labels.shape, bool), jnp.full(labels.shape, -jnp.inf)
        )
        blind = base.never_seen(labels, steps)
        (x, worst, blind), _ = jax.lax.scan(step, (first, unseen, blind), length=steps)
        _, last = evaluate(x)
        return last, base.worse(worst, last), blind

    if restarts == 1:
        last, worst, blind = attack(keys)
    else:
        last, worst, blind = jax.vmap(attack)(keys_of_starts(keys, restarts))
        last, worst, blind = base.worst_of(last), base.worst_of(worst), blind.all(0)
    return AttackResult(
        images=last.images,
        success=last.success,
        objective=sign * last.objective,
        distance=ball.distance(last.images, images),
        worst_images=worst.images,
        worst_success=worst.success,
        gradients=jnp.full(labels.shape, restarts * steps, jnp.int32),
        forwards=jnp.full(labels.shape, restarts, jnp.int32),
        blind=blind & ~worst.success,
    )


def keys_of_starts(keys: Array, restarts: int) -> Array:
    """`[restarts, batch]` keys, of which each of several starts takes a row."""
    starts = jnp.arange(restarts)
    each_start = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
    return jax.vmap(each_start, in_axes=(0, None), out_axes=1)(keys, starts)


def fgs(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    epsilon: Array | float,
    random_start: bool = False,
    **settings,
) -> AttackResult:
    """Fast gradient sign: one step of PGD, as long as the ball's radius.

    Arguments and result are those of `pgd`, without `step_size` and `steps`.

    See "Explaining and Harnessing Adversarial Examples" by Goodfellow et al., and
    "Robust Loss Functions" by Vu and Tran, Section II-B3 (there targeted).
    """
    radius = {"epsilon": epsilon, "step_size": epsilon, "steps": 1}
    settings |= {"random_start": random_start, **radius}
    return pgd(classifier, keys, images, labels, **settings)


def noise(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    draws: int = 1,
    **settings,
) -> AttackResult:
    """The strongest of some uniform random changes of every pixel, without gradients.

    Arguments and result are those of `pgd`, without `step_size`, `steps` and
    `restarts`; an attack that finds less than this does not work.

    See "Robust Loss Functions" by Vu and Tran, Section III-A (there one draw).
    """
    settings |= {"step_size": 0.0, "steps": 0, "restarts": draws}
    return pgd(classifier, keys, images, labels, **settings)


def multi_targeted(
    classifier: Classifier,
    keys: Array,
    images: Array,
    labels: Array,
    *,
    objective: Objective,
    norm: str = "linf",
    **settings,
) -> AttackResult:
    """PGD towards every wrong class in turn; any wrong prediction is a success.

    Arguments and result are those of `pgd`, without `targets`; the objective returned
    is the label's.

    See "An Alternative Surrogate Loss for PGD-based Adversarial Testing" by Gowal et
    al.
    """
    classes = jax.eval_shape(classifier, images).shape[-1]

    def towards(offset: Array) -> tuple[base.Worst, base.Worst, tuple]:
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
        spent = result.gradients, result.forwards, result.blind
        return look(result.images), look(result.worst_images), spent

    def look(x: Array) -> base.Worst:
        scores = classifier(x)
        success = base.fooled(scores, labels, None)
        return base.Worst(x, success, objective(scores, labels))

    last, worst, spent = jax.lax.map(towards, jnp.arange(1, classes))
    gradients, forwards, blind = spent
    last, worst = base.worst_of(last), base.worst_of(worst)
    worst = base.worse(worst, last)
    return AttackResult(
        images=last.images,
        success=last.success,
        objective=last.objective,
        distance=base.NORMS[norm].distance(last.images, images),
        worst_images=worst.images,
        worst_success=worst.success,
        gradients=gradients.sum(axis=0),
        forwards=forwards.sum(axis=0) + 2 * (classes - 1),
        blind=blind.all(axis=0) & ~worst.success,
    )
