"""What a run was made with, and the terminal that it tells of its progress."""

import contextlib
import functools
import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from advloss.runtime import hosts

_PACKAGES = ("advloss", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_SOURCES = Path(__file__).parents[1]


# What a number depends on: a run is a function of its config, not of the shell.
_PINNED = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_matmul_precision": None,
    "jax_transfer_guard": "allow",
}
# For those who look for bugs in JAX; in the shell they would end, slow or change a run.
_SWITCHES = (
    "jax_check_tracer_leaks",
    "jax_debug_key_reuse",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_enable_checks",
    "jax_no_execution",
    "jax_no_tracing",
)


def pin_jax() -> None:
    """Settings of JAX that change numbers are its own, whatever the shell says."""
    for name, value in _PINNED.items():
        jax.config.update(name, value)
    for name in _SWITCHES:
        if name.upper() in os.environ:
            jax.config.update(name, False)


def environment(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Versions and devices, to be saved with a run."""
    return {
        "revision": revision(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": [f"{device.platform}: {device.device_kind}" for device in devices],
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # A copy of the sources on the path.
        return "not installed"


@functools.cache
def revision() -> str:
    """The commit of this code, "+" where files differ from it; "" outside of git."""

    def git(*words: str) -> str:
        found = subprocess.run(
            ["git", *words],
            cwd=_SOURCES,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        return found.stdout.strip()

    try:
        # Installed in a folder of somebody's repository, it is not of that.
        git("ls-files", "--error-unmatch", "types.py")
        return git("describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*")
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


@functools.cache
def code_digest() -> str:
    """Of this package's sources: what is not committed has no revision."""
    sources = sorted(_SOURCES.rglob("*.py"))
    digests = [hashlib.blake2b(path.read_bytes()).digest() for path in sources]
    return hashlib.blake2b(b"".join(digests)).hexdigest()


class Unbreakable:
    """A stream that never fails: what a closed or full one can't take is left out.

    The name is looked up at every use, so that the stream may be replaced meanwhile.
    """

    def __init__(self, name: str = "stderr"):
        self._name = name

    def _stream(self) -> Any:
        return getattr(sys, self._name)

    def write(self, text: str) -> int:
        """As a stream's; there is none where it was closed before Python began."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream().write(text)
        return len(text)

    def flush(self) -> None:
        """As a stream's."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._stream().flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream().isatty()
        except (OSError, ValueError, AttributeError):
            return False

    @property
    def encoding(self) -> str:
        """What it can show."""
        return getattr(self._stream(), "encoding", None) or "ascii"


def progress_bar(
    text: str, total: int, unit: str, done: int = 0, *, shown: bool = True
) -> tqdm:
    """A bar on standard error with rate and remaining time, 80 columns wide.

    Where it is not `shown` it takes the same calls and writes nothing; only the first
    host shows one. Standard error may be closed, full or a broken pipe.
    """
    return tqdm(
        desc=f"{text:<20.20}",
        total=total,
        initial=done,
        unit=unit,
        ncols=80,
        file=Unbreakable(),
        disable=not (shown and hosts.is_first()),
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
        "[{elapsed}<{remaining}{postfix}]",
    )
