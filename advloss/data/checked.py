"""What a source gives, held to what a data set must be."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from advloss.attacks import checks
from advloss.errors import InputError, shown
from advloss.types import Split


def splits(where: str, given: Any, num_classes: int) -> tuple[Split, Split]:
    """Both splits, images float32 `[n, height, width, channels]` in [0, 1].

    Bytes are divided by 255; floats stay as they are, doubles rounded to float32.
    Images `[n, height, width]` get an axis of one channel, labels `[n, 1]` lose theirs.

    Args:
        where: what a message begins with.
        given: a train and a test split, each of images and labels.
        num_classes: labels are 0 ... num_classes - 1.

    Raises:
        InputError: they are no such splits, or don't fit together.
    """
    try:
        (images, labels), (more_images, more_labels) = given
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: the source gives {shown(given)}: it must give a train and a "
            "test split, each of images and labels"
        ) from error
    train = _split(f"{where}, train", images, labels, num_classes)
    test = _split(f"{where}, test", more_images, more_labels, num_classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{where}: train images are {train.images.shape[1:]}, test images "
            f"{test.images.shape[1:]}; they must have one shape"
        )
    return train, test


def _split(where: str, images: Any, labels: Any, num_classes: int) -> Split:
    images = checks.as_array(images, f"{where}: images")
    labels = checks.as_array(labels, f"{where}: labels")
    images = images[..., None] if images.ndim == 3 else images
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    floats = jnp.issubdtype(images.dtype, jnp.floating)
    fits = (floats or images.dtype == np.uint8) and images.ndim == 4
    if not fits or labels.dtype.kind not in "iu":
        raise InputError(
            f"{where}: images {images.dtype} {images.shape} with labels {labels.dtype} "
            "can't be used: images of bytes or of floats in [0, 1], [n, height, width, "
            "channels], and whole numbers as labels are needed"
        )
    if labels.ndim != 1 or len(images) == 0 or len(images) != len(labels):
        raise InputError(
            f"{where}: {len(images)} images, labels {labels.shape}; there must be as "
            "many of one as of the other, and at least one"
        )
    checks.check_layout(images.shape, f"{where}: images")
    if labels.min() < 0 or labels.max() >= num_classes:
        worst = labels.max() if labels.max() >= num_classes else labels.min()
        raise InputError(
            f"{where}: label {worst} is out of range: config.data.num_classes="
            f"{num_classes} allows 0 to {num_classes - 1}"
        )
    if floats:
        images = checks.check_images(images, f"{where}: images")
    else:
        images = np.divide(images, 255, dtype=np.float32)
    if 0 < images.max() < 1.5 / 255:
        raise InputError(
            f"{where}: no image is brighter than 1 of 255, as where bytes are 0 and 1 "
            "or floats were divided by 255 twice: use bytes from 0 to 255, or floats "
            "in [0, 1]"
        )
    return Split(images, labels.astype(np.int32))
