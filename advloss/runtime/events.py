"""Scalars as an event file of TensorBoard.

To be imported where a file is written: the library imports PyTorch where there is one,
which takes a second.
"""

import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class Events:
    """An event file in a folder, from a step on."""

    def __init__(self, folder: Path, step: int):
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        # Files are named by the second: two in one would be the same file.
        self._writer = EventsWriter(str(folder / "events"), f".from{step}")
        # What an interrupted run wrote after the step is not to be shown.
        start = SessionLog(status=SessionLog.START)
        self._add(Event(session_log=start), step + 1)
        self._writer.flush()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a scalar for each value. Raises OSError."""
        for name, value in values.items():
            self._add(Event(summary=scalar(name, value)), step)
        self._writer.flush()

    def close(self) -> None:
        """Raises OSError."""
        self._writer.close()

    def _add(self, event: Event, step: int) -> None:
        event.step, event.wall_time = step, time.time()
        self._writer.write_event(event)
