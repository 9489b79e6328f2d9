"""What networks are made of: initialisers, precisions, activations, layers, heads."""

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from advloss.registry import Setting, positive
from advloss.types import Array

# Of weights and of biases. "madry" is the public MNIST challenge's of Madry et al.,
# whose network and recipe the paper follows: logits begin in the tens, which takes a
# thousand steps to come down. "lecun" keeps every layer's variance from the start.
INITIALISERS = {
    "lecun": (nn.initializers.lecun_normal(), nn.initializers.zeros),
    "madry": (
        nn.initializers.truncated_normal(stddev=0.1),
        nn.initializers.constant(0.1),
    ),
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
_RADIUS = 10.0  # C_MM of Pang et al., in all their experiments.


class Activation(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: `f(x, *, settings)`, elementwise; it must not fall where x grows,
            since networks take it after pooling, on a quarter of the values.
        title: its name in tables.
        settings: keys of `config.model`.
    """

    function: Callable[..., Array]
    title: str
    settings: Mapping[str, Setting] = {}


def bounded_relu(x: Array, *, ceiling: float = 1.0) -> Array:
    """`min(max(0, x), ceiling)`: what a perturbation can pile up is bounded.

    See "Efficient Defenses Against Adversarial Attacks" by Zantedeschi et al.
    """
    return jnp.clip(x, 0.0, ceiling)


ACTIVATIONS = {
    "relu": Activation(nn.relu, "ReLU"),
    "bounded_relu": Activation(
        bounded_relu,
        "bounded ReLU",
        {"ceiling": Setting(1.0, positive(), "t, the largest value of a unit")},
    ),
}


class CosineHead(nn.Module):
    """Cosines of the angles between the features and each class's vector; no bias."""

    num_classes: int
    initialiser: str

    @nn.compact
    def __call__(self, features: Array) -> Array:
        shape = (features.shape[-1], self.num_classes)
        kernel = self.param(
            "kernel", INITIALISERS[self.initialiser][0], shape, jnp.float32
        )
        vectors = normalise(features, axis=-1), normalise(kernel, axis=0)
        return jnp.matmul(*vectors, precision=PRECISIONS["float32"][1])


class CentresHead(nn.Module):
    """`-||z - mu_j||^2 / 2`: z a linear map of the features, mu_j a class's centre.

    The centres are fixed: the corners of a regular simplex, as far apart as points at
    that distance from 0 can be. See "Rethinking Softmax Cross-Entropy Loss for
    Adversarial Robustness" by Pang et al., Section 3.3.
    """

    num_classes: int
    initialiser: str

    @nn.compact
    def __call__(self, features: Array) -> Array:
        features = dense(self.num_classes, self.initialiser, "map")(features)
        # A centre is `own` in its own place and `other` in all others: no array of
        # [batch, classes, classes] is needed.
        own, other = simplex(self.num_classes)[0, :2]
        from_others = jnp.square(features - other)
        elsewhere = jnp.sum(from_others, axis=-1, keepdims=True) - from_others
        squares = jnp.maximum(elsewhere, 0) + jnp.square(features - own)
        return -squares / 2


def simplex(num_classes: int) -> Array:
    """`[classes, classes]`: points of length `_RADIUS`, all equally far apart."""
    points = jnp.eye(num_classes) - 1 / num_classes
    return _RADIUS * points / jnp.linalg.norm(points, axis=-1, keepdims=True)


def normalise(vectors: Array, *, axis: int) -> Array:
    """Vectors of length 1 along `axis`; the zero vector stays zero."""
    squares = jnp.sum(jnp.square(vectors), axis=axis, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(squares, _SHORTEST**2))


def dense(features: int, init: str, name: str, precision: str = "float32") -> nn.Dense:
    """A dense layer without its activation."""
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


def _cosine_head(num_classes: int, init: str, name: str) -> CosineHead:
    return CosineHead(num_classes, init, name=name)


def _centres_head(num_classes: int, init: str, name: str) -> CentresHead:
    return CentresHead(num_classes, init, name=name)


Head = nn.Dense | CosineHead | CentresHead
HEADS: Mapping[str, Callable[[int, str, str], Head]] = {
    "linear": dense, "cosine": _cosine_head, "centres": _centres_head
}  # fmt: skip


class Architecture(nn.Module):
    """What every network of the registry takes.

    A subclass's `__call__(images, *, train, axis)` gives activations by name, the
    logits last. `train` asks for the statistics of the batch where a layer has any,
    over the devices of `axis`. The last layer is of float32 at every precision:
    losses and predictions live on differences of logits.

    Attributes:
        divisor: what must divide the images' height and width.
    """

    divisor: ClassVar[int] = 1

    num_classes: int
    head: str
    initialiser: str
    precision: str
    activation: Callable[[Array], Array]

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers, from the images to the logits.

        A class whose settings change none of them has a constant instead.
        """
        raise NotImplementedError(f"{type(self).__name__} has no layers")

    def dense(self, x: Array, features: int, name: str) -> Array:
        """A hidden layer."""
        layer = dense(features, self.initialiser, name, self.precision)
        return self.activation(layer(x))

    def logits(self, x: Array, name: str) -> Array:
        """The last layer."""
        head = HEADS[self.head](self.num_classes, self.initialiser, name)
        return head(x.astype(jnp.float32))
