"""The terminal as a command finds it: signals and streams, before all else.

It imports nothing that takes time: from here on Ctrl-C ends the process in one line,
though JAX is still being imported, and no stream that is closed, full or can't show a
character ends a command.
"""

import io
import logging
import os
import signal
import sys
from typing import IO

from advloss.errors import one_line

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_UNHEEDED = ("MPLBACKEND", "SOURCE_DATE_EPOCH")


def prepare() -> None:
    """Signals, streams and the environment, for the rest of the process."""
    end_on_signals()
    # They change no file, but if wrong end the imports or a figure.
    for name in [n for n in os.environ if n.startswith("TQDM_") or n in _UNHEEDED]:
        del os.environ[name]
    # matplotlib tells of its cache of fonts.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # A number that is free would be given to the next file, a checkpoint say, and what
    # libraries write to standard error would go into it.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
    sys.stdout = _mended(sys.stdout, 1)
    sys.stderr = _mended(sys.stderr, 2)


def mend() -> None:
    """Opens a stream again that somebody's code has closed."""
    if sys.stdout is None or sys.stdout.closed:
        sys.stdout = _mended(None, 1)
    if sys.stderr is None or sys.stderr.closed:
        sys.stderr = _mended(None, 2)


def end_on_signals() -> None:
    """SIGTERM or Ctrl-C ends the process at once, in one line."""

    def end(number: int, _) -> None:
        # No exception: imports and callbacks may swallow one.
        say("interrupted: the same command continues")
        os._exit(128 + number)

    for number in _SIGNALS:
        signal.signal(number, end)


def say(text: str) -> None:
    """A line on standard error."""
    print(text, file=sys.stderr, flush=True)


def fail(message: str) -> None:
    """Ends the process with an error of one line."""
    say(f"error: {one_line(message)}")
    sys.exit(2)


def lost_output() -> str | None:
    """Why standard output did not take all, or None; a reader may leave."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    error = getattr(raw, "error", None)
    if error is None or isinstance(error, BrokenPipeError):
        return None
    return error.strerror or str(error)


def _mended(stream: IO[str] | None, number: int) -> IO[str]:
    """The stream, which no longer fails: what it can't take is left out."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(number, "w", closefd=False)),
        encoding=encoding,
        errors="replace",
        line_buffering=number == 2 or os.isatty(number),
    )


class _Patient(io.FileIO):
    """A file whose writes never fail; `error` is the first that did."""

    error: OSError | None = None

    def write(self, content) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.error = self.error or error
            return len(memoryview(content))
