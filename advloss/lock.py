"""One process at a time in a work directory.

    with lock.hold(workdir):
        ...

The kernel frees the lock of a process that ends, however it ends, so that no stale lock
is left behind; the file stays, and says who held it last.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from advloss import parallel
from advloss.errors import InputError

NAME = ".lock"


@contextmanager
def hold(workdir: Path) -> Iterator[None]:
    """Holds a work directory, made if need be; on several hosts the first holds it.

    Raises:
        InputError: another process holds it; the message says which.
    """
    if not parallel.is_first():
        yield
        return
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another process"
            raise InputError(
                f"--workdir={workdir} is in use by {holder}: wait for it, or use "
                "another --workdir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
