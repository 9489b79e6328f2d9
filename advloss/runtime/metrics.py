"""Training metrics on disk: JSON lines for programs, event files for TensorBoard.

A row is a step and scalars by name: "loss", "accuracy" and any others.
"""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from advloss.errors import InputError, line
from advloss.runtime import files, hosts

if TYPE_CHECKING:
    from advloss.runtime.events import Events

_LINES = "metrics.jsonl"
_EVENTS = "tensorboard"
_KEYS = {"step", "loss", "accuracy"}  # Every row has these, and more.


class Writer:
    """Appends rows of numbers to a work directory; a context manager.

    Rows after `step`, which an interrupted run wrote but whose state was lost, are
    removed first: what is on disk is what one uninterrupted run would have written. On
    several hosts the first alone writes.

    A file that can't be written is no reason to end a training: it is warned of once,
    and left.
    """

    def __init__(self, workdir: Path, *, step: int):
        self._lines: IO[str] | None = None
        self._events: Events | None = None
        self._warned = False
        if hosts.is_first():
            self._attempt(lambda: self._open_lines(workdir, step))
            self._attempt(lambda: self._open_events(workdir, step))

    def _open_lines(self, workdir: Path, step: int) -> None:
        path = workdir / _LINES
        kept = [row for row in read(workdir) if row["step"] <= step]
        files.write_text(path, "".join(map(_line, kept)))
        self._lines = path.open("a", encoding="utf-8")

    def _open_events(self, workdir: Path, step: int) -> None:
        from advloss.runtime.events import Events

        self._events = Events(workdir / _EVENTS, step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds one row; the values become scalars under `train/` in TensorBoard."""
        if self._lines and not self._attempt(lambda: self._write_line(step, values)):
            self._lines = _abandon(self._lines)
        if self._events and not self._attempt(lambda: self._write_events(step, values)):
            self._events = _abandon(self._events)

    def _write_line(self, step: int, values: Mapping[str, float]) -> None:
        self._lines.write(_line({"step": step, **values}))
        self._lines.flush()
        if not os.fstat(self._lines.fileno()).st_nlink:
            raise OSError(f"{self._lines.name} was removed")

    def _write_events(self, step: int, values: Mapping[str, float]) -> None:
        self._events.write(step, {f"train/{key}": each for key, each in values.items()})

    def _attempt(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except (OSError, InputError) as error:
            if not self._warned:
                warnings.warn(
                    f"metrics can't be written ({line(error)}): the training goes on "
                    "without them",
                    stacklevel=3,
                )
            self._warned = True
            return False
        return True

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        for file in (self._lines, self._events):
            if file:
                self._attempt(file.close)


def _abandon(file: "IO[str] | Events") -> None:
    with contextlib.suppress(OSError):
        file.close()


def _line(row: Mapping[str, float]) -> str:
    return json.dumps(dict(row)) + "\n"


def read(workdir: Path) -> list[dict[str, float]]:
    """The rows written so far, without damaged ones, which a warning counts.

    A last line that a kill has cut is none yet; one that begins as none does, or has
    the zeros that a crash of the machine leaves, is damaged.

    Raises:
        InputError: the file can't be read.
    """
    path = workdir / _LINES
    try:
        files.check_regular(path)
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        found = "can't be read" if error.errno else "is damaged"
        raise InputError(f"{path} {found}: {error.strerror or error}") from error
    *whole, cut = text.split("\n")
    begun = cut.startswith("{") and "\0" not in cut and _row(cut) is None
    found = [_row(one) for one in (whole if begun or not cut else [*whole, cut])]
    if damaged := found.count(None):
        warnings.warn(
            f"{path}: {damaged} of {len(found)} lines are damaged and left out",
            stacklevel=2,
        )
    return [row for row in found if row is not None]


def _row(text: str) -> dict[str, float] | None:
    """What a line holds, or None where it is damaged."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = (
        isinstance(row, dict)
        and row.keys() >= _KEYS
        and type(row["step"]) is int
        and all(type(value) in (int, float) for value in row.values())
    )
    return row if whole else None
