"""Convolution and pooling against XLA's own, in float64, gradients too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advloss.networks import halved, ops, winograd


def _plain_conv(images, kernel):
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def _plain_pool(images):
    window = (1, 2, 2, 1)
    return jax.lax.reduce_window(images, -jnp.inf, jax.lax.max, window, window, "VALID")


def _assert_same(ours, plain, arrays, *, values, gradients):
    """What two functions give, and their gradients, to these tolerances."""
    found, pullback = jax.vjp(ours, *arrays)
    expected, plain_pullback = jax.vjp(plain, *arrays)
    np.testing.assert_allclose(found, expected, **values)
    weight = jnp.cos(jnp.arange(found.size, dtype=found.dtype)).reshape(found.shape)
    for one, other in zip(pullback(weight), plain_pullback(weight), strict=True):
        np.testing.assert_allclose(one, other, **gradients)


@pytest.fixture
def arrays():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        yield (
            jnp.asarray(rng.normal(size=(3, 8, 6, 2))),
            jnp.asarray(rng.normal(size=(5, 5, 2, 4))),
        )


def test_conv2d_and_its_gradients(arrays):
    _assert_same(
        ops.conv2d, _plain_conv, arrays,
        values={"rtol": 1e-12}, gradients={"rtol": 1e-10, "atol": 1e-12},
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("height", [1, 6, 7])
def test_conv2d_halved_is_a_convolution_with_stride_2(size, height):
    """With `size // 2` zeros on each side, as PyTorch pads; gradients, too."""
    pad = size // 2

    def plain(images, kernel):
        return jax.lax.conv_general_dilated(
            images, kernel, (2, 2), [(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip

    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        images = jnp.asarray(rng.normal(size=(2, height, 5, 3)))
        kernel = jnp.asarray(rng.normal(size=(size, size, 3, 4)))
        _assert_same(
            halved.conv2d_halved, plain, (images, kernel),
            values={"rtol": 1e-12, "atol": 1e-14},
            gradients={"rtol": 1e-10, "atol": 1e-12},
        )  # fmt: skip


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("height", [2, 4, 7, 14])
def test_many_channels_take_winograd_s_way(height, size):
    """In float64 to its rounding; in float32 to some more than the definition's."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        channels = winograd.TAPS[size]
        images = jnp.asarray(rng.normal(size=(2, height, 6, channels)))
        kernel = jnp.asarray(rng.normal(size=(size, size, channels, 32)))
        _assert_same(
            ops.conv2d, _plain_conv, (images, kernel),
            values={"rtol": 1e-9, "atol": 1e-11},
            gradients={"rtol": 1e-9, "atol": 1e-10},
        )  # fmt: skip
        expected = _plain_conv(images, kernel)
        single = [array.astype(jnp.float32) for array in (images, kernel)]
    found = winograd.correlate(*single)
    assert found.dtype == jnp.float32
    error = np.abs(found - np.asarray(expected)).max() / np.abs(expected).max()
    assert 0 < error < 5e-6


def test_max_pool_and_its_gradient(arrays):
    images = arrays[0]
    found, pullback = jax.vjp(ops.max_pool, images)
    expected, plain_pullback = jax.vjp(_plain_pool, images)
    np.testing.assert_array_equal(found, expected)
    weight = jnp.cos(jnp.arange(found.size, dtype=found.dtype)).reshape(found.shape)
    np.testing.assert_array_equal(pullback(weight)[0], plain_pullback(weight)[0])


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_pooling_a_convolution_and_its_gradients(channels):
    """Few channels are one matrix product on a CPU; many are not."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(1)
        images = jnp.asarray(rng.normal(size=(3, 8, 6, channels)))
        kernel = jnp.asarray(rng.normal(size=(5, 5, channels, 4)))
        found, pullback = jax.vjp(ops.conv2d_max_pool, images, kernel)
        expected, plain_pullback = jax.vjp(
            lambda *arrays: _plain_pool(_plain_conv(*arrays)), images, kernel
        )
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
        weight = jnp.cos(jnp.arange(found.size, dtype=found.dtype))
        weight = weight.reshape(found.shape)
        for ours, plain in zip(pullback(weight), plain_pullback(weight), strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-10, atol=1e-12)


def test_tied_maxima_send_the_gradient_to_the_first():
    gradient = jax.grad(lambda x: ops.max_pool(x).sum())(jnp.zeros((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])
    # A flat image and a kernel that sees its own pixel alone: every window ties.
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1)
    gradient = jax.grad(lambda x: ops.conv2d_max_pool(x, kernel).sum())(
        jnp.zeros((1, 2, 2, 1))
    )
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1, 0], [0, 0]])


def test_gradients_under_vmap_over_kernels(arrays):
    images, kernel = arrays
    kernels = jnp.stack([kernel, 2 * kernel])

    def loss(kernel, convolution):
        return jnp.sin(convolution(images, kernel)).sum()

    ours = jax.vmap(lambda k: jax.grad(loss)(k, ops.conv2d))(kernels)
    plain = jnp.stack([jax.grad(loss)(k, _plain_conv) for k in kernels])
    np.testing.assert_allclose(ours, plain, rtol=1e-10, atol=1e-12)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(AssertionError):
        ops.max_pool(jnp.zeros((1, 3, 4, 1)))
    with pytest.raises(AssertionError):
        ops.conv2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((2, 2, 1, 3)))
    with pytest.raises(AssertionError):
        ops.conv2d(jnp.zeros((1, 4, 4, 1)), jnp.zeros((3, 3, 2, 3)))
    with pytest.raises(AssertionError):
        ops.conv2d_max_pool(jnp.zeros((1, 3, 4, 1)), jnp.zeros((3, 3, 1, 3)))
