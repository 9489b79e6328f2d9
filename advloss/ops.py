"""Convolution and pooling whose gradients are fast on every backend.

XLA's own gradients are slow on a CPU: pooling's is a select-and-scatter, thirty times
its forward pass; a convolution's by its input is a dilated convolution that misses the
fast path, and by its kernel, inside a loop, ten times slower still. Here pooling's
gradient is a mask over the windows, a convolution's by its input the same convolution
with the kernel turned around, and by its kernel, on a CPU, one matrix product over all
patches of the image. These are rules for reverse mode: forward mode (`jax.jvp`) and
second derivatives are not available.
"""

import chex
import jax
import jax.numpy as jnp

from advloss.types import Array

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def _correlate(images: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=_LAYOUT
    )


@jax.custom_vjp
def conv2d(images: Array, kernel: Array) -> Array:
    """Convolution with stride 1 that keeps the image's size.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[rows, columns, channels, features]`, rows and columns odd.

    Returns:
        `[batch, height, width, features]`.

    Raises:
        AssertionError: ranks or channels do not fit, or the kernel's size is even.
    """
    return _conv2d_forward(images, kernel)[0]


def _conv2d_forward(images: Array, kernel: Array) -> tuple[Array, tuple]:
    chex.assert_rank([images, kernel], 4)
    chex.assert_equal(kernel.shape[2], images.shape[3])
    # An even kernel is padded unequally; turned around, on the wrong side.
    chex.assert_equal([size % 2 for size in kernel.shape[:2]], [1, 1])
    return _correlate(images, kernel), (images, kernel)


def _conv2d_backward(saved: tuple, gradient: Array) -> tuple[Array, Array]:
    images, kernel = saved
    by_images = _correlate(gradient, kernel[::-1, ::-1].swapaxes(2, 3))

    def correlation(images: Array, gradient: Array) -> Array:
        _, pullback = jax.vjp(lambda kernel: _correlate(images, kernel), kernel)
        return pullback(gradient)[0]

    def matrix_product(images: Array, gradient: Array) -> Array:
        patches = _patches(images, *kernel.shape[:2])
        product = patches.T @ gradient.reshape(-1, gradient.shape[-1])
        return product.reshape(kernel.shape)

    by_kernel = jax.lax.platform_dependent(
        images, gradient, cpu=matrix_product, default=correlation
    )
    return by_images, by_kernel


def _patches(images: Array, rows: int, columns: int) -> Array:
    """What a kernel sees at each pixel: `[pixels, rows * columns * channels]`."""
    _, height, width, channels = images.shape
    above, left = rows // 2, columns // 2
    padded = jnp.pad(images, ((0, 0), (above, above), (left, left), (0, 0)))
    shifted = [
        padded[:, i : i + height, j : j + width]
        for i in range(rows)
        for j in range(columns)
    ]
    return jnp.stack(shifted, axis=3).reshape(-1, rows * columns * channels)


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


@jax.custom_vjp
def max_pool(images: Array) -> Array:
    """The largest of every 2x2 window.

    Where several are largest, the gradient goes to the first of them, row by row.

    Args:
        images: `[batch, height, width, channels]`, height and width even.

    Returns:
        `[batch, height / 2, width / 2, channels]`.

    Raises:
        AssertionError: the rank is not 4, or height or width is odd.
    """
    return _max_pool_forward(images)[0]


def _max_pool_forward(images: Array) -> tuple[Array, tuple]:
    chex.assert_rank(images, 4)
    chex.assert_equal([size % 2 for size in images.shape[1:3]], [0, 0])
    pooled = _windows(images).max(axis=(2, 4))
    return pooled, (images, pooled)


def _windows(images: Array) -> Array:
    batch, height, width, channels = images.shape
    return images.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _max_pool_backward(saved: tuple, gradient: Array) -> tuple[Array]:
    images, pooled = saved
    windows = _windows(images)
    rows = []
    free = jnp.ones(pooled.shape, bool)  # Windows whose largest is still to come.
    for i in (0, 1):
        row = []
        for j in (0, 1):
            first = free & (windows[:, :, i, :, j] == pooled)
            free &= ~first
            row.append(jnp.where(first, gradient, 0))
        rows.append(jnp.stack(row, axis=3))
    return (jnp.stack(rows, axis=2).reshape(images.shape),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
