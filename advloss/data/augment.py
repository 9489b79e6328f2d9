"""Random changes of training images, a key for each image.

    moved = augment.apply(("crop", "flip"), keys, images, {"padding": 4})

A change is `f(key, image, *, settings) -> image` of one image `[height, width,
channels]` in [0, 1], and keeps its shape. To add one: write it, and enter it in
`AUGMENTATIONS`.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from advloss.errors import InputError
from advloss.registry import Setting, shipped, whole
from advloss.types import Array


class Augmentation(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: `f(key, image, *, settings) -> image`.
        title: what it does, in a few words.
        settings: keys of `config.train.augment`.
    """

    function: Callable[..., Array]
    title: str
    settings: Mapping[str, Setting] = {}


def crop(key: Array, image: Array, *, padding: int) -> Array:
    """A random window of the image's size, of the image in a frame of zeros.

    All `(2 padding + 1)^2` windows are as likely.

    See "Deep Residual Learning for Image Recognition" by He et al., Section 4.2.
    """
    corner = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    framed = jnp.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    return jax.lax.dynamic_slice(framed, (*corner, 0), image.shape)


def flip(key: Array, image: Array) -> Array:
    """Left and right changed, with probability 1/2.

    See "Deep Residual Learning for Image Recognition" by He et al., Section 4.2.
    """
    return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def cutout(key: Array, image: Array, *, size: int) -> Array:
    """A square of zeros around a random pixel; what of it lies outside is left out.

    See "Improved Regularization of Convolutional Neural Networks with Cutout" by
    DeVries and Taylor, Section 3.2.
    """
    height, width, _ = image.shape
    middle = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    first = middle - size // 2

    def covers(places: Array, start: Array) -> Array:
        return (places >= start) & (places < start + size)

    rows = covers(jnp.arange(height), first[0])[:, None, None]
    columns = covers(jnp.arange(width), first[1])[None, :, None]
    return jnp.where(rows & columns, 0.0, image)


AUGMENTATIONS: Mapping[str, Augmentation] = {
    "crop": Augmentation(
        crop,
        "a random window of the image in a black frame",
        {"padding": Setting(4, whole(1, 1024), "pixels of the frame")},
    ),
    "flip": Augmentation(flip, "mirrored with probability 1/2"),
    "cutout": Augmentation(
        cutout,
        "a black square",
        {"size": Setting(16, whole(1, 1024), "pixels of the square's side")},
    ),
}
shipped(AUGMENTATIONS)


def settings_of(names: Iterable[str]) -> dict[str, Setting]:
    """The settings of all that are named."""
    return {k: s for name in names for k, s in AUGMENTATIONS[name].settings.items()}


def apply(
    names: Iterable[str], keys: Array, images: Array, settings: Mapping[str, Any]
) -> Array:
    """Images changed one way after the other, each image by its own key.

    Args:
        names: keys of `AUGMENTATIONS`, in the order in which they are applied.
        keys: `[batch]` typed keys, see `attacks.example_keys`.
        images: `[batch, height, width, channels]` float in [0, 1].
        settings: of all that are named, by key.

    Returns:
        Images of the same shape, in [0, 1].
    """
    for place, name in enumerate(names):
        entry = AUGMENTATIONS[name]
        own = {key: settings[key] for key in entry.settings}
        change = jax.vmap(functools.partial(entry.function, **own))
        images = change(jax.vmap(jax.random.fold_in, (0, None))(keys, place), images)
    return images


def check(settings: Mapping[str, Any], image_shape: tuple[int, ...]) -> None:
    """The frame must be thinner than the image, the square smaller.

    Raises:
        InputError: of windows or squares some would show nothing of the image.
    """
    side = min(image_shape[:2])
    for key in ("padding", "size"):
        if settings.get(key) and settings[key] >= side:
            raise InputError(
                f"config.train.augment.{key}={settings[key]} is not valid: use less "
                f"than {side} for images of {image_shape[0]}x{image_shape[1]}"
            )
