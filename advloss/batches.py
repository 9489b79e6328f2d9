"""What is finished of an attack that is not: its batches, kept until all are there.

    finished = batches.Finished(workdir / "evaluation" / "pgd.parts", identity)
    part = finished.load(0)             # None: to be computed, then
    finished.save(0, images=images)     # arrays by name
    finished.clear()

Parts of another attack, of other settings or of another version are thrown away.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from advloss import files, parallel
from advloss.errors import InputError

_IDENTITY = "identity.json"


class Finished:
    """The finished parts of one attack.

    Args:
        folder: of the parts, made with the first.
        identity: what the parts' numbers depend on; JSON.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self._folder, self._identity = folder, identity
        if self._known() != identity:
            self.clear()

    def _known(self) -> dict[str, Any] | None:
        try:
            return files.read_json(self._folder / _IDENTITY)
        except InputError:
            return None

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """A part's arrays, or None where it is to be computed."""
        try:
            part = files.read_arrays(self._path(number))
        except InputError:
            part = None
        # Either all hosts compute it, or none does.
        return None if parallel.any_of_all(part is None) else part

    def save(self, number: int, **arrays: np.ndarray) -> None:
        """Keeps a part, in place of one of that number."""
        if not (self._folder / _IDENTITY).exists():
            files.write_json(self._folder / _IDENTITY, self._identity)
        files.write_arrays(self._path(number), **arrays)

    def clear(self) -> None:
        """Removes all parts."""
        if parallel.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npz"
