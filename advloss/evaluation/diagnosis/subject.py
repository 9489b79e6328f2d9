"""A network on some images, and how programs of examples are run on it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from advloss.errors import InputError
from advloss.evaluation.mapped import Mapped
from advloss.types import Batch, Classifier, PyTree


class Subject(NamedTuple):
    """What is diagnosed.

    Attributes:
        classifier_of: variables -> (images -> logits), pure. The same object is
            compiled once.
        variables: the network's arrays.
        images: `[n, height, width, channels]` float32 in [0, 1].
        labels: `[n]` int32.
        right: `[n]` bool, the natural images that are classified correctly.
        classes: of the network.
        norm: of all radii, "linf" or "l2".
        training: what "training" stands for among objectives: a key of
            `losses.LOSSES` or a name, its function, and the digest of both.
        seed: of all random draws.
        batch_size: examples at a time, over all devices.
        devices: they share every batch.
    """

    classifier_of: Callable[[PyTree], Classifier]
    variables: PyTree
    images: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    classes: int
    norm: str
    training: tuple[str, Callable, bytes]
    seed: int
    batch_size: int
    devices: Sequence[jax.Device]

    @property
    def farthest(self) -> float:
        """The radius at which any image in [0, 1] is within reach."""
        pixels = self.images[0].size
        return 1.0 if self.norm == "linf" else float(np.sqrt(pixels))

    def run(
        self,
        function: Callable,
        numbers: dict[str, Any],
        chosen: np.ndarray,
        *arrays: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """A program of a batch, on some of the examples.

        Args:
            function: `((variables, key, numbers), (batch, *arrays)) -> dict`; the same
                object is compiled once. "finite" of the dict says of each example
                whether all its logits were finite.
            numbers: traced.
            chosen: `[m]` int, the places of the examples, m at least 1.
            arrays: `[m, ...]` of them.

        Raises:
            InputError: logits were not finite.
        """
        shared = self.variables, jax.random.key(self.seed), numbers
        count = len(self.labels)
        run = Mapped(function, shared, self.batch_size, self.devices, count)
        indices = chosen.astype(np.int32)
        batch = Batch(self.images[chosen], self.labels[chosen], indices)
        found = run((batch, *arrays))
        finite = found.pop("finite")
        if not finite.all():
            raise InputError(
                f"the network's logits are not finite near {int((~finite).sum())} of "
                f"{len(finite)} images: such a network is neither robust nor fooled; "
                "mend it, or leave these images out"
            )
        return found
