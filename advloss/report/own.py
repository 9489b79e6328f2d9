"""Which files of a folder are a report's own.

    with own.replacing(folder, ["report.md", "accuracy.png"]):
        ...     # write them

A report lists its files before it writes them, so that a kill leaves none that is not
listed. What is there and not in the list is somebody else's, and is never touched.
"""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from advloss.errors import InputError
from advloss.runtime import files

_LIST, _FILES = ".report.json", "files"
_NAME = re.compile(r"[\w-]+\.(html|md|csv|json|png|svg)", re.ASCII)


@contextmanager
def replacing(folder: Path, names: Collection[str]) -> Iterator[None]:
    """Writes files of these names within, in the place of an earlier report's.

    Raises:
        InputError: one of them is there and no report's, or the list is damaged;
            nothing was written.
        OSError: the list can't be written.
    """
    earlier = _listed(folder)
    for name in (name for name in names if name not in earlier):
        for path in _paths(folder, name):
            if os.path.lexists(path):
                raise InputError(
                    f"{path} is there, and no report's list names it: move it, or use "
                    "another folder"
                )
    files.write_json(folder / _LIST, {_FILES: sorted({*earlier, *names})})
    yield
    for name in earlier - {*names}:
        for path in _paths(folder, name):
            path.unlink(missing_ok=True)
    files.write_json(folder / _LIST, {_FILES: sorted(names)})


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a file is, and where it is while it is written."""
    return folder / name, folder / f"{name}.tmp"


def _listed(folder: Path) -> set[str]:
    content = files.read_json(folder / _LIST)
    listed = [] if content is None else content.get(_FILES)
    if not isinstance(listed, list) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in listed
    ):
        raise InputError(f"{folder / _LIST} is damaged: use another folder")
    return set(listed)
