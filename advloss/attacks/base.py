"""What attacks share: random keys, norms, success, the worst iterate."""

import math
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from advloss.errors import InputError, shown
from advloss.types import Array

# Whatever JAX's own default is: of others, vmap draws for a batch what it does not draw
# for each example alone.
KEYS = "threefry2x32"


def example_keys(key: Array, indices: Array) -> Array:
    """A key for each example, from its global index.

    What is drawn for an example then depends neither on the batch that it is in nor on
    the number of devices.

    Args:
        key: one typed key.
        indices: `[batch]` int, the examples' global indices.

    Returns:
        `[batch]` typed keys.

    Raises:
        InputError: key or indices are not as above.
    """
    typed = isinstance(key, jax.Array) and not key.ndim
    if not (typed and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise InputError(
            f"key={shown(key)} is not valid: use one typed key, such as "
            "jax.random.key(0)"
        )
    numbers = indices if isinstance(indices, jax.Array) else np.asarray(indices)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise InputError(
            f"indices of {numbers.dtype} {numbers.shape} are not valid: use whole "
            "numbers [batch], such as np.arange(len(images))"
        )
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)


def check_arguments(
    keys: Array, images: Array, labels: Array, targets: Array | None = None
) -> None:
    """Holds arguments to the attack contract; raises AssertionError.

    Values are checked where they are known, see `direct.attack`. Under `jit` they are
    not: an example whose target is its label counts as fooled where it is right.
    """
    classes = [labels] if targets is None else [labels, targets]
    chex.assert_type([images, *classes], [float, *(int for _ in classes)])
    chex.assert_equal_shape_prefix([images, keys, *classes], 1)
    chex.assert_rank([keys, *classes], 1)


def check_norm(norm: str, known: Collection[str]) -> None:
    """Raises InputError where an attack does not know the norm."""
    if norm not in known:
        raise InputError(
            f"norm={norm!r} is not valid: use one of {', '.join(known)}, in which this "
            "attack is known"
        )


class Round(NamedTuple):
    """A part of an attack, after which what is fooled need not be attacked further.

    Attributes:
        settings: keyword arguments in place of the attack's own.
        numbers: further ones that may be traced: rounds that differ in them alone are
            one program.
        resume: it takes the images that the round before it left, as `start`.
    """

    settings: Mapping[str, Any] = MappingProxyType({})
    numbers: Mapping[str, int] = MappingProxyType({})
    resume: bool = False


class Norm(NamedTuple):
    """What an attack needs to know of a norm; every function works on a batch.

    Attributes:
        distance: (images, originals) -> `[batch]`.
        ascend: gradient -> the step of length 1 that climbs most; 0 where it is 0.
        project: (images, originals, epsilon) -> images within epsilon of the originals
            and in [0, 1]; the nearest ones in l-inf.
        draw: (keys, images, epsilon) -> changes, uniform in the ball.
    """

    distance: Callable[[Array, Array], Array]
    ascend: Callable[[Array], Array]
    project: Callable[[Array, Array, Array | float], Array]
    draw: Callable[[Array, Array, Array | float], Array]


def _pixel_axes(images: Array) -> tuple[int, ...]:
    return tuple(range(1, images.ndim))


def _linf_distance(images: Array, originals: Array) -> Array:
    return jnp.max(jnp.abs(images - originals), axis=_pixel_axes(images))


def _linf_project(images: Array, originals: Array, epsilon: Array | float) -> Array:
    lowest = jnp.maximum(originals - epsilon, 0.0)
    highest = jnp.minimum(originals + epsilon, 1.0)
    return jnp.clip(images, lowest, highest)


def _linf_draw(keys: Array, images: Array, epsilon: Array | float) -> Array:
    def draw(key: Array) -> Array:
        shape, dtype = images.shape[1:], images.dtype
        return jax.random.uniform(key, shape, dtype, minval=-1.0, maxval=1.0)

    return epsilon * jax.vmap(draw)(keys)


def _l2_length(change: Array) -> Array:
    """`[batch, 1, ...]` lengths, not differentiable at 0."""
    axes = _pixel_axes(change)
    return jnp.sqrt(jnp.sum(jnp.square(change), axis=axes, keepdims=True))


def _l2_distance(images: Array, originals: Array) -> Array:
    return _l2_length(images - originals).reshape(len(images))


def largest(gradient: Array) -> Array:
    """`[batch, 1, ...]` the largest size of a pixel; 1 where all are 0."""
    size = jnp.max(jnp.abs(gradient), axis=_pixel_axes(gradient), keepdims=True)
    return jnp.where(size > 0, size, 1.0)


def of_size_one(gradient: Array) -> Array:
    """The gradient in units of its largest pixel."""
    return gradient / largest(gradient)


def _l2_ascend(gradient: Array) -> Array:
    gradient = of_size_one(gradient)  # Of huge and tiny ones squares are inf and 0.
    length = _l2_length(gradient)
    return jnp.where(length > 0, gradient / jnp.where(length > 0, length, 1.0), 0.0)


def _l2_project(images: Array, originals: Array, epsilon: Array | float) -> Array:
    change = images - originals
    length = _l2_length(change)
    shrunk = change * (epsilon / jnp.maximum(length, epsilon))
    change = jnp.where(length > epsilon, shrunk, change)
    # Clipping to the box moves towards the original, which is in it: still in the ball.
    return jnp.clip(originals + change, 0.0, 1.0)


