"""A convolution of every second row and column.

On a CPU XLA's own has slow gradients, and all places of `ops.conv2d` are four times the
work. There, pairs of columns become the channels of one, and every second row an image
by itself: then the stride is 1, and three of four weights are not zero.
"""

import jax
import jax.numpy as jnp

from advloss.networks import ops
from advloss.types import Array


def conv2d_halved(
    images: Array, kernel: Array, precision: ops.Precision = None
) -> Array:
    """Every second row and column of `ops.conv2d(images, kernel)`, from the first on.

    It is a convolution with stride 2 and `size // 2` zeros on each side.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[size, size, channels, features]`, size odd.
        precision: as `ops.conv2d`'s.

    Returns:
        `[batch, ceil(height / 2), ceil(width / 2), features]`.

    Raises:
        AssertionError: as `ops.conv2d`.
    """
    ops.check(images, kernel)
    pad = len(kernel) // 2
    if not pad:
        return ops.conv2d(images[:, ::2, ::2], kernel, precision)

    def strided(images: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            images,
            kernel,
            window_strides=(2, 2),
            padding=((pad, pad), (pad, pad)),
            dimension_numbers=ops.LAYOUT,
            precision=precision,
        )

    return jax.lax.platform_dependent(images, kernel, cpu=_of_pairs, default=strided)


def _of_pairs(images: Array, kernel: Array) -> Array:
    size = len(kernel)
    taps = (size + 1) // 2

    def frame(length: int) -> tuple[int, int]:
        """Zeros before and after it, so that all windows are of whole pairs."""
        pairs = -(-length // 2) + taps - 1
        return size // 2, 2 * pairs - size // 2 - length

    batch, height, width, channels = images.shape
    framed = jnp.pad(images, ((0, 0), frame(height), frame(width), (0, 0)))
    rows = framed.reshape(batch, framed.shape[1] // 2, 2, -1, 2 * channels)
    even = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    even = even.reshape(taps, 2, taps, 2 * channels, -1)
    # Of the last pair of rows a window sees the first alone.
    return _within(rows[:, :, 0], even[:, 0]) + _within(rows[:, :-1, 1], even[:-1, 1])


@jax.custom_vjp
def _within(images: Array, kernel: Array) -> Array:
    """The convolution at all places of a kernel within the images."""
    return _within_forward(images, kernel)[0]


def _within_forward(images: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(images, kernel), (images, kernel)


def _correlate(images: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "VALID", dimension_numbers=ops.LAYOUT
    )


def _within_backward(
    saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernel = saved
    above, beside = ((n - 1, n - 1) for n in kernel.shape[:2])
    framed = jnp.pad(gradient, ((0, 0), above, beside, (0, 0)))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _correlate(framed, turned), ops.kernel_product(images, gradient)


_within.defvjp(_within_forward, _within_backward)
