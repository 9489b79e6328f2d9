"""What flows between the parts of advloss.

    Dataset ─► Batch ─► TrainState ─► Classifier ─► AttackResult

Images are float32 `[batch, height, width, channels]` in [0, 1], labels int32
`[batch]`, scores float32 `[batch, classes]`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array
PyTree = Any

Classifier = Callable[[Array], Array]
"""What a network is to an attack: a pure function images -> scores."""

Objective = Callable[[Array, Array], Array]
"""What an attack climbs: (scores, labels) -> `[batch]`, per example."""


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


class TrainState(NamedTuple):
    """All that training changes: the finished steps, the parameters, Adam's moments."""

    step: Array
    params: PyTree
    opt_state: PyTree


class AttackResult(NamedTuple):
    """What an attack found; failing to fool is data, not an error.

    To fool is to make the prediction another than the label; of an attack with targets,
    to make it the target.

    Attributes:
        images: the attack's last iterate, shaped like the attacked images; of an
            attack that looks for the least change, the nearest that fools, or the
            original where none was found.
        success: `[batch]` bool; `images` fool the classifier.
        objective: `[batch]` the objective at `images`, of the target where there is
            one.
        distance: `[batch]` the distance of `images` from the originals, in the
            attack's norm; inf where an attack for the least change found none.
        worst_images: the worst iterate of all: one that fools where any does, and
            of those the one with the highest objective (of a target's, the lowest).
        worst_success: `[batch]` bool; `worst_images` fool the classifier.
        gradients: `[batch]` int32, gradient evaluations spent on each example.
        forwards: `[batch]` int32, evaluations without a gradient.
        blind: `[batch]` bool; nothing was found, and every gradient was zero or not a
            number: this says nothing of robustness.
    """

    images: Array
    success: Array
    objective: Array
    distance: Array
    worst_images: Array
    worst_success: Array
    gradients: Array
    forwards: Array
    blind: Array
