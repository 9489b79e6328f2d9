r"""The shortest way to a hyperplane inside the box [0, 1].

    minimise ||change||  subject to  <normal, change> = gain,  0 <= points + change <= 1

Every pixel moves at a speed of its own, 1 in l-inf and its weight |normal| in l2, until
it meets the edge of the box: change(t) = +- min(t * speed, room). What is gained by
time t is concave and piecewise linear, so that Newton's steps from t = 0 never go
beyond the root and meet it after finitely many.
"""

import jax
import jax.numpy as jnp

from advloss.attacks import base
from advloss.types import Array

_ROUNDING = 1e-6  # Of t, in float32: a shorter step of Newton's is the last.


def shortest_change(points: Array, normal: Array, gain: Array, norm: str) -> Array:
    """The least change of points of the box that gains as much along the normal.

    Args:
        points: `[batch, ...]` in [0, 1].
        normal: `[batch, ...]` of the planes, finite.
        gain: `[batch]` by how much <normal, point> is to rise, or to fall where it is
            negative.
        norm: of the change's length, "linf" or "l2".

    Returns:
        `[batch, ...]` changes that stay in the box. Where the plane does not meet it,
        the change leads to a point that is nearest to the plane; where the normal is
        zero, the change is zero.

    Raises:
        KeyError: no such norm.

    See "Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack"
    by Croce and Hein, Section 2.2.
    """
    largest = jnp.max(jnp.abs(normal), axis=tuple(range(1, normal.ndim)))
    scale = jnp.where(largest > 0, largest, 1.0)
    weights = jnp.abs(normal) / as_pixels(scale, normal)
    speeds = {"linf": jnp.ones_like(weights), "l2": weights}[norm]
    direction = jnp.sign(normal) * as_pixels(jnp.sign(gain), normal)
    room = jnp.where(direction > 0, 1 - points, points)
    wanted = jnp.abs(gain) / scale

    def advance(state: tuple[Array, Array]) -> tuple[Array, Array]:
        time, moving = state
        free = as_pixels(time, normal) * speeds
        missing = wanted - base.dot(weights, jnp.minimum(free, room))
        slope = base.dot(weights, jnp.where(free < room, speeds, 0.0))
        later = time + jnp.where(slope > 0, missing / slope, 0.0)
        moving &= later > time * (1 + _ROUNDING)
        return jnp.where(moving, later, time), moving

    start = jnp.zeros_like(wanted), jnp.ones_like(wanted, bool)
    time, _ = jax.lax.while_loop(lambda state: state[1].any(), advance, start)
    return direction * jnp.minimum(as_pixels(time, normal) * speeds, room)


def as_pixels(values: Array, like: Array) -> Array:
    """`[batch]` values with the axes of an image, each of length 1."""
    return jnp.expand_dims(values, tuple(range(1, like.ndim)))
