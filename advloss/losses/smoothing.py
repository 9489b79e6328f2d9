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
        def of_class(k: Array) -> Array:
            return loss(logits, jnp.broadcast_to(k, labels.shape), **settings)

        every = jax.vmap(of_class)(jnp.arange(logits.shape[-1], dtype=labels.dtype))
        own = loss(logits, labels, **settings)
        return (1 - share) * own + share * every.mean(axis=0)

    return soft
