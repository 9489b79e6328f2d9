"""Text, JSON and arrays on disk: written whole or not at all, errors made clear.

On several hosts the first alone writes. All text is UTF-8.
"""

import contextlib
import hashlib
import json
import math
import os
import stat
import sys
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from advloss.errors import InputError
from advloss.runtime import hosts
from advloss.types import PyTree

_DIGEST = "digest of all arrays"  # The entry of an npz file, beside its arrays.
DEFLATES = 1032  # How many times smaller zip and gzip make a file, at most.
# Paths that begin so are buckets of a cloud to the library that writes checkpoints.
_BUCKETS = ("gs", "s3", "az", "hf")
_LONGEST_PATH = 3800  # What lies within it is to have names, too.


def as_path(flag: str, folder: str | Path, what: str = "folder") -> Path:
    """The folder that an argument names. Raises InputError where it names none."""
    if not isinstance(folder, str | os.PathLike) or not str(folder).strip():
        raise InputError(f"{flag}={folder} is not valid: name a {what}")
    return Path(folder)


def check_folder(flag: str, folder: str | Path) -> Path:
    r"""The folder as a path, which can be made and written to the last file.

    Args:
        flag: the flag or argument that names it, for the message: "--workdir".
        folder: it need not be there yet.

    Raises:
        InputError: it is or lies in something else than a folder, or its path can't
            name one for every library that writes there: `\`, control characters and
            what is not UTF-8.
    """
    path, text = as_path(flag, folder), str(folder)

    def refused(reason: str) -> InputError:
        return InputError(f"{flag}={text} is not valid: {reason}")

    if "\\" in text:
        raise refused(r"use a path without \, which some libraries read as /")
    if sys.getfilesystemencoding() != "utf-8" and not str(path.absolute()).isascii():
        raise refused("use ASCII, or set PYTHONUTF8=1: this locale has no UTF-8")
    if any(unicodedata.category(character) == "Cs" for character in text):
        raise refused("use a path that is UTF-8")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise refused("use a path without control characters")
    if (
        "://" in text
        or text.startswith("//")
        or any(part.endswith(":") for part in path.parts)
    ):
        raise refused("use a folder of this machine, no part of which ends in :")
    if len(os.fsencode(path.absolute())) > _LONGEST_PATH:
        raise refused(f"use a path of at most {_LONGEST_PATH} bytes")
    if text.startswith("~"):
        raise refused("write out what ~ stands for; ./~ is a folder of that name")
    if path.absolute().parts[1:2] and path.absolute().parts[1] in _BUCKETS:
        raise refused(f"/{path.absolute().parts[1]} is read as a cloud's bucket")
    for part in (path, *path.absolute().parents):
        try:
            if not stat.S_ISDIR(part.stat().st_mode):
                raise refused(f"{part} is not a folder; use another")
            break
        except (FileNotFoundError, NotADirectoryError):
            if part.is_symlink():
                raise refused(f"{part} is a link to nothing") from None
        except OSError as error:
            raise refused(f"{error.strerror or error}; use another") from error
    return path


def write_text(path: Path, text: str) -> None:
    """Replaces a file in one move: a kill leaves the old or the new one.

    Raises:
        OSError: it can't be written; the old one stays.
    """
    # What is not UTF-8, of a path say, is shown rather than left out.
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one move, as `write_text`."""
    _replace(path, lambda file: file.write(content))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a file with the object as JSON, as `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path, advice: str = "") -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is no file.

    Args:
        path: of the file.
        advice: ends the message where the file is damaged.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    try:
        content = json.loads(read_text(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        if _is_refused(error):
            raise InputError(f"{path} can't be read: {_reason(error)}") from error
        raise InputError(f"{path} is damaged: {_reason(error)}{advice}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object{advice}")
    return content


def read_text(path: Path) -> str:
    """A file's text, which is UTF-8. Raises OSError where it is no regular file."""
    check_regular(path)
    return path.read_text(encoding="utf-8")


def check_regular(path: Path) -> None:
    """Raises OSError where the path is a pipe, say, which a reader waits on forever."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")


def _is_refused(error: BaseException) -> bool:
    """Whether the system refused it, for want of rights, say: nothing is damaged."""
    return isinstance(error, OSError) and bool(error.errno)


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return " ".join(str(error).split())[:200] or type(error).__name__


def write_arrays(
    path: Path, arrays: dict[str, np.ndarray], *, compressed: bool = True
) -> None:
    """Replaces an npz file in one move, as `write_text`; a digest is added."""
    save = np.savez_compressed if compressed else np.savez

    def write(file: BinaryIO) -> None:
        save(file, **arrays, **{_DIGEST: np.array(digest(arrays))})

    _replace(path, write)


@hosts.first_only
def _replace(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".tmp")
    try:
        with scratch.open("wb") as file:
            write(file)
        os.replace(scratch, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"{path}: {error.strerror or error}") from error
        raise


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `write_arrays` wrote, in their order.

    Raises:
        InputError: the file is missing, damaged or edited, or has no digest.
    """
    try:
        check_regular(path)
        _check_claims(path)
        with np.load(path, allow_pickle=False) as content:
            arrays = dict(content)
        written = arrays.pop(_DIGEST, None)
        if written is None:
            raise ValueError("it has no digest, as files of earlier versions")
        if str(written) != digest(arrays):
            raise ValueError("its arrays are not those that were written")
        return arrays
    except (
        OSError, EOFError, ValueError, KeyError, RuntimeError, NotImplementedError,
        AttributeError, TypeError, SyntaxError, MemoryError, OverflowError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        there = _is_refused(error) and not isinstance(error, FileNotFoundError)
        found = "can't be read" if there else "is missing or damaged"
        raise InputError(f"{path} {found}: {_reason(error)}") from error


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


def digest(tree: PyTree) -> str:
    """Of all arrays with their names, shapes and types: a flipped bit shows.

    A namedtuple and the dict of its fields have the same: what a checkpoint gives back
    without a template has the digest of what was saved.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    each = []
    for path, leaf in leaves:
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        head = f"{name} {array.dtype.name} {np.shape(leaf)}\n"
        content = hashlib.blake2b(head.encode("utf-8"))
        content.update(array.reshape(-1).view(np.uint8).data)
        each.append(content.digest())
    return hashlib.blake2b(b"".join(sorted(each))).hexdigest()
