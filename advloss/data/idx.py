"""Idx files of MNIST's form: MNIST, Fashion-MNIST, KMNIST, EMNIST."""

import gzip
import math
import os
import re
import stat
import struct
import zlib
from pathlib import Path

import numpy as np

from advloss.errors import InputError
from advloss.types import Split

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_IMAGES, _LABELS = 0x803, 0x801  # Magic numbers: unsigned bytes, 3 or 1 axes.
_GZIP_DEFLATES = 1032  # How many times smaller gzip makes a file, at most.


def load(*, dir: str) -> tuple[Split, Split]:
    """The four idx files in a folder, gzipped or not.

    Raises:
        InputError: no such folder, a file is missing, damaged, there twice, or no
            regular file.
    """
    folder = Path(dir)
    if not dir or not os.path.isdir(folder):
        raise InputError(
            f"config.data.dir={dir!r} is not a folder: it must hold the idx files "
            f"{', '.join(sum(_FILES.values(), ()))}, gzipped or not"
        )
    try:
        os.listdir(folder)
    except OSError as error:  # A search for files would find none.
        raise InputError(
            f"config.data.dir={dir!r} can't be read: {error.strerror}"
        ) from error
    found = {name: _find(folder, name) for name in sum(_FILES.values(), ())}
    _check_family(folder, found)
    train, test = (
        Split(_read(found[images], _IMAGES)[..., None], _read(found[labels], _LABELS))
        for images, labels in _FILES.values()
    )
    return train, test


def _check_family(folder: Path, found: dict[str, Path]) -> None:
    """Raises InputError where the files' names begin as those of several data sets."""
    names = [path.name for path in found.values()]
    families = {re.split("train-|t10k-|test-", name)[0] for name in names}
    if len(families) > 1:
        listed = ", ".join(sorted(names))
        raise InputError(
            f"config.data.dir={str(folder)!r} has files of several data sets, by their "
            f"names: {listed}; leave those of one"
        )


def _find(folder: Path, name: str) -> Path:
    # EMNIST's are emnist-letters-train-images-... and emnist-letters-test-images-...
    found = {
        path
        for stem in (name, name.replace("t10k-", "test-"))
        for end in ("", ".gz")
        for pattern in (stem, f"*-{stem}")
        for path in folder.glob(pattern + end)
    }
    if len(found) > 1:
        raise InputError(
            f"config.data.dir={str(folder)!r} has several files {name}: "
            f"{', '.join(sorted(path.name for path in found))}; leave one"
        )
    if not found:
        raise InputError(
            f"config.data.dir={str(folder)!r} has no file {name} or {name}.gz: give a "
            "folder with all four idx files"
        )
    return found.pop()


def _read(path: Path, magic: int) -> np.ndarray:
    """The array in an idx file of unsigned bytes, its size checked before it is read.

    See http://yann.lecun.com/exdb/mnist for the format: a magic number, the size of
    each axis, then the bytes.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    axes = magic & 0xFF
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # A pipe is waited on forever.
            raise InputError(f"{path} can't be read: it is not a regular file")
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
    except zlib.error as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if len(content) != size:
        raise InputError(
            f"{path} is truncated or has trailing bytes: its header {shape} promises "
            f"{size} bytes, it holds {'more' if len(content) > size else len(content)}"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def _check_claim(path: Path, size: int) -> None:
    most = path.stat().st_size * (_GZIP_DEFLATES if path.suffix == ".gz" else 1)
    if size > most:
        raise InputError(
            f"{path} is truncated or its header is wrong: it promises {size} bytes, "
            f"and its {path.stat().st_size} bytes cannot hold more than {most}"
        )
