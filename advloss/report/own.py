"""Which files of a folder are a report's own, or an export's.

    with own.replacing(folder, ["report.md", "accuracy.png"]):
        ...     # write them

It lists its files before it writes them, so that a kill leaves none that is not listed,
and the runs that it is of: a report of other runs is not replaced by accident.
What is there and not in the list is somebody else's, and is never touched.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from advloss.errors import InputError
from advloss.runtime import files

_FILES, _RUNS = "files", "runs"
_NAME = re.compile(r"([\w-]+/)*[\w-]+\.(html|md|csv|json|npz|png|svg)", re.ASCII)


@contextlib.contextmanager
def replacing(
    folder: Path,
    names: Collection[str],
    what: str = "report",
    runs: Collection[str | Path] = (),
) -> Iterator[None]:
    """Writes files of these names within, in the place of an earlier report's.

    Args:
        folder: of the report.
        names: of its files; "run/images.npz" lies in a folder in it.
        what: it is, "report" or "export": each has a list of its own.
        runs: that it is of.

    Raises:
        InputError: one of them is there and no report's, or the list is damaged;
            nothing was written.
        OSError: the list can't be written.
    """
    listed = folder / f".{what}.json"
    earlier, earlier_runs = _listed(listed)
    for name in (name for name in names if name not in earlier):
        for path in _paths(folder, name):
            if os.path.lexists(path):
                raise InputError(
                    f"{path} is there, and no {what}'s list names it: move it, or use "
                    "another folder"
                )
    of = sorted(_from(folder, runs))
    # Until it is whole, those of the earlier one: the same command goes on.
    until = {_FILES: sorted({*earlier, *names}), _RUNS: sorted(earlier_runs) or of}
    files.write_json(listed, until)
    yield
    for name in earlier - {*names}:
        for path in _paths(folder, name):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # Something else lies there, too.
            for parent in Path(name).parents[:-1]:
                (folder / parent).rmdir()
    files.write_json(listed, {_FILES: sorted(names), _RUNS: of})


def check_runs(folder: str | Path, runs: Collection[str | Path]) -> None:
    """A report in the folder must be of these runs, or of some of them.

    Raises:
        InputError: it is of others; or its list is damaged.
    """
    folder = Path(folder)
    _, earlier = _listed(folder / ".report.json")
    if others := sorted(earlier - _from(folder, runs)):
        more = f" and {len(others) - 3} more" * (len(others) > 3)
        raise InputError(
            f"{folder} holds a report of other runs ({', '.join(others[:3])}{more}, "
            "seen from it): use another folder, or --overwrite"
        )


def _from(folder: Path, runs: Collection[str | Path]) -> set[str]:
    """Where runs lie, seen from the report: they may be moved together."""
    here = folder.resolve()
    found = (os.path.relpath(Path(run).resolve(), here) for run in runs)
    return {Path(path).as_posix() for path in found}


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Where a file is, and where it is while it is written."""
    return folder / name, folder / f"{name}.tmp"


def _listed(path: Path) -> tuple[set[str], set[str]]:
    """The files, and the runs where they are known."""
    content = files.read_json(path)
    content = {_FILES: []} if content is None else content
    listed, runs = content.get(_FILES), content.get(_RUNS, [])
    right = all(
        isinstance(each, list) and all(isinstance(name, str) for name in each)
        for each in (listed, runs)
    )
    if not right or not all(map(_NAME.fullmatch, listed)):
        raise InputError(f"{path} is damaged: use another folder")
    return set(listed), set(runs)
