"""What is finished of an attack that is not: its batches, kept until all are there.

    finished = batches.Finished(workdir / "evaluation" / "pgd.parts", identity)
    part = finished.load(0)             # None: to be computed, then
    finished.save(0, images=images)     # arrays by name
    finished.clear()

Parts of another attack, of other settings or of another version do not count.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from advloss import files, parallel
from advloss.errors import InputError

_IDENTITY, _SECONDS = "identity", "seconds"


class Finished:
    """The finished parts of one attack.

    Args:
        folder: of the parts, made with the first.
        identity: what the parts' numbers depend on; JSON.

    Attributes:
        earlier: the seconds that were spent on the parts loaded so far.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        text = json.dumps(identity, sort_keys=True).encode()
        self._identity = np.frombuffer(hashlib.blake2b(text).digest(), np.uint8)
        self._folder = folder
        self._spent: dict[int, float] = {}
        self._since = time.perf_counter()
        self.earlier = 0.0

    def load(self, number: int) -> dict[str, np.ndarray] | None:
        """A part's arrays, or None where it is to be computed."""
        try:
            part = files.read_arrays(self._path(number))
        except InputError:
            part = {}
        known = np.array_equal(part.pop(_IDENTITY, ()), self._identity)
        # Either all hosts compute it, or none does.
        if parallel.any_of_all(not known):
            return None
        self._spent[number] = float(part.pop(_SECONDS))
        self.earlier += self._spent[number]
        return part

    def save(self, number: int, **arrays: np.ndarray) -> None:
        """Keeps a part, in place of one of that number."""
        self._spent[number] = self._spent.get(number, 0.0) + self._lap()
        own = {_IDENTITY: self._identity, _SECONDS: np.float64(self._spent[number])}
        # The images of every round: zip would take longer than the attack.
        files.write_arrays(self._path(number), {**arrays, **own}, compressed=False)

    def clear(self) -> None:
        """Removes all parts."""
        if parallel.is_first():
            shutil.rmtree(self._folder, ignore_errors=True)

    def _lap(self) -> float:
        before, self._since = self._since, time.perf_counter()
        return self._since - before

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.npz"
