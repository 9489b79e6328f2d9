"""Somebody's flax modules, and images of seconds to train them on."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import advloss

IMAGES = np.full((8, 4, 4, 1), 0.5, np.float32)
LABELS = np.arange(8) % 3


class Own(nn.Module):
    """Somebody's network: it knows nothing of this library."""

    @nn.compact
    def __call__(self, images):
        x = nn.relu(nn.Dense(32)(images.reshape(len(images), -1)))
        return nn.Dense(10)(x)


class Narrow(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(2)(images.reshape(len(images), -1))


class Halves(nn.Module):
    @nn.compact
    def __call__(self, images):
        dense = nn.Dense(3, param_dtype=jnp.bfloat16, dtype=jnp.bfloat16)
        return dense(images.reshape(len(images), -1))


def fit(module, split, **changes):
    """`advloss.fit` of a run of seconds on one device."""
    arguments = {"steps": 60, "batch_size": 20, "epsilon": 0.05, "progress": False}
    arguments |= {"devices": jax.devices()[:1], **changes}
    return advloss.fit(module, *split, **arguments)


def fit_small(module=None, **changes):
    """Two steps on `IMAGES`."""
    how = {"steps": 2, "batch_size": 4, "attack": "fgsm", **changes}
    return fit(module or Own(), (IMAGES, LABELS), **how)
