"""What defences share: attacked images, accuracies, and the seam's types."""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from advloss.attacks import base as attacks
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


def attacked_images(
    attack: TrainingAttack,
    forward: Forward,
    variables: PyTree,
    batch: Batch,
    key: Array,
    hyper: dict[str, dict[str, Array]],
    **changes: Any,
) -> Array:
    """The batch's images under the training attack, constant to the gradient.

    Arguments are those of `Defence`; changes take the place of the attack's settings.
    """
    found = attack(
        frozen_classifier(forward, variables),
        attacks.example_keys(key, batch.indices),
        batch.images,
        batch.labels,
        **changes,
        **hyper["attack"],
    )
    return jax.lax.stop_gradient(found.images)


def divergence(first: Array, second: Array) -> Array:
    """`[batch]` Kullback and Leibler's divergence between two softmaxes.

    It is at least 0, and 0 where the two are equal.
    """
    log_first, log_second = jax.nn.log_softmax(first), jax.nn.log_softmax(second)
    return jnp.sum(jnp.exp(log_first) * (log_first - log_second), axis=-1)
