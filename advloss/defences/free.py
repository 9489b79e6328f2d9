"""Free adversarial training: one gradient moves the weights and the image."""

from typing import Any

import jax
import jax.numpy as jnp

from advloss.attacks import base as attacks
from advloss.defences import base, kept
from advloss.types import Array, Batch, PyTree, Split


def free(
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
    replays: int,
) -> base.Outcome:
    """`loss(f(x + d), y)`; its gradient by the image moves d for the next update.

    `d <- clip(d + epsilon * sign(gradient))`, where the gradient by the weights comes
    from the same pass. The training step takes a batch `replays` times in a row. d is
    kept for each example, in 8 bits a pixel, to the next epoch too; its authors hand it
    on to the next batch. Arguments and result: `base.Defence`; no `attack` is called.

    See "Adversarial Training for Free!" by Shafahi et al., Algorithm 1.
    """
    epsilon = hyper["attack"]["epsilon"]
    project = attacks.NORMS["linf"].project
    change = kept.unpacked(memory["change"], epsilon)
    attacked = project(batch.images + change, batch.images, epsilon)

    def objective(params: PyTree, images: Array) -> tuple[Any, ...]:
        logits, _, renewed = forward({**variables, "params": params}, images, True)
        value = loss(logits, batch.labels, **hyper["loss"]).mean()
        return value, (logits, renewed)

    params = jax.lax.stop_gradient(variables["params"])
    (value, (logits, variables_now)), (by_weights, by_image) = jax.value_and_grad(
        objective, (0, 1), has_aux=True
    )(params, attacked)
    moved = project(attacked + epsilon * jnp.sign(by_image), batch.images, epsilon)
    metrics = {"loss": value, "accuracy": base.accuracy(logits, batch.labels)}
    memory = {"change": kept.packed(moved - batch.images, epsilon)}
    value = with_gradient(value, by_weights, variables["params"])
    return value, (variables_now, memory, metrics)


def nothing_yet(split: Split) -> PyTree:
    """No perturbation."""
    return {"change": jnp.zeros(split.images.shape, jnp.int8)}


@jax.custom_vjp
def with_gradient(value: Array, gradient: PyTree, params: PyTree) -> Array:
    """The value, whose gradient by the parameters is the one given."""
    return value


def _forwards(value: Array, gradient: PyTree, params: PyTree) -> tuple[Array, PyTree]:
    return value, gradient


def _backwards(gradient: PyTree, change: Array) -> tuple[Any, ...]:
    nothing = jax.tree.map(jnp.zeros_like, gradient)
    return (
        change,
        nothing,
        jax.tree.map(lambda g: (change * g).astype(g.dtype), gradient),
    )


with_gradient.defvjp(_forwards, _backwards)
