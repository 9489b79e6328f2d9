"""One npz file with both splits: any size, any number of channels."""

import os
import zipfile
import zlib

import numpy as np

from advloss.errors import InputError, line
from advloss.types import Split

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
# What NumPy raises of a file that is no archive, or holds what it says it does not.
_DAMAGES = (
    OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error
)  # fmt: skip


def load(*, file: str) -> tuple[Split, Split]:
    """The arrays x_train, y_train, x_test and y_test; others are left where they are.

    Raises:
        InputError: no such file, it is none of NumPy's archives, damaged, or lacks one
            of the arrays, or an array holds Python's objects, which could run code.
    """
    if not file or not os.path.isfile(file):
        raise InputError(
            f"config.data.file={file!r} is not a file: it must be an npz file with "
            f"{', '.join(_ARRAYS)}, as numpy.savez writes it"
        )
    try:
        archive = np.load(file, allow_pickle=False)
    except _DAMAGES as error:
        raise _unreadable(file, error) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(
            f"config.data.file={file!r} holds a single array: use an npz file with "
            f"{', '.join(_ARRAYS)}"
        )
    with archive:
        if missing := [name for name in _ARRAYS if name not in archive]:
            raise InputError(
                f"config.data.file={file!r} has no {', '.join(missing)}: use a file "
                f"with {', '.join(_ARRAYS)}; it has {', '.join(archive.files)}"
            )
        arrays = [_read(file, archive, name) for name in _ARRAYS]
    return Split(*arrays[:2]), Split(*arrays[2:])


def _read(file: str, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return archive[name]
    except _DAMAGES as error:
        raise _unreadable(file, error, name) from error


def _unreadable(file: str, error: Exception, name: str = "it") -> InputError:
    return InputError(
        f"config.data.file={file!r}: {name} can't be read ({line(error)}): use a file "
        "as numpy.savez writes it, of numbers"
    )