def _l2_draw(keys: Array, images: Array, epsilon: Array | float) -> Array:
    def draw(key: Array) -> Array:
        direction_key, length_key = jax.random.split(key)
        direction = jax.random.normal(direction_key, images.shape[1:], images.dtype)
        # A ball's volume grows with the n-th power of its radius.
        share = jax.random.uniform(length_key, (), images.dtype)
        share = share ** (1 / direction.size)
        return share * direction / jnp.linalg.norm(direction.ravel())

    return epsilon * jax.vmap(draw)(keys)


def _l1_distance(images: Array, originals: Array) -> Array:
    return jnp.sum(jnp.abs(images - originals), axis=_pixel_axes(images))


def _l1_ascend(gradient: Array) -> Array:
    flat = gradient.reshape(len(gradient), -1)
    steepest = jax.nn.one_hot(
        jnp.argmax(jnp.abs(flat), axis=-1), flat.shape[-1], dtype=flat.dtype
    )
    return (steepest * jnp.sign(flat)).reshape(gradient.shape)


def _l1_project(images: Array, originals: Array, epsilon: Array | float) -> Array:
    # "Efficient Projections onto the l1-Ball for Learning in High Dimensions" by Duchi
    # et al., Figure 1: all sizes fall by one threshold, to no less than 0.
    change = (images - originals).reshape(len(images), -1)
    size, radius = jnp.abs(change), jnp.reshape(jnp.asarray(epsilon), (-1, 1))
    outside = jnp.sum(size, axis=-1, keepdims=True) > radius
    # Counted from the largest: beside a huge one, the radius would be rounded away.
    size = size - jnp.max(size, axis=-1, keepdims=True)
    falling = -jnp.sort(-size, axis=-1)
    count = jnp.arange(1, size.shape[-1] + 1, dtype=size.dtype)[None]
    threshold = (jnp.cumsum(falling, axis=-1) - radius) / count
    # It is largest at the number of pixels that stay.
    threshold = jnp.max(threshold, axis=-1, keepdims=True)
    shrunk = jnp.sign(change) * jnp.maximum(size - threshold, 0.0)
    change = jnp.where(outside, shrunk, change).reshape(images.shape)
    # Clipping to the box moves towards the original, which is in it: still in the ball.
    return jnp.clip(originals + change, 0.0, 1.0)


def _l1_draw(keys: Array, images: Array, epsilon: Array | float) -> Array:
    def draw(key: Array) -> Array:
        sign_key, size_key = jax.random.split(key)
        shape, dtype = images.shape[1:], images.dtype
        # One exponential more than pixels: what is left of the radius.
        sizes = jax.random.exponential(size_key, (math.prod(shape) + 1,), dtype)
        shares = (sizes[:-1] / jnp.sum(sizes)).reshape(shape)
        return shares * jax.random.rademacher(sign_key, shape, dtype)

    return epsilon * jax.vmap(draw)(keys)


NORMS = {
    "linf": Norm(_linf_distance, jnp.sign, _linf_project, _linf_draw),
    "l2": Norm(_l2_distance, _l2_ascend, _l2_project, _l2_draw),
    "l1": Norm(_l1_distance, _l1_ascend, _l1_project, _l1_draw),
}


def distance(norm: str, images: Array, originals: Array) -> Array:
    """`[batch]` distances in a norm; in l0, of pixels that differ in some channel."""
    if norm == "l0":
        differs = jnp.any(images != originals, axis=-1)
        return jnp.sum(differs, axis=_pixel_axes(differs)).astype(images.dtype)
    return NORMS[norm].distance(images, originals)


def fooled(logits: Array, labels: Array, targets: Array | None) -> Array:
    """`[batch]` bool: the prediction is not the label, or, given targets, is theirs.

    Logits that are not numbers predict nothing: they never fool.
    """
    predictions = jnp.argmax(logits, axis=-1)
    fools = predictions != labels if targets is None else predictions == targets
    return fools & ~jnp.isnan(logits).any(axis=-1)


def has_zero_gradient(gradient: Array) -> Array:
    """`[batch]` bool: the gradient is zero at every pixel, or not a number."""
    return ~jnp.any(jnp.abs(gradient) > 0, axis=_pixel_axes(gradient))


def finite(values: Array) -> Array:
    """The values, with 0 for what is not finite: where nothing is to be followed."""
    return jnp.where(jnp.isfinite(values), values, 0.0)


def never_seen(labels: Array, gradients: int) -> Array:
    """`[batch]` bool: no gradient seen before the first of so many, if there is any."""
    return jnp.full(labels.shape, gradients > 0)


def dot(first: Array, second: Array) -> Array:
    """`[batch]` inner products."""
    return jnp.sum(first * second, axis=_pixel_axes(first))


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


def worst_of(seen: Worst) -> Worst:
    """The worst along a leading axis, example by example; the first where they tie."""
    fooled = seen.success.any(axis=0, keepdims=True)
    eligible = seen.success == fooled  # Those that fool, where there are any.
    worst = jnp.argmax(jnp.where(eligible, seen.objective, -jnp.inf), axis=0)
    return jax.tree.map(lambda x: x[worst, jnp.arange(x.shape[1])], seen)


def select(mask: Array, where_true: Array, where_false: Array) -> Array:
    """`jnp.where` by a mask of the leading `[batch]` axis."""
    mask = mask.reshape(mask.shape + (1,) * (where_true.ndim - mask.ndim))
    return jnp.where(mask, where_true, where_false)
