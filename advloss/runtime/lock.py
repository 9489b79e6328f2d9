"""One process at a time in a work directory.

    with lock.hold(workdir) as check:
        ...
        check()         # before a save: the folder is still ours

The kernel frees the lock of a process that ends, however it ends, so that no stale lock
is left behind; the file stays, and says who held it last.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from advloss.errors import InputError
from advloss.runtime import hosts

NAME = ".lock"


@contextmanager
def hold(workdir: Path) -> Iterator[Callable[[], None]]:
    """Holds a work directory, made if need be; on several hosts the first holds it.

    Yields:
        A check, to be called before every save: it raises InputError where the folder
        was moved or deleted since, so that nothing is written into a ghost, or where
        the lock's file was, so that another process may write there.

    Raises:
        InputError: another process holds it; the message says which.
    """
    if not hosts.is_first():
        yield lambda: None
        return
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / NAME
    try:
        lock = filelock.FileLock(path, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"--workdir={workdir} is in use by {_holder(path)}: wait for it, or use "
            "another --workdir"
        ) from None
    try:
        name = f"process {os.getpid()} on {socket.gethostname()}\n"
        path.write_text(name, encoding="utf-8")
        folder, mine = _identity(workdir), _identity(path)

        def check() -> None:
            if _identity(workdir) != folder:
                raise InputError(
                    f"--workdir={workdir} was moved or deleted while it was in use: "
                    "what was saved before is where it was moved to; bring it back, "
                    "and the same command continues"
                )
            if _identity(path) != mine:
                raise InputError(
                    f"{path} was removed while it was in use, and another process may "
                    "write there now: the same command continues"
                )

        yield check
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        said = path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        said = ""
    return " ".join(said.split()) or "another process"


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
