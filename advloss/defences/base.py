"""What defences share: the mean of a loss, accuracies, and the seam's types."""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from advloss.types import Array, AttackResult, Batch, PyTree

Forward = Callable[..., tuple[Array, dict[str, Array], PyTree]]
"""`(variables, images, train) -> (logits, activations, variables)`, pure."""

Outcome = tuple[Array, tuple[PyTree, PyTree, dict[str, Array]]]
"""The loss, and beside it the variables, the memory and metrics by name."""

Loss = Callable[..., Array]
"""`(logits, labels, **hyper["loss"]) -> [batch]`."""

TrainingAttack = Callable[..., AttackResult]
"""`(classifier, keys, images, labels, *, objective, **hyper["attack"])`."""


class Defence(Protocol):
    """How a batch becomes a training loss.

    Args:
        forward: the network; `train` renews the statistics of batches.
        variables: the network's whole tree; its "params" are trained.
        batch: images, labels and global indices.
        key: the step's; each example's are made from it and its index.
        hyper: what a sweep may vary, traced: {"loss": ..., "attack": ...,
            "defence": ...}, each a dict of numbers by name.
        frozen: what is read and never changed: a teacher's variables, a snapshot.
        memory: what is kept of each example of the batch from epoch to epoch, or {}.
        loss: the training loss; it takes `**hyper["loss"]`.
        attack: the training attack; it takes an `objective` in place of the configured
            one where one is given, and `**hyper["attack"]`.

    Returns:
        The loss, a scalar; variables and memory as they are to go on; and metrics,
        scalars by name, "loss" and "accuracy" among them.
    """

    def __call__(
        self,
        forward: Forward,
        variables: PyTree,
        batch: Batch,
        key: Array,
        hyper: dict[str, dict[str, Array]],
        frozen: PyTree,
        memory: PyTree,
        *,
        loss: Loss,
        attack: TrainingAttack,
    ) -> Outcome: ...


def accuracy(logits: Array, labels: Array) -> Array:
    """The share of the batch that is classified correctly."""
    return jnp.mean(jnp.argmax(logits, axis=-1) == labels)


def frozen_classifier(forward: Forward, variables: PyTree) -> Callable[[Array], Array]:
    """The network as an attack sees it: its statistics of batches do not move."""
    fixed = jax.lax.stop_gradient(variables)
    return lambda images: forward(fixed, images, False)[0]
