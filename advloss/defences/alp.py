"""Adversarial logit pairing: an attacked image has the logits of the natural one."""

import jax.numpy as jnp

from advloss.defences import base
from advloss.types import Array, Batch, PyTree


def alp(
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
    """`loss(f(x'), y) + beta * ||f(x') - f(x)||^2`, means over the batch.

    The attack climbs the training loss. Stronger attacks than its authors' have broken
    it on ImageNet. Arguments and result: `base.Defence`.

    See "Adversarial Logit Pairing" by Kannan et al., Section 3.2.
    """
    attacked = base.attacked_images(attack, forward, variables, batch, key, hyper)
    natural, _, variables = forward(variables, batch.images, True)
    moved, _, variables = forward(variables, attacked, True)
    fit = loss(moved, batch.labels, **hyper["loss"]).mean()
    distance = jnp.square(moved - natural).sum(axis=-1).mean()
    value = fit + hyper["defence"]["beta"] * distance
    metrics = {
        "loss": value,
        "accuracy": base.accuracy(moved, batch.labels),
        "natural_accuracy": base.accuracy(natural, batch.labels),
        "attacked_loss": fit,
        "distance": distance,
    }
    return value, (variables, memory, metrics)
