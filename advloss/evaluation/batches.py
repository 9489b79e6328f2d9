"""What is finished of an attack that is not: its batches, kept until all are there.

    finished = Finished(workdir / "evaluation", "pgd-0123456789ab", identity)
    part = finished.load("0")             # None: to be computed, then
    finished.save("0", images=images)     # arrays by name
    finished.clear()

The parts lie in a folder that is named by what they depend on, so that parts of other
settings or of another version are never taken for one's own.
"""

import hashlib
import json
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from advloss.errors import InputError
from advloss.runtime import files, hosts

_IDENTITY, _NAME, _SECONDS = "identity", "name", "seconds"
_ENDING = ".parts"


def unfinished(folder: Path) -> list[str]:
    """The results in a folder that have parts and are not there, by name."""
    parts = folder.iterdir() if folder.is_dir() else ()
    names = {path.name.split(".")[0] for path in parts if path.suffix == _ENDING}
    return sorted(name for name in names if not (folder / f"{name}.npz").exists())


class Finished:
    """The finished parts of one attack.

    Args:
        folder: of the results; the parts get a folder in it with the first.
        name: of the result that the parts will make.
        identity: what the parts' numbers depend on; JSON.
        check: is called before every save; raises where nothing may be written.

    Attributes:
        folder: where the parts lie.
        earlier: the seconds that earlier processes spent on the parts loaded so far.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        identity: dict[str, Any],
        check: Callable[[], None] = lambda: None,
    ):
        text = json.dumps(identity, sort_keys=True).encode()
        digest = hashlib.blake2b(text)
        self._identity = np.frombuffer(digest.digest(), np.uint8)
        self._name, self._check = name, check
        self.folder = folder / f"{name}.{digest.hexdigest()[:12]}{_ENDING}"
        self._since = time.perf_counter()
        self.earlier = 0.0

    def load(self, name: str) -> dict[str, np.ndarray] | None:
        """A part's arrays, or None: compute it.

        It is missing, or, with a warning, damaged, edited or another part's.
        """
        part = {}
        if self._path(name).exists():
            try:
                part = self._read(name)
            except InputError as error:
                warnings.warn(f"computed again: {error}", stacklevel=2)
        # Either all hosts compute it, or none does.
        if hosts.any_of_all(not part):
            return None
        self.earlier = max(self.earlier, float(part.pop(_SECONDS)))
        return part

    def _read(self, name: str) -> dict[str, np.ndarray]:
        part = files.read_arrays(self._path(name))
        mine = np.array_equal(part.pop(_IDENTITY, ()), self._identity)
        if str(part.pop(_NAME, "")) != name or not mine or _SECONDS not in part:
            raise InputError(f"{self._path(name)} is damaged: it holds another part")
        return part

    def save(self, name: str, **arrays: np.ndarray) -> None:
        """Keeps a part, in place of one of that name."""
        self._check()
        # All that was spent so far: what is lost is spent again.
        seconds = self.earlier + time.perf_counter() - self._since
        own = {
            _IDENTITY: self._identity,
            _NAME: np.array(name),
            _SECONDS: np.float64(seconds),
        }
        # The images of every round: zip would take longer than the attack.
        files.write_arrays(self._path(name), {**arrays, **own}, compressed=False)

    def discard(self, beginning: str) -> None:
        """Removes the parts whose names begin so."""
        if hosts.is_first() and self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith(beginning):
                    path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Removes all parts of this result, those of other versions too."""
        if not hosts.is_first() or not self.folder.parent.is_dir():
            return
        for path in self.folder.parent.iterdir():
            if path.name.startswith(f"{self._name}.") and path.name.endswith(_ENDING):
                shutil.rmtree(path, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"
