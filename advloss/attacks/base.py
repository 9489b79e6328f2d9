"""What attacks share: random keys, the ball and the box, success, the worst iterate."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from advloss.types import Array


def example_keys(key: Array, indices: Array) -> Array:
    """A key for each example, from its global index.

    What is drawn for an example then depends neither on the batch that it is in nor on
    the number of devices.

    Args:
        key: one typed key.
        indices: `[batch]` int, the examples' global indices.

    Returns:
        `[batch]` typed keys.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)


def check_arguments(keys: Array, images: Array, labels: Array) -> None:
    """Raises AssertionError where shapes or types break the attack contract."""
    chex.assert_type([images, labels], [float, int])
    chex.assert_equal_shape_prefix([images, labels, keys], 1)
    chex.assert_rank([labels, keys], 1)


def linf_bounds(images: Array, epsilon: Array | float) -> tuple[Array, Array]:
    """The lowest and the highest image within epsilon (l-inf) and within [0, 1]."""
    return jnp.maximum(images - epsilon, 0.0), jnp.minimum(images + epsilon, 1.0)


def linf_distance(images: Array, originals: Array) -> Array:
    """`[batch]` the largest change of any pixel."""
    return jnp.max(jnp.abs(images - originals), axis=tuple(range(1, images.ndim)))


def uniform_noise(keys: Array, images: Array, epsilon: Array | float) -> Array:
    """Uniform draws from [-epsilon, epsilon) for every pixel, one key an example."""

    def draw(key: Array) -> Array:
        return jax.random.uniform(
            key, images.shape[1:], images.dtype, minval=-1.0, maxval=1.0
        )

    return epsilon * jax.vmap(draw)(keys)


def fooled(scores: Array, labels: Array, *, targeted: bool) -> Array:
    """`[batch]` bool: the prediction left the label (targeted: is the label)."""
    hit = jnp.argmax(scores, axis=-1) == labels
    return hit if targeted else ~hit


class Worst(NamedTuple):
    """The worst iterate so far: fooling before not fooling, then by objective."""

    images: Array
    success: Array
    objective: Array


def worse(first: Worst, second: Worst) -> Worst:
    """The worse of two iterates, example by example; `first` where they tie."""
    higher = second.objective > first.objective
    second_wins = jnp.where(first.success == second.success, higher, second.success)
    return jax.tree.map(lambda a, b: select(second_wins, b, a), first, second)


def select(mask: Array, where_true: Array, where_false: Array) -> Array:
    """`jnp.where` by a mask of the leading `[batch]` axis."""
    mask = mask.reshape(mask.shape + (1,) * (where_true.ndim - mask.ndim))
    return jnp.where(mask, where_true, where_false)
