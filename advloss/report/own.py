"""Which files of a folder are a report's own, or an export's.

    with own.replacing(folder, ["report.md", "accuracy.png"]):
        ...     # write them

It lists its files before it writes them, so that a kill leaves none that is not listed.
What is there and not in the list is somebody else's, and is never touched.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from advloss.errors import InputError
from advloss.runtime import files

_FILES = "files"
_NAME = re.compile(r"([\w-]+/)*[\w-]+\.(html|md|csv|json|npz|png|svg)", re.ASCII)


@contextlib.contextmanager
def replacing(
    folder: Path, names: Collection[str], what: str = "report"
) -> Iterator[None]:
    """Writes files of these names within, in the place of an earlier report's.

    Args:
        folder: of the report.
        names: of its files; "run/images.npz" lies in a folder in it.
        what: it is, "report" or "export": each has a list of its own.

    Raises:
        InputError: one of them is there and no report's, or the list is damaged;
            nothing was written.
        OSError: the list can't be written.
    """
    listed = folder / f".{what}.json"
    earlier = _listed(listed)
    for name in (name for name in names if name not in earlier):
        for path in _paths(folder, name):
            if os.path.lexists(path):
                raise InputError(
                    f"{path} is there, and no {what}'s list names it: move it, or use "
                    "another folder"
                )
    files.write_json(listed, {_FILES: sorted({*earlier, *names})})
    yield
    for name in earlier - {*names}:
        for path in _paths(folder, name):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # Something else lies there, too.
            for parent in Path(name).parents[:-1]:
                (folder / parent).rmdir()
    files.write_json(listed, {_FILES: sorted(names)})


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a file is, and where it is while it is written."""
    return folder / name, folder / f"{name}.tmp"


def _listed(path: Path) -> set[str]:
    content = files.read_json(path)
    listed = [] if content is None else content.get(_FILES)
    if not isinstance(listed, list) or not all(
        isinstance(name, str) and _NAME.fullmatch(name) for name in listed
    ):
        raise InputError(f"{path} is damaged: use another folder")
    return set(listed)
