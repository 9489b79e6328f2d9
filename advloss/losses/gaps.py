"""Gaps between logits, of which every loss here is made."""

import chex
import jax
import jax.numpy as jnp
from jax import Array


def gaps_of(logits: Array, labels: Array) -> tuple[Array, Array]:
    """`f_j - f_y` `[..., classes]`, and where j is a wrong class."""
    chex.assert_type([logits, labels], [float, int])
    chex.assert_shape(labels, logits.shape[:-1])
    wrong = ~jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return logits - chosen(logits, labels)[..., None], wrong


def chosen(logits: Array, classes: Array) -> Array:
    """`[...]`, the logit of a class."""
    return jnp.take_along_axis(logits, classes[..., None], axis=-1)[..., 0]


def log1p_sum_exp(gaps: Array, wrong: Array) -> Array:
    """log(1 + sum over wrong classes of exp(gap)), without overflow."""
    return jnp.logaddexp(0.0, jax.nn.logsumexp(gaps, axis=-1, where=wrong))
