"""ATTA: every example's perturbation is carried on from epoch to epoch."""

import jax.numpy as jnp

from advloss.attacks import base as attacks
from advloss.defences import base, kept
from advloss.types import Array, Batch, PyTree, Split


def atta(
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
    reset: int,
) -> base.Outcome:
    """Adversarial training whose attack goes on from where the last epoch's ended.

    One or two steps an epoch add up to a strong attack. An example's first start, and
    one after every `reset` visits, is a random point of the ball. Perturbations are
    kept in 8 bits a pixel, in units of the radius. Further arguments and the result:
    `base.Defence`.

    See "Efficient Adversarial Training with Transferable Adversarial Examples" by Zheng
    et al., Algorithm 1 (without its augmentation).
    """
    epsilon, keys = hyper["attack"]["epsilon"], attacks.example_keys(key, batch.indices)
    drawn = attacks.NORMS["linf"].draw(keys, batch.images, epsilon)
    is_new = memory["visits"] % reset == 0
    carried = kept.unpacked(memory["change"], epsilon)
    change = attacks.select(is_new, drawn, carried)
    attacked = base.attacked_images(
        attack,
        forward,
        variables,
        batch,
        key,
        hyper,
        start=jnp.clip(batch.images + change, 0.0, 1.0),
        random_start=False,
    )
    logits, _, variables = forward(variables, attacked, True)
    value = loss(logits, batch.labels, **hyper["loss"]).mean()
    memory = {
        "change": kept.packed(attacked - batch.images, epsilon),
        "visits": memory["visits"] + 1,
    }
    metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
    return value, (variables, memory, metrics)


def nothing_yet(split: Split) -> PyTree:
    """No visit, and no perturbation."""
    return {
        "change": jnp.zeros(split.images.shape, jnp.int8),
        "visits": jnp.zeros(len(split.labels), jnp.int32),
    }
