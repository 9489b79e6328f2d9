"""Networks as pure functions, and the only place that imports flax.

    network = models.build("table1", head="linear", num_classes=10, init="lecun")
    params = network.init(key, image_shape=(28, 28, 1))
    scores, activations = network.apply(params, images)

`activations` holds every layer's output by name; under `jit`, what is not used is not
computed. An attack sees `models.classifier(network, params)`, images -> scores.
"""

import functools
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from advloss import ops
from advloss.types import Array, Classifier, PyTree

# Of weights and of biases. "challenge" is the public MNIST challenge's of Madry et al.,
# whose network and recipe the paper follows: scores begin in the tens, which takes a
# thousand steps to come down. "lecun" keeps every layer's variance from the start.
INITIALISERS = {
    "challenge": (
        nn.initializers.truncated_normal(stddev=0.1),
        nn.initializers.constant(0.1),
    ),
    "lecun": (nn.initializers.lecun_normal(), nn.initializers.zeros),
}
# The type of activations, and how products of float32 are made: a GPU has units for
# tensorfloat32 and takes them unless told not to, a TPU for bfloat16.
PRECISIONS = {
    "float32": (jnp.float32, jax.lax.Precision.HIGHEST),
    "tensorfloat32": (jnp.float32, jax.lax.Precision.HIGH),
    "bfloat16": (jnp.bfloat16, jax.lax.Precision.DEFAULT),
}
# Feature and class vectors shorter than this are divided by it, not by their length:
# the gradient at a zero vector stays finite.
_SHORTEST = 1e-6


class ConvPool(nn.Module):
    """A 5x5 convolution that keeps the image's size; and its 2x2 max-pooling.

    Both after the ReLU, each computed by itself: what is not used costs nothing.
    """

    features: int
    initialiser: str
    precision: str

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        weights, biases = INITIALISERS[self.initialiser]
        dtype, precision = PRECISIONS[self.precision]
        shape = (5, 5, x.shape[-1], self.features)
        kernel = self.param("kernel", weights, shape)
        bias = self.param("bias", biases, (self.features,)).reshape(1, 1, 1, -1)
        # Bias and ReLU keep the order of values: after pooling, on a quarter of them.
        x, kernel, bias = (array.astype(dtype) for array in (x, kernel, bias))
        outputs = (
            ops.conv2d(x, kernel, precision),
            ops.conv2d_max_pool(x, kernel, precision),
        )
        return tuple(nn.relu(output + bias) for output in outputs)


class CosineHead(nn.Module):
    """Cosines of the angles between the features and each class's vector; no bias."""

    num_classes: int
    initialiser: str

    @nn.compact
    def __call__(self, features: Array) -> Array:
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param("kernel", INITIALISERS[self.initialiser][0], shape)
        vectors = normalise(features, axis=-1), normalise(kernel, axis=0)
        return jnp.matmul(*vectors, precision=PRECISIONS["float32"][1])


def normalise(vectors: Array, *, axis: int) -> Array:
    """Vectors of length 1 along `axis`; the zero vector stays zero."""
    squares = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, _SHORTEST**2))


def _dense(
    features: int, init: str, name: str, precision: str = "float32"
) -> nn.Module:
    weights, biases = INITIALISERS[init]
    dtype, products = PRECISIONS[precision]
    return nn.Dense(
        features,
        dtype=dtype,
        precision=products,
        kernel_init=weights,
        bias_init=biases,
        name=name,
    )


def _cosine_head(num_classes: int, init: str, name: str) -> nn.Module:
    return CosineHead(num_classes, init, name=name)


HEADS = {"linear": _dense, "cosine": _cosine_head}


