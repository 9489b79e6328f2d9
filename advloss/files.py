"""Text, JSON and arrays on disk: written whole or not at all, errors made clear.

On several hosts the first alone writes.
"""

import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from advloss import parallel
from advloss.errors import InputError

DEFLATES = 1032  # How many times smaller zip and gzip make a file, at most.


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one move: a kill leaves the old or the new one.

    Raises:
        OSError: it can't be written; the old one stays.
    """
    _replace(path, lambda file: file.write(text.encode()))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a file with the object as JSON, as `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no file.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object")
    return content


def write_arrays(
    path: Path, arrays: dict[str, np.ndarray], *, compressed: bool = True
) -> None:
    """Replaces an npz file in one move, as `write_text`."""
    save = np.savez_compressed if compressed else np.savez
    _replace(path, lambda file: save(file, **arrays))


def _replace(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    if not parallel.is_first():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    try:
        with scratch.open("wb") as file:
            write(file)
        os.replace(scratch, path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise OSError(f"{path}: {error.strerror or error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, in their order.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        _check_claims(path)
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (
        OSError, EOFError, ValueError, KeyError, RuntimeError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise InputError(f"{path} is missing or damaged: {error}") from error


def _check_claims(path: Path) -> None:
    """Refuses arrays that the file can't hold, before there is memory for them."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = {1: np.lib.format.read_array_header_1_0}.get(
                    version[0], np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(member)
            claimed = math.prod(shape) * dtype.itemsize
            if claimed > min(entry.file_size, DEFLATES * entry.compress_size):
                raise ValueError(f"{entry.filename} claims {claimed} bytes")
