"""What is finished of an attack that is not: its batches, kept until all are there.

    finished = batches.Finished(workdir / "evaluation" / "pgd.parts", identity)
    part = finished.load(0)             # None: to be computed, then
    finished.save(0, images=images)     # arrays by name
    finished.clear()

Parts of another attack, of other settings or of another version are thrown away.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from advloss import files, parallel
from advloss.errors import InputError

_IDENTITY = "identity.json"
_SECONDS = "seconds"


class Finished:
    """The finished parts of one attack.

    Args:
        folder: of the parts, made with the first.
        identity: what the parts' numbers depend on; JSON.

    Attributes:
        earlier: the seconds that were spent on the parts loaded so far.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self._folder, self._identity = folder, identity
        self._spent: dict[int, float] = {}
        self._since = time.perf_counter()
        self.earlier = 0.0
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
        if parallel.any_of_all(part is None):
            return None
        self._spent[number] = float(part.pop(_SECONDS, 0.0))
        self.earlier += self._spent[number]
        return part

    def save(self, number: int, **arrays: np.ndarray) -> None:
        """Keeps a part, in place of one of that number."""
        if not (self._folder / _IDENTITY).exists():
            files.write_json(self._folder / _IDENTITY, self._identity)
        self._spent[number] = self._spent.get(number, 0.0) + self._lap()
        seconds = np.float64(self._spent[number])
        # The images of every round: zip would take longer than the attack.
        part = {**arrays, _SECONDS: seconds}
        files.write_arrays(self._path(number), part, compressed=False)

    def clear(self) -> None:
        """Removes all parts."""
        if parallel.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _lap(self) -> float:
        before, self._since = self._since, time.perf_counter()
        return self._since - before

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npz"
