"""Several processes, one on each host, that run one program together.

Every process runs the same program on the same values. What only one may do, such as
writing, is `first_only`; what is decided from files is decided `from_first`, and
`wait_for_all` holds the others back until it is written.
"""

import functools
import json
import socket
import time
from collections.abc import Callable
from typing import Any, ParamSpec

import jax
import numpy as np
from jax.experimental import multihost_utils

from advloss.errors import InputError, line

# A host that is silent for so long is given up, and with it the run.
_SILENCE_SECONDS = 60
_CONNECT_SECONDS = 120

_Arguments = ParamSpec("_Arguments")


def connect(
    coordinator: str | None = None, count: int | None = None, index: int | None = None
) -> None:
    """Makes this process one of several; to be called before JAX is first used.

    Args:
        coordinator: host and port of process 0, the same for all.
        count: how many processes there are.
        index: which one this is, from 0.
        What is None is taken from the cluster that started them: SLURM, Open MPI,
        Kubernetes, TPU pods.

    Raises:
        InputError: there is no such cluster, or the others can't be reached in time.
    """
    if coordinator:  # JAX would end the process, with a page of its own.
        _reach(coordinator, wait=bool(index))
    # It would take SIGTERM from us, see `signals`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            count,
            index,
            initialization_timeout=_CONNECT_SECONDS,
            heartbeat_timeout_seconds=_SILENCE_SECONDS,
            shutdown_timeout_seconds=_SILENCE_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        how = f"--coordinator={coordinator}" if coordinator else "--distributed"
        raise InputError(
            f"{how}: the processes can't be joined: {line(error)}"
        ) from error


def _reach(coordinator: str, *, wait: bool) -> None:
    """Looks for process 0's host, and can wait until it is there itself.

    Raises InputError where there is no such host, or process 0 does not come.
    """
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            socket.getaddrinfo(host, int(port))
            if wait:
                socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline or isinstance(error, socket.gaierror):
                raise InputError(
                    f"--coordinator={coordinator} can't be reached ({error}): use "
                    "the host of process 0, as all processes see it, and a free port"
                ) from error
        time.sleep(0.2)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def first_only(
    function: Callable[_Arguments, Any],
) -> Callable[_Arguments, None]:
    """The function, which does nothing in any process but the first: it writes."""

    @functools.wraps(function)
    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        if is_first():
            function(*args, **kwargs)

    return run


def from_first(value: Any) -> Any:
    """What the first process holds, for all; anything that JSON can hold."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    text = multihost_utils.broadcast_one_to_all(np.resize(text, size))
    return json.loads(np.asarray(text).tobytes())


def any_of_all(flag: bool) -> bool:
    """Whether the flag is set in any process."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def wait_for_all() -> None:
    """Every process waits until the last is here."""
    any_of_all(False)
