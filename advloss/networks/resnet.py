"""Residual networks with pre-activation, as the robustness literature has them.

`preact_resnet18` and `wide_resnet` are the versions for 32x32 images of TRADES (Zhang
et al., 2019), "Overfitting in adversarially robust deep learning" (Rice et al., 2020)
and RobustBench: a 3x3 convolution that keeps the size, stages that halve it, one more
normalisation and activation, the mean over all places, a dense layer. `resnet8` is a
small one of that kind.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp

from advloss.errors import InputError
from advloss.networks import layers, ops
from advloss.networks.halved import conv2d_halved
from advloss.networks.norms import NORMS
from advloss.registry import Setting, Valid, boolean, choice, numbers, whole
from advloss.types import Array, Axis


class Conv(nn.Module):
    """A convolution without biases; with `halves`, of every second row and column."""

    features: int
    size: int
    halves: bool
    initialiser: str
    precision: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.size, self.size, x.shape[-1], self.features)
        weights, _ = layers.INITIALISERS[self.initialiser]
        kernel = self.param("kernel", weights, shape)
        dtype, precision = layers.PRECISIONS[self.precision]
        convolve = conv2d_halved if self.halves else ops.conv2d
        return convolve(x.astype(dtype), kernel.astype(dtype), precision)


class Block(nn.Module):
    """`x + f(x)`, f two 3x3 convolutions, each after normalisation and activation.

    Where the number of channels or the size changes, the first term is a 1x1
    convolution: of the first activation with `activated`, else of x.

    See "Identity Mappings in Deep Residual Networks" by He et al., Figure 4 (e).
    """

    features: int
    halves: bool
    activated: bool
    norm: str
    initialiser: str
    precision: str
    activation: Callable[[Array], Array]

    @nn.compact
    def __call__(self, x: Array, *, train: bool, axis: Axis | None) -> Array:
        def conv(x: Array, size: int, halves: bool, name: str) -> Array:
            given = self.features, size, halves, self.initialiser, self.precision
            return Conv(*given, name=name)(x)

        def active(x: Array, name: str) -> Array:
            norm = NORMS[self.norm](name=name)
            return self.activation(norm(x, train=train, axis=axis))

        y, kept = active(x, "norm1"), x
        if self.halves or x.shape[-1] != self.features:
            kept = conv(y if self.activated else x, 1, self.halves, "shortcut")
        y = active(conv(y, 3, self.halves, "conv1"), "norm2")
        return kept + conv(y, 3, False, "conv2")


class Residual(layers.Architecture):
    """A convolution, blocks, the mean over all places, and the head.

    Attributes:
        stem: features of the first convolution.
        norm: a key of `norms.NORMS`.
        mean, std: of each channel of the images, or one number for all: what it sees is
            `(images - mean) / std`.
    """

    stem: ClassVar[int] = 16

    norm: str = "batch"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def blocks(self) -> int:
        """How many blocks each stage has."""
        raise NotImplementedError(f"{type(self).__name__} has no blocks")

    @property
    def widths(self) -> tuple[int, ...]:
        """How many features each stage has."""
        raise NotImplementedError(f"{type(self).__name__} has no widths")

    @property
    def shortcut(self) -> str:
        """What a shortcut's convolution takes, see `PREACT`."""
        return "activated"

    @property
    def final_norm(self) -> bool:
        """Whether there is a normalisation after the last block."""
        return True

    @property
    def layers(self) -> tuple[str, ...]:
        places = range(1, self.blocks * len(self.widths) + 1)
        return ("stem", *(f"block{i}" for i in places), "pool", "fc")

    @nn.compact
    def __call__(
        self, images: Array, *, train: bool = False, axis: Axis | None = None
    ) -> dict[str, Array]:
        given = self.initialiser, self.precision
        x = self._normalised(images)
        x = Conv(self.stem, 3, False, *given, name="stem")(x)
        found = {"stem": x}
        for i in range(self.blocks * len(self.widths)):
            stage, place = divmod(i, self.blocks)
            name, halves = f"block{i + 1}", place == 0 and stage > 0
            activated = self.shortcut == "activated"
            block = Block(
                self.widths[stage], halves, activated, self.norm, *given,
                self.activation, name=name,
            )  # fmt: skip
            x = found[name] = block(x, train=train, axis=axis)
        if self.final_norm:
            x = NORMS[self.norm](name="norm")(x, train=train, axis=axis)
            x = self.activation(x)
        found["pool"] = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        found["fc"] = self.logits(found["pool"], "fc")
        return found

    def _normalised(self, images: Array) -> Array:
        channels = images.shape[-1]
        for name in ("mean", "std"):
            given = getattr(self, name)
            if len(given) not in (1, channels):
                raise InputError(
                    f"config.model.{name}={given} is not valid: use one number for "
                    f"each of the images' {channels} channels, or one for all"
                )
        mean, std = (
            jnp.broadcast_to(jnp.array(each, jnp.float32), (1, 1, 1, channels))
            for each in (self.mean, self.std)
        )
        return (images - mean) / std


class ResNet8(Residual):
    """Three stages of one block, 16, 32 and 64 features: for a CPU."""

    blocks: ClassVar = 1
    widths: ClassVar = (16, 32, 64)


class PreActResNet18(Residual):
    """Four stages of two blocks, 64, 128, 256 and 512 features.

    Public versions differ. The convolution of a shortcut takes the first activation of
    its block (Rice et al.) or, as Wong et al. (2020) have it, the block's input; theirs
    has no normalisation and activation before the mean over all places.
    """

    blocks: ClassVar = 2
    widths: ClassVar = (64, 128, 256, 512)
    stem: ClassVar = 64

    shortcut: str = "activated"
    final_norm: bool = True


class WideResNet(Residual):
    """Three stages of (depth - 4) / 6 blocks, 16, 32 and 64 features times `widen`.

    See "Wide Residual Networks" by Zagoruyko and Komodakis, Table 1.
    """

    depth: int = 28
    widen: int = 10

    @property
    def blocks(self) -> int:
        return (self.depth - 4) // 6

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(self.widen * n for n in (16, 32, 64))


SHARED = {
    "norm": Setting("batch", choice(NORMS), "normalisation of activations"),
    "mean": Setting(
        (0.0,),
        numbers(),
        "of each channel of the images, or one for all: subtracted within the network",
    ),
    "std": Setting((1.0,), numbers(least=0), "likewise: what they are divided by then"),
}
PREACT = {
    "shortcut": Setting(
        "activated",
        choice(("activated", "input")),
        "what the convolution of a shortcut takes: its block's first activation, or "
        "what the block takes",
    ),
    "final_norm": Setting(
        True, boolean(), "whether there is a normalisation after the last block"
    ),
}
WIDE = {
    "depth": Setting(
        28,
        Valid(
            int,
            lambda value: 10 <= value <= 1000 and value % 6 == 4,
            "10, 16, 22, 28, 34 or another 6n + 4 up to 1000",
        ),
        "6n + 4, for n blocks in each of three stages",
    ),
    "widen": Setting(10, whole(1, 1000), "times as many features as 16, 32 and 64"),
}
