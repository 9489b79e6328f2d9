"""Projected gradient descent, the paper's universal adversary."""

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
    targeted: bool = False,
    random_start: bool = True,
) -> AttackResult:
    """Steps along the gradient's sign, projected onto the l-inf ball and [0, 1].

    `x <- clip_{x0, epsilon}(x + step_size * sign(grad objective(x)))`, `steps` times,
    from a uniform random point of the ball. All iterations are one compiled loop. What
    the caller does not use of the result is not computed under `jit`: the loop keeps
    the worst iterate only where it is asked for.

    Args:
        classifier: images -> scores `[batch, classes]`.
        keys: `[batch]` one typed key an example, see `base.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        labels: `[batch]` int; the true classes, or the wished-for ones if targeted.
        objective: (scores, labels) -> `[batch]`, climbed; descended if targeted.
        epsilon: the ball's radius, in units of pixel value; may be traced.
        step_size: the change of every pixel in a step; may be traced.
        steps: the number of iterations, at least 0.
        targeted: whether success is to reach `labels` rather than to leave them.
        random_start: whether to start at a random point rather than at `images`.

    Returns:
        The result for every example; distances are l-inf.

    Raises:
        AssertionError: a shape or a type is not as above.

    See "Robust Loss Functions" by Vu and Tran, Section II-B4, and "Towards Deep
    Learning Models Resistant to Adversarial Attacks" by Madry et al.
    """
    base.check_arguments(keys, images, labels)
    lower, upper = base.linf_bounds(images, epsilon)
    sign = -1.0 if targeted else 1.0

    def evaluate(x: Array) -> tuple[Array, base.Worst]:
        scores = classifier(x)
        values = sign * objective(scores, labels)
        success = base.fooled(scores, labels, targeted=targeted)
        return values.sum(), base.Worst(x, success, values)

    def step(carry: tuple[Array, base.Worst], _) -> tuple:
        x, worst = carry
        gradient, seen = jax.grad(evaluate, has_aux=True)(x)
        x = jnp.clip(x + step_size * jnp.sign(gradient), lower, upper)
        return (x, base.worse(worst, seen)), None

    start = images
    if random_start:
        noise = base.uniform_noise(keys, images, epsilon)
        start = jnp.clip(images + noise, lower, upper)
    unseen = base.Worst(
        start, jnp.zeros(labels.shape, bool), jnp.full(labels.shape, -jnp.inf)
    )
    (x, worst), _ = jax.lax.scan(step, (start, unseen), length=steps)
    _, last = evaluate(x)
    worst = base.worse(worst, last)
    return AttackResult(
        images=x,
        success=last.success,
        objective=sign * last.objective,
        distance=base.linf_distance(x, images),
        worst_images=worst.images,
        worst_success=worst.success,
        gradients=jnp.full(labels.shape, steps, jnp.int32),
        forwards=jnp.ones(labels.shape, jnp.int32),
    )
