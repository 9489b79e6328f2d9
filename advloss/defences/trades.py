"""TRADES: accuracy and stability as two terms of one loss."""

import jax
import jax.numpy as jnp

from advloss.attacks import base as attacks
from advloss.defences import base
from advloss.types import Array, Batch, PyTree


def trades(
    forward: base.Forward,
    variables: PyTree,
    batch: Batch,
    key: Array,
    hyper: dict[str, dict[str, Array]],
    frozen: PyTree,
    memory: PyTree,
    *,
    loss: base.Loss,
    attack: base.TrainingAttack,
) -> base.Outcome:
    """`loss(f(x), y) + beta * KL(softmax f(x) || softmax f(x'))`, means over the batch.

    The attack looks for the x' whose prediction is farthest from that of x: it climbs
    the divergence, not the loss. Arguments and result: `base.Defence`.

    See "Theoretically Principled Trade-off between Robustness and Accuracy" by Zhang
    et al., Eq. 5.
    """
    classifier = base.frozen_classifier(forward, variables)
    here = classifier(batch.images)
    found = attack(
        classifier,
        attacks.example_keys(key, batch.indices),
        batch.images,
        batch.labels,
        objective=lambda logits, _: divergence(here, logits),
        **hyper["attack"],
    )
    attacked = jax.lax.stop_gradient(found.images)
    natural, _, variables = forward(variables, batch.images, True)
    moved, _, variables = forward(variables, attacked, True)
    fit = loss(natural, batch.labels, **hyper["loss"]).mean()
    stability = divergence(natural, moved).mean()
    value = fit + hyper["defence"]["beta"] * stability
    metrics = {
        "loss": value,
        "accuracy": base.accuracy(moved, batch.labels),
        "natural_accuracy": base.accuracy(natural, batch.labels),
        "natural_loss": fit,
        "divergence": stability,
    }
    return value, (variables, memory, metrics)


def divergence(first: Array, second: Array) -> Array:
    """`[batch]` Kullback and Leibler's divergence between two softmaxes.

    It is at least 0, and 0 where the two are equal.
    """
    log_first, log_second = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    return jnp.sum(jnp.exp(log_first) * (log_first - log_second), axis=-1)
