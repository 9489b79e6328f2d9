"""Normalisation of activations: by statistics of batches, or within an example."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from advloss.errors import InputError
from advloss.types import Array, Axis

_EPSILON = 1e-5  # Beside the variance, as PyTorch has it.


class BatchNorm(nn.Module):
    """`scale * (x - mean) / sqrt(variance + 1e-5) + bias` for each channel.

    In training mean and variance are those of the batch, over all devices that share
    it; and the kept ones become 0.9 of what they were and 0.1 of the batch's. Else the
    kept ones are used. As in PyTorch, the variance that is kept is unbiased, and the
    one that divides is not. All is computed in float32.

    See "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift" by Ioffe and Szegedy, Algorithms 1 and 2.
    """

    momentum: ClassVar[float] = 0.1

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis: Axis | None) -> Array:
        """Of `x` `[batch, ..., channels]`. Raises InputError: one value a channel."""
        shape = x.shape[-1:]
        kept = {
            "mean": self.variable("batch_stats", "mean", jnp.zeros, shape),
            "var": self.variable("batch_stats", "var", jnp.ones, shape),
        }
        values = x.astype(jnp.float32)
        if train:
            count = math.prod(x.shape[:-1]) * _devices(axis)
            mean, variance = _moments(values, axis)
            if count == 1:
                raise InputError(
                    "config.model.norm='batch' is not valid where a batch has one "
                    "value of a channel: use larger images or batches, or 'group'"
                )
            unbiased = variance * (count / (count - 1))
            for name, found in {"mean": mean, "var": unbiased}.items():
                old = kept[name].value
                kept[name].value = old + self.momentum * (found - old)
        else:
            mean, variance = kept["mean"].value, kept["var"].value
        values = (values - _wide(mean, x)) * _wide(_inverse(variance), x)
        return _scaled(self, values).astype(x.dtype)


class GroupNorm(nn.Module):
    """The same by mean and variance of 16 channels of one example.

    It keeps no statistics: an example's output does not depend on the others. All is
    computed in float32.

    See "Group Normalization" by Wu and He; 16 channels a group are of their Table 3.
    """

    channels: ClassVar[int] = 16

    @nn.compact
    def __call__(self, x: Array, **_: Any) -> Array:
        """Of `x` `[batch, height, width, channels]`, channels a multiple of 16."""
        groups = x.shape[-1] // self.channels
        values = x.astype(jnp.float32).reshape(*x.shape[:-1], groups, self.channels)
        within = (1, 2, 4)
        mean = jnp.mean(values, axis=within, keepdims=True)
        variance = jnp.mean(jnp.square(values - mean), axis=within, keepdims=True)
        values = ((values - mean) * _inverse(variance)).reshape(x.shape)
        return _scaled(self, values).astype(x.dtype)


NORMS: Mapping[str, type[nn.Module]] = {"batch": BatchNorm, "group": GroupNorm}


def _devices(axis: Axis | None) -> int:
    if axis is None:
        return 1
    return len(axis.groups[0]) if axis.groups else jax.lax.axis_size(axis.name)


def _moments(values: Array, axis: Axis | None) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, `[channels]`."""

    def mean_of(values: Array) -> Array:
        own = jnp.mean(values, axis=range(values.ndim - 1))
        return own if axis is None else axis.mean(own)

    mean = mean_of(values)
    return mean, mean_of(jnp.square(values - _wide(mean, values)))


def _inverse(variance: Array) -> Array:
    return jax.lax.rsqrt(variance + _EPSILON)


def _wide(of_channels: Array, x: Array) -> Array:
    return of_channels.reshape((1,) * (x.ndim - 1) + (-1,))


def _scaled(module: nn.Module, values: Array) -> Array:
    """Times the channel's scale, plus its bias; they begin as 1 and 0."""
    shape = values.shape[-1:]
    scale = module.param("scale", nn.initializers.ones, shape)
    bias = module.param("bias", nn.initializers.zeros, shape)
    return values * _wide(scale, values) + _wide(bias, values)
