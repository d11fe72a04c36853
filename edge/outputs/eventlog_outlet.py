"""The event log behind a queue, so that a slow card holds up nobody."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from edge.outputs.eventlog import EventLog
from edge.outputs.outlet import Outlet

logger = logging.getLogger(__name__)


class LogOutlet:
    """Appends events to a log, in a thread of its own.

    Parameters
    ----------
    path : Path
    file_bytes, files : int
        See `EventLog`.
    wait_s : float
        The longest that `put` may wait for room in the queue: what is heard from a file can wait,
        and brings events faster than a card takes them.

    Attributes
    ----------
    name : str
    lost : int
        Events that are not in the log: too many waited, or it could not be written.

    Raises
    ------
    EdgelidError
        If the log cannot be used.
    """

    name = "log"

    def __init__(self, path: Path, file_bytes: int, files: int, wait_s: float = 0.0) -> None:
        self._wait_s = wait_s
        self._path = path
        self._bounds = self._wanted_bounds = file_bytes, files
        self._log = EventLog(path, file_bytes, files)
        self._missed = 0  # of what the queue has lost, what the log knows of
        self._outlet = Outlet(self.name, self._write)

    @property
    def lost(self) -> int:
        return self._log.lost + self._outlet.lost - self._missed

    def put(self, record: dict[str, Any]) -> None:
        """Have an event written."""
        if record["type"] != "window":  # they come six times a second: nothing for a card
            self._outlet.put(record, self._wait_s)

    def bound(self, file_bytes: int, files: int) -> None:
        """Keep to other bounds from the next event on."""
        self._wanted_bounds = file_bytes, files

    def close(self) -> None:
        """End within a moment; what then still waits for the disk is lost."""
        if self._outlet.close():
            self._log.close()
        else:
            logger.warning(
                "the event log %r takes too long: it ends without its last events", str(self._path)
            )

    def _write(self, record: dict[str, Any]) -> None:
        if self._bounds != self._wanted_bounds:
            self._bounds = self._wanted_bounds
            self._log.bound(*self._bounds)
        missed = self._outlet.lost
        self._log.miss(missed - self._missed)
        self._missed = missed
        self._log.record(record)
