"""A linear network, of which the robustness is known, and images for it."""

import flax.linen as nn
import jax
import numpy as np

CLASSES, COUNT = 3, 60
QUICK = {"steps": 8, "progress": False, "devices": jax.devices()[:1]}
WEIGHTS = np.random.default_rng(0).normal(size=(16, CLASSES)).astype(np.float32)


def linear(images):
    """Logits of a linear network: its robustness is known."""
    return (images - 0.5).reshape(len(images), -1) @ WEIGHTS


class Module(nn.Module):
    """The same as a module of flax, its weights to be given."""

    @nn.compact
    def __call__(self, images):
        flat = (images - 0.5).reshape(len(images), -1)
        return nn.Dense(CLASSES, use_bias=False)(flat)


def linear_images():
    """`[60, 4, 4, 1]`, far enough from 0 and 1 that the box is never reached."""
    pixels = np.random.default_rng(1).uniform(0.3, 0.7, size=(COUNT, 4, 4, 1))
    return pixels.astype(np.float32)


def linear_labels(images):
    """Of every tenth image another than the network's."""
    labels = np.argmax(np.asarray(linear(images)), axis=-1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    return labels
