"""Convolution and pooling whose gradients are fast on every backend.

XLA's own gradients are slow on a CPU: pooling's is a select-and-scatter, thirty times
its forward pass; a convolution's by its input is a dilated convolution that misses the
fast path, and by its kernel, inside a loop, ten times slower still. Here pooling's
gradient is a mask over the windows, and a convolution's by its input the same
convolution with the kernel turned around. On a CPU, its gradient by the kernel is one
matrix product over all places of the image; so is pooling after a convolution of few
channels; a convolution of many takes Winograd's way. What depends on the backend is
chosen here and nowhere else, when a program is compiled for it. These are rules for
reverse mode: forward mode (`jax.jvp`) and second derivatives are not available.
"""

import functools
from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp

from advloss.networks import winograd
from advloss.types import Array

Precision = jax.lax.Precision | None

LAYOUT = ("NHWC", "HWIO", "NHWC")


def _correlate(images: Array, kernel: Array, precision: Precision) -> Array:
    direct = functools.partial(
        jax.lax.conv_general_dilated,
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=LAYOUT,
        precision=precision,
    )
    size, _, channels, features = kernel.shape
    many = size in winograd.TAPS and min(channels, features) >= winograd.TAPS[size]
    if not many or images.dtype == jnp.bfloat16:  # With fewer bits, it rounds.
        return direct(images, kernel)
    return jax.lax.platform_dependent(
        images, kernel, cpu=winograd.correlate, default=direct
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def conv2d(images: Array, kernel: Array, precision: Precision = None) -> Array:
    """Convolution with stride 1 that keeps the image's size.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[size, size, channels, features]`, size odd.
        precision: of products, gradients' too; None is the backend's usual.

    Returns:
        `[batch, height, width, features]`.

    Raises:
        AssertionError: ranks or channels do not fit, or the kernel is even or not
            square.
    """
    return _conv2d_forward(images, kernel, precision)[0]


def _conv2d_forward(
    images: Array, kernel: Array, precision: Precision
) -> tuple[Array, tuple[Array, Array]]:
    check(images, kernel)
    return _correlate(images, kernel, precision), (images, kernel)


def check(images: Array, kernel: Array) -> None:
    """Raises AssertionError: ranks or channels do not fit, or the kernel is even."""
    chex.assert_rank([images, kernel], 4)
    size = len(kernel)
    chex.assert_shape(kernel, (size, size, images.shape[3], None))
    # An even kernel is padded unequally; turned around, on the wrong side.
    chex.assert_equal(size % 2, 1)


def _conv2d_backward(
    precision: Precision, saved: tuple[Array, Array], gradient: Array
) -> tuple[Array, Array]:
    images, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    by_images = _correlate(gradient, turned, precision)

    def correlation(images: Array, gradient: Array) -> Array:
        _, pullback = jax.vjp(lambda k: _correlate(images, k, precision), kernel)
        return pullback(gradient)[0]

    def product(images: Array, gradient: Array) -> Array:
        around = (len(kernel) // 2,) * 2
        padded = jnp.pad(images, ((0, 0), around, around, (0, 0)))
        return kernel_product(padded, gradient)

    by_kernel = jax.lax.platform_dependent(
        images, gradient, cpu=product, default=correlation
    )
    return by_images, by_kernel


def kernel_product(images: Array, gradient: Array) -> Array:
    """The gradient by a kernel that was moved over all its places within the images.

    It is one matrix product. It sums, over all places, products of the image moved
    sideways and the gradient moved down: moving one alone both ways would copy `rows`
    times as much.

    Args:
        images: `[batch, height + rows - 1, width + columns - 1, channels]`.
        gradient: `[batch, height, width, features]`.

    Returns:
        `[rows, columns, channels, features]`.
    """
    height, width = gradient.shape[1:3]
    rows, columns = (
        n + 1 - m for n, m in zip(images.shape[1:3], (height, width), strict=True)
    )
    sideways = [images[:, :, j : j + width] for j in range(columns)]
    down = [
        jnp.pad(gradient, ((0, 0), (i, rows - 1 - i), (0, 0), (0, 0)))
        for i in range(rows)
    ]
    channels, features = images.shape[-1], gradient.shape[-1]
    left = jnp.stack(sideways, axis=3).reshape(-1, columns * channels)
    right = jnp.stack(down, axis=3).reshape(-1, rows * features)
    products = (left.T @ right).reshape(columns, channels, rows, features)
    return products.transpose(2, 0, 1, 3)


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


def _max_pool_forward(images: Array) -> tuple[Array, tuple[Array, Array]]:
    chex.assert_rank(images, 4)
    chex.assert_equal([size % 2 for size in images.shape[1:3]], [0, 0])
    pooled = _windows(images).max(axis=(2, 4))
    return pooled, (images, pooled)


def _windows(images: Array) -> Array:
    batch, height, width, channels = images.shape
    return images.reshape(batch, height // 2, 2, width // 2, 2, channels)


def _max_pool_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    images, pooled = saved
    windows = _windows(images)
    places = [windows[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]
    shares = _to_first(places, pooled, gradient)
    rows = [jnp.stack(row, axis=3) for row in (shares[:2], shares[2:])]
    return (jnp.stack(rows, axis=2).reshape(images.shape),)


def _to_first(values: Sequence[Array], largest: Array, gradient: Array) -> list[Array]:
    """The gradient of the largest by each value: all of it to the first that is it."""
    shares = []
    free = jnp.ones(largest.shape, bool)  # Where the largest is still to come.
    for value in values:
        first = free & (value == largest)
        free &= ~first
        shares.append(jnp.where(first, gradient, 0))
    return shares


max_pool.defvjp(_max_pool_forward, _max_pool_backward)

# Up to so many channels the patches of pooling windows are worth a matrix product: they
# overlap, which costs (k + 1)^2 products for k^2.
_FEW_CHANNELS = 4


def conv2d_max_pool(images: Array, kernel: Array, precision: Precision = None) -> Array:
    """`max_pool(conv2d(images, kernel))`, to float rounding, and its gradients.

    Args:
        images: `[batch, height, width, channels]`, height and width even.
        kernel: `[size, size, channels, features]`, size odd.
        precision: as `conv2d`'s.

    Returns:
        `[batch, height / 2, width / 2, features]`.

    Raises:
        AssertionError: as `conv2d` and `max_pool`.
    """
    check(images, kernel)
    chex.assert_equal([size % 2 for size in images.shape[1:3]], [0, 0])

    def plain(images: Array, kernel: Array) -> Array:
        return max_pool(conv2d(images, kernel, precision))

    if images.shape[-1] > _FEW_CHANNELS:
        return plain(images, kernel)
    return jax.lax.platform_dependent(
        images, kernel, cpu=_windows_product, default=plain
    )


def _windows_product(images: Array, kernel: Array) -> Array:
    """What each pooling window sees, times the kernel at its four places, the largest.

    A window of 2x2 sees k + 1 rows and columns of the image.
    """
    batch, height, width, _ = images.shape
    size, features = kernel.shape[0], kernel.shape[-1]
    at_places = [
        jnp.pad(kernel, ((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)))
        for i in (0, 1)
        for j in (0, 1)
    ]
    matrix = jnp.stack(at_places, axis=3).reshape(-1, 4 * features)
    pad = size // 2
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    moved = [
        padded[:, i : i + height : 2, j : j + width : 2]
        for i in range(size + 1)
        for j in range(size + 1)
    ]
    seen = jnp.stack(moved, axis=3).reshape(-1, len(matrix))
    pooled = _largest_of_four(seen @ matrix)
    return pooled.reshape(batch, height // 2, width // 2, features)


@jax.custom_vjp
def _largest_of_four(values: Array) -> Array:
    """`[rows, 4 * features]` -> `[rows, features]`; gradients go to the first."""
    return _largest_forward(values)[0]


def _largest_forward(values: Array) -> tuple[Array, tuple[Array, Array]]:
    largest = functools.reduce(jnp.maximum, jnp.split(values, 4, axis=1))
    return largest, (values, largest)


def _largest_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    values, largest = saved
    shares = _to_first(jnp.split(values, 4, axis=1), largest, gradient)
    return (jnp.concatenate(shares, axis=1),)


_largest_of_four.defvjp(_largest_forward, _largest_backward)
