"""Ending a run in order: a signal asks, and training stops at the next chunk.

signals.listen()            # in a launcher
signals.requested()         # between chunks: save, then raise Stopped
"""

import os
import signal
import threading

from advloss.runtime import hosts

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_asked = threading.Event()


def listen() -> None:
    """The first SIGTERM or Ctrl-C asks; a second one ends the process at once."""

    def ask(number: int, _) -> None:
        if _asked.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        _asked.set()

    for number in _SIGNALS:
        signal.signal(number, ask)


def request() -> None:
    """Asks the process to end, as a signal would."""
    _asked.set()


def requested() -> bool:
    """Whether the process was asked to end, or on several hosts any; all must ask."""
    return hosts.any_of_all(_asked.is_set())
