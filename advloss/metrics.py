"""Training metrics on disk: JSON lines for programs, event files for TensorBoard."""

import json
from pathlib import Path

from tensorboardX import SummaryWriter

from advloss import files

_LINES = "metrics.jsonl"
_EVENTS = "tensorboard"
_KEYS = {"step", "loss", "accuracy"}  # Every row has these, and more.


class Writer:
    """Appends rows of numbers to a work directory; a context manager.

    Rows after `step`, which an interrupted run wrote but whose state was lost, are
    removed first: what is on disk is what one uninterrupted run would have written.
    """

    def __init__(self, workdir: Path, *, step: int):
        path = workdir / _LINES
        kept = [row for row in read(workdir) if row["step"] <= step]
        files.write_text(path, "".join(map(_line, kept)))
        self._lines = path.open("a")
        self._events = SummaryWriter(
            str(workdir / _EVENTS),
            purge_step=step + 1,
            # Files are named by the second: two in one would be the same file.
            filename_suffix=f".from{step}",
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        """Adds one row; the values become scalars under `train/` in TensorBoard."""
        self._lines.write(_line({"step": step, **values}))
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(f"train/{name}", value, step)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        self._lines.close()
        self._events.close()


def _line(row: dict[str, float]) -> str:
    return json.dumps(row) + "\n"


def read(workdir: Path) -> list[dict[str, float]]:
    """The rows written so far, up to the first damaged one: a kill may cut the last."""
    path = workdir / _LINES
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if not isinstance(row, dict) or not row.keys() >= _KEYS:
            break
        rows.append(row)
    return rows
