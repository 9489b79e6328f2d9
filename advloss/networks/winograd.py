"""Convolution with fewer multiplications: Winograd's minimal filtering along the rows.

Four neighbouring outputs of five taps take eight products where the definition takes
twenty: both sides are evaluated at seven points and at infinity, multiplied there, and
read back (Toom and Cook). Here that is done along the height of an image; along its
width, and over channels, each of the eight products is a convolution of one row, which
XLA does at the rate of a matrix product. Along both axes it would save more
multiplications and cost more additions, which made it slower.

See "Fast Algorithms for Convolutional Neural Networks" by Lavin and Gray.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

TAPS = 5  # The height of a kernel.
_OUTPUTS = 4
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # And infinity.


def _at_points(coefficients: int) -> np.ndarray:
    """The values of a polynomial at the points, as a matrix on its coefficients."""
    finite = np.vander(_POINTS, coefficients, increasing=True)
    return np.vstack([finite, np.eye(coefficients)[-1]])


_FROM_TAPS = _at_points(TAPS)
_TO_OUTPUTS = _at_points(_OUTPUTS).T
_FROM_INPUTS = np.linalg.inv(_at_points(_OUTPUTS + TAPS - 1)).T
# Rows may be scaled as long as the taps' are scaled back: whole numbers round less.
_SCALE = np.array([np.abs(row[np.abs(row) > 1e-9]).min() for row in _FROM_INPUTS])
_FROM_INPUTS = np.round(_FROM_INPUTS / _SCALE[:, None], 9)
_FROM_TAPS = _FROM_TAPS * _SCALE[:, None]


def correlate(images: Array, kernel: Array) -> Array:
    """Stride 1, the image's size kept, as `lax.conv_general_dilated` to rounding.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[5, 5, channels, features]`.

    Returns:
        `[batch, height, width, features]`; the relative error is some 2e-6 in float32.
    """
    batch, height, width, channels = images.shape
    features, pad = kernel.shape[-1], TAPS // 2
    tiles = -(-height // _OUTPUTS)
    below = tiles * _OUTPUTS - height + pad
    padded = jnp.pad(images, ((0, 0), (pad, below), (pad, pad), (0, 0)))
    last = _OUTPUTS * (tiles - 1) + 1
    rows = [padded[:, i : i + last : _OUTPUTS] for i in range(len(_FROM_INPUTS))]
    kernels = jnp.einsum(
        "pt,tkcf->pkcf", jnp.asarray(_FROM_TAPS, kernel.dtype), kernel,
        precision="highest",
    )  # fmt: skip
    products = [
        jax.lax.conv_general_dilated(
            _combine(weights, rows).reshape(batch * tiles, 1, -1, channels),
            kernels[p][None],
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        for p, weights in enumerate(_FROM_INPUTS)
    ]
    outputs = [
        _combine(weights, products).reshape(batch, tiles, width, features)
        for weights in _TO_OUTPUTS
    ]
    stacked = jnp.stack(outputs, axis=2)
    return stacked.reshape(batch, tiles * _OUTPUTS, width, features)[:, :height]


def _combine(weights: Sequence[float], arrays: Sequence[Array]) -> Array:
    """The weighted sum, without the zeros."""
    terms = [
        array if weight == 1 else float(weight) * array
        for weight, array in zip(weights, arrays, strict=True)
        if weight
    ]
    return sum(terms[1:], start=terms[0])