class Architecture(nn.Module):
    """What every network takes; a subclass gives activations by name, scores last.

    The last layer is of float32 at every precision: losses and predictions live on
    differences of scores.

    Attributes:
        layers: the names of its layers, from the images to the scores.
        divisor: what must divide the images' height and width.
    """

    layers: ClassVar[tuple[str, ...]]
    divisor: ClassVar[int]

    num_classes: int
    head: str
    initialiser: str
    precision: str

    def dense(self, x: Array, features: int, name: str) -> Array:
        """A hidden layer."""
        layer = _dense(features, self.initialiser, name, self.precision)
        return nn.relu(layer(x))

    def scores(self, x: Array, name: str) -> Array:
        """The last layer."""
        head = HEADS[self.head](self.num_classes, self.initialiser, name)
        return head(x.astype(jnp.float32))


class Table1(Architecture):
    """The paper's network for MNIST (Table I), 3.3 million parameters."""

    layers: ClassVar = ("conv1", "pool1", "conv2", "pool2", "fc1", "fc2")
    divisor: ClassVar = 4  # It pools twice.

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        layers = {}
        x = images
        for i, features in enumerate((32, 64), start=1):
            name = f"conv{i}"
            convolve = ConvPool(features, self.initialiser, self.precision, name=name)
            layers[name], x = convolve(x)
            layers[f"pool{i}"] = x
        x = layers["fc1"] = self.dense(x.reshape(x.shape[0], -1), 1024, "fc1")
        layers["fc2"] = self.scores(x, "fc2")
        return layers


class Mlp(Architecture):
    """Two hidden layers of 300 units: of another kind, for black-box transfer."""

    layers: ClassVar = ("fc1", "fc2", "fc3")
    divisor: ClassVar = 1

    @nn.compact
    def __call__(self, images: Array) -> dict[str, Array]:
        layers = {}
        x = images.reshape(images.shape[0], -1)
        for name in ("fc1", "fc2"):
            x = layers[name] = self.dense(x, 300, name)
        layers["fc3"] = self.scores(x, "fc3")
        return layers


MODELS: Mapping[str, type[Architecture]] = {"table1": Table1, "mlp": Mlp}


class Network(NamedTuple):
    """A network's two pure functions.

    Attributes:
        init: (key, image_shape) -> parameters; image_shape is (height, width,
            channels).
        apply: (parameters, images) -> scores `[batch, classes]`, and the activations
            of every layer by name, each `[batch, ...]`.
        layers: the names of the layers in their order: each but the first takes what
            the one before it gives.
    """

    init: Callable[[Array, tuple[int, int, int]], PyTree]
    apply: Callable[[PyTree, Array], tuple[Array, dict[str, Array]]]
    layers: tuple[str, ...]


def build(
    name: str, *, head: str, num_classes: int, init: str, precision: str = "float32"
) -> Network:
    """The network of that name in `MODELS`.

    Args:
        name: a key of `MODELS`.
        head: of the last layer, a key of `HEADS`.
        num_classes: the number of scores.
        init: how weights and biases begin, a key of `INITIALISERS`.
        precision: of all layers but the last, a key of `PRECISIONS`; parameters,
            scores and what `apply` returns are float32 at each.
    """
    module = MODELS[name](num_classes, head, init, precision)
    *_, last = MODELS[name].layers

    @functools.partial(jax.jit, static_argnums=1)  # As one program, not twenty.
    def initialise(key: Array, image_shape: tuple[int, int, int]) -> PyTree:
        return module.init(key, jnp.zeros((1, *image_shape)))["params"]

    def apply(params: PyTree, images: Array) -> tuple[Array, dict[str, Array]]:
        chex.assert_rank(images, 4)
        chex.assert_type(images, float)
        layers = module.apply({"params": params}, images)
        layers = {key: value.astype(jnp.float32) for key, value in layers.items()}
        return layers[last], layers

    return Network(initialise, apply, MODELS[name].layers)


def classifier(network: Network, params: PyTree) -> Classifier:
    """What an attack sees of a network: images -> scores."""
    return lambda images: network.apply(params, images)[0]


def predictor(network: Network, params: PyTree) -> Callable[[Array], Array]:
    """Images -> the most likely class of each, `[batch]`."""
    return lambda images: jnp.argmax(network.apply(params, images)[0], axis=-1)
