"""A dense network: of another kind than the paper's, for black-box transfer."""

from typing import Any, ClassVar

import flax.linen as nn

from advloss.networks.layers import Architecture
from advloss.types import Array


class Mlp(Architecture):
    """Two hidden layers of 300 units."""

    layers: ClassVar = ("fc1", "fc2", "fc3")

    @nn.compact
    def __call__(self, images: Array, **_: Any) -> dict[str, Array]:
        found = {}
        x = images.reshape(images.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = found[name] = self.dense(x, 300, name)
        found["fc3"] = self.logits(x, "fc3")
        return found
