"""Label smoothing, of any loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from advloss.types import Array


def smoothed(loss: Callable[..., Array], share: float) -> Callable[..., Array]:
    """`(1 - share) loss(f, y) + share * mean over classes k of loss(f, k)`.

    With softmax cross-entropy it is the cross-entropy of the softened labels. With
    share 0 it is the loss itself.

    See "Rethinking the Inception Architecture for Computer Vision" by Szegedy et al.,
    Section 7.
    """
    if share == 0:
        return loss

    def soft(logits: Array, labels: Array, **settings: Any) -> Array:
        own = loss(logits, labels, **settings)
        every = of_each_class(loss, logits, **settings)
        return (1 - share) * own + share * every.mean(axis=-1)

    return soft


def of_each_class(loss: Callable[..., Array], logits: Array, **settings: Any) -> Array:
    """`[..., classes]`: the loss of each example, were that class the true one."""
    shape, classes = logits.shape[:-1], logits.shape[-1]

    def of_class(k: Array) -> Array:
        return loss(logits, jnp.broadcast_to(k, shape), **settings)

    return jax.vmap(of_class, out_axes=-1)(jnp.arange(classes, dtype=jnp.int32))
