"""What flows between the parts of advloss.

    Dataset ─► Batch ─► TrainState ─► Classifier ─► AttackResult

Images are float32 `[batch, height, width, channels]` in [0, 1], labels int32
`[batch]`, logits float32 `[batch, classes]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
PyTree = Any

Classifier = Callable[[Array], Array]
"""What a network is to an attack: a pure function images -> logits."""

Objective = Callable[[Array, Array], Array]
"""What an attack climbs: (logits, labels) -> `[batch]`, per example."""


class Split(NamedTuple):
    """Images `[n, height, width, channels]` in [0, 1] and labels `[n]`."""

    images: np.ndarray | Array
    labels: np.ndarray | Array


class Dataset(NamedTuple):
    """A train and a test split over the same classes."""

    train: Split
    test: Split
    num_classes: int


class Batch(NamedTuple):
    """Some examples of a split.

    `indices` `[batch]` are their global positions, from which the examples' random
    keys are made: they, not the place in the batch, decide every random draw.
    """

    images: Array
    labels: Array
    indices: Array


class Axis(NamedTuple):
    """The devices that share a batch, within a mapped function.

    Attributes:
        name: of the mapped axis.
        groups: places on the axis of those that belong together; None for all.
    """

    name: str
    groups: list[list[int]] | None = None

    def mean(self, tree: PyTree) -> PyTree:
        """The mean over the devices; of whole numbers, such as counts, the first's."""

        def mean(x: Array) -> Array:
            if jnp.issubdtype(x.dtype, jnp.floating):
                return jax.lax.pmean(x, self.name, axis_index_groups=self.groups)
            return jax.lax.all_gather(x, self.name, axis_index_groups=self.groups)[0]

        return jax.tree.map(mean, tree)

    def gather(self, tree: PyTree) -> PyTree:
        """The rows of all devices, one after the other."""
        return jax.lax.all_gather(
            tree, self.name, axis_index_groups=self.groups, tiled=True
        )


class TrainState(NamedTuple):
    """All that training changes; no part of it has an axis of devices.

    Attributes:
        step: int32, the finished updates.
        variables: the network's whole flax tree, statistics of batches included.
        opt_state: the optimiser's.
        average: the moving average of `variables`, or {} where none is kept.
        memory: what a defence keeps of every training example, `[examples, ...]`
            arrays, or {}.
        best: what did best on held-out images, with its step, or {} where none are.
    """

    step: Array
    variables: PyTree
    opt_state: PyTree
    average: PyTree
    memory: PyTree
    best: PyTree


class AttackResult(NamedTuple):
    """What an attack found; failing to fool is data, not an error.

    To fool is to make the prediction another than the label; of an attack with targets,
    to make it the target.

    Attributes:
        images: the attack's last iterate, shaped like the attacked images; of a
            minimum-norm attack, the nearest that fools, or the original where none was
            found.
        success: `[batch]` bool; `images` fool the classifier.
        objective: `[batch]` the objective at `images`, of the target where there is
            one.
        distance: `[batch]` the distance of `images` from the originals, in the
            attack's norm; inf where a minimum-norm attack found none.
        worst_images: the worst iterate of all: one that fools where any does, and
            of those the one with the highest objective (of a target's, the lowest).
        worst_success: `[batch]` bool; `worst_images` fool the classifier.
        backward_passes: `[batch]` int32, gradients computed for each example, each with
            a forward pass of its own; the gradients of one step of FAB share one.
        forward_passes: `[batch]` int32, evaluations without a gradient.
        zero_gradient: `[batch]` bool; nothing was found, and every gradient was zero or
            not a number: this says nothing of robustness.
    """

    images: Array
    success: Array
    objective: Array
    distance: Array
    worst_images: Array
    worst_success: Array
    backward_passes: Array
    forward_passes: Array
    zero_gradient: Array
