"""Convolution with fewer multiplications: Winograd's minimal filtering along the rows.

Four neighbouring outputs of five taps take eight products where the definition takes
twenty, and of three taps six for twelve: both sides are evaluated at points and at
infinity, multiplied there, and read back (Toom and Cook). Here that is done along the
height of an image; along its width, and over channels, each of the products is a
convolution of one row, which XLA does at the rate of a matrix product. Along both axes
it would save more multiplications and cost more additions, which made it slower.

See "Fast Algorithms for Convolutional Neural Networks" by Lavin and Gray.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array

_OUTPUTS = 4
# Where the polynomials of so many taps are evaluated, beside infinity.
_POINTS = {3: (0.0, 1.0, -1.0, 2.0, -2.0), 5: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)}
# Rows and columns of a kernel, and with how many channels and features at least the
# products that are saved outweigh the additions.
TAPS = {3: 32, 5: 16}


class _Filter(NamedTuple):
    """What turns inputs and taps into factors, and products into outputs."""

    from_inputs: np.ndarray
    from_taps: np.ndarray
    to_outputs: np.ndarray


@functools.cache
def _filter(taps: int) -> _Filter:
    def at_points(coefficients: int) -> np.ndarray:
        """The values of a polynomial at the points, as a matrix on its coefficients."""
        finite = np.vander(_POINTS[taps], coefficients, increasing=True)
        return np.vstack([finite, np.eye(coefficients)[-1]])

    inputs = np.linalg.inv(at_points(_OUTPUTS + taps - 1)).T
    # Rows may be scaled as long as the taps' are scaled back: whole numbers round less.
    scale = np.array([np.abs(row[np.abs(row) > 1e-9]).min() for row in inputs])
    return _Filter(
        np.round(inputs / scale[:, None], 9),
        at_points(taps) * scale[:, None],
        at_points(_OUTPUTS).T,
    )


def correlate(images: Array, kernel: Array) -> Array:
    """Stride 1, the image's size kept, as `lax.conv_general_dilated` to rounding.

    Args:
        images: `[batch, height, width, channels]`.
        kernel: `[size, size, channels, features]`, size a key of `TAPS`.

    Returns:
        `[batch, height, width, features]`; the relative error is some 2e-6 in float32.
    """
    batch, height, width, channels = images.shape
    size, features = len(kernel), kernel.shape[-1]
    pad, own = size // 2, _filter(size)
    tiles = -(-height // _OUTPUTS)
    below = tiles * _OUTPUTS - height + pad
    padded = jnp.pad(images, ((0, 0), (pad, below), (pad, pad), (0, 0)))
    last = _OUTPUTS * (tiles - 1) + 1
    rows = [padded[:, i : i + last : _OUTPUTS] for i in range(len(own.from_inputs))]
    kernels = jnp.einsum(
        "pt,tkcf->pkcf", jnp.asarray(own.from_taps, kernel.dtype), kernel,
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
        for p, weights in enumerate(own.from_inputs)
    ]
    outputs = [
        _combine(weights, products).reshape(batch, tiles, width, features)
        for weights in own.to_outputs
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
