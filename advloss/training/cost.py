"""What an update costs: passes of one image through the network."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from advloss.attacks.base import example_keys
from advloss.config import build
from advloss.defences import DEFENCES
from advloss.types import Array


class Passes(NamedTuple):
    """Passes of one image.

    Attributes:
        backward: those with a gradient.
        forward: those without.
    """

    backward: int
    forward: int


def of_update(config: ConfigDict) -> Passes:
    """What one update of a run costs, for each image of its batch.

    The training attack is run once on a small linear network, and counts for itself. A
    teacher that is trained with the run adds its own updates.
    """
    entry = DEFENCES[config.defence.name]
    times = 2 if config.defence.awp else 1  # AWP does all but the attack twice.
    backward, forward = times * entry.backward, times * entry.forward
    if entry.attacks:
        of_attack = _of_attack(config)
        backward, forward = backward + of_attack.backward, forward + of_attack.forward
        backward += (times - 1) * (not entry.backward)  # Its own is the attack's.
    if entry.teacher and not config.defence.teacher:
        backward += times * DEFENCES["natural"].backward
    return Passes(backward, forward)


def _of_attack(config: ConfigDict) -> Passes:
    classes, images = config.data.num_classes, jnp.full((2, 4, 4, 1), 0.5)
    weights = jnp.sin(jnp.arange(16.0 * classes)).reshape(16, classes)

    def classifier(images: Array) -> Array:
        return jnp.tanh(images.reshape(len(images), -1) @ weights / 16)

    attack = build.training_attack(config, build.objective(config))
    found = jax.jit(
        lambda images, numbers: attack(
            classifier,
            example_keys(jax.random.key(0), jnp.arange(2)),
            images,
            jnp.zeros(2, jnp.int32),
            **numbers,
        )
    )(images, build.hyperparameters(config)["attack"])
    # Whether the last image fools is not asked in training: JAX removes that pass.
    forward = max(0, int(found.forward_passes[0]) - 1)
    return Passes(int(found.backward_passes[0]), forward)
