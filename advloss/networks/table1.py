"""The paper's network for MNIST (Table I)."""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn

from advloss.networks import layers, ops
from advloss.types import Array


class ConvPool(nn.Module):
    """A 5x5 convolution that keeps the image's size; and its 2x2 max-pooling.

    Both after the activation, each computed by itself: what is not used costs nothing.
    """

    features: int
    initialiser: str
    precision: str
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        weights, biases = layers.INITIALISERS[self.initialiser]
        dtype, precision = layers.PRECISIONS[self.precision]
        shape = (5, 5, x.shape[-1], self.features)
        kernel = self.param("kernel", weights, shape)
        bias = self.param("bias", biases, (self.features,)).reshape(1, 1, 1, -1)
        # Bias and activation keep the order of values: after pooling, on a quarter.
        x, kernel, bias = (array.astype(dtype) for array in (x, kernel, bias))
        convolved = ops.conv2d(x, kernel, precision)
        pooled = ops.conv2d_max_pool(x, kernel, precision)
        return self.activation(convolved + bias), self.activation(pooled + bias)


class Table1(layers.Architecture):
    """Two convolutions with pooling and two dense layers, 3.3 million parameters."""

    layers: ClassVar = ("conv1", "pool1", "conv2", "pool2", "fc1", "fc2")
    divisor: ClassVar = 4  # It pools twice.

    @nn.compact
    def __call__(self, images: Array, **_: Any) -> dict[str, Array]:
        found = {}
        x = images
        for i, features in enumerate((32, 64), start=1):
            name = f"conv{i}"
            convolve = ConvPool(
                features, self.initialiser, self.precision, self.activation, name=name
            )
            found[name], x = convolve(x)
            found[f"pool{i}"] = x
        x = found["fc1"] = self.dense(x.reshape(x.shape[0], -1), 1024, "fc1")
        found["fc2"] = self.logits(x, "fc2")
        return found
