"""Perturbations that are kept from epoch to epoch, in 8 bits a pixel."""

import jax.numpy as jnp

from advloss.types import Array

_LEVELS = 127  # On each side of 0.


def packed(change: Array, epsilon: Array | float) -> Array:
    """int8: the change in units of epsilon / 127, where epsilon may grow."""
    share = change / jnp.maximum(epsilon, jnp.finfo(jnp.float32).tiny)
    return jnp.round(jnp.clip(share, -1, 1) * _LEVELS).astype(jnp.int8)


def unpacked(levels: Array, epsilon: Array | float) -> Array:
    """float32: the change, at most epsilon at any pixel."""
    return levels.astype(jnp.float32) / _LEVELS * epsilon
