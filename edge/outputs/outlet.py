"""The queue and the thread of an outlet: what is slow, hangs or fails holds up nobody.

Whoever listens puts records into a queue of fixed size and goes on. A thread of the outlet's own
takes them out and does the work. If that takes too long, the oldest records are lost and counted,
and nobody else's.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from edge.errors import EdgelidError

logger = logging.getLogger(__name__)

CAPACITY = 256  # records: events come a few times a minute, so an hour of them
LEAVE_S = 0.5  # how long the end waits for what is still in the queue

Record = dict[str, Any]


class Outlet:
    """A consumer of records in a thread of its own.

    Parameters
    ----------
    name : str
        In messages and metrics.
    consume : callable
        Gets each record, in order, one at a time; may block. An EdgelidError or OSError that it
        raises loses this record.
    capacity : int
        Records that may wait.

    Attributes
    ----------
    name : str
    lost : int
        Records that did not get through: too many waited, or `consume` failed.
    """

    def __init__(
        self, name: str, consume: Callable[[Record], None], capacity: int = CAPACITY
    ) -> None:
        self.name = name
        self.lost = 0
        self._consume = consume
        self._waiting: deque[Record] = deque()
        self._capacity = capacity
        self._changed = threading.Condition()
        self._ending = False
        self._failing = False
        self._lost_before = 0  # this failure
        # A daemon: one that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name=f"outlet-{name}", daemon=True)
        self._thread.start()

    def put(self, record: Record, wait_s: float = 0.0) -> None:
        """Hand over a record; without `wait_s`, for room in the queue, never waits."""
        with self._changed:
            if wait_s:
                self._changed.wait_for(lambda: len(self._waiting) < self._capacity, wait_s)
            if len(self._waiting) == self._capacity:
                self._waiting.popleft()
                self._count_lost("it is too slow")
            self._waiting.append(record)
            self._changed.notify_all()

    def close(self) -> bool:
        """End, after what is still waiting or `LEAVE_S`, whichever comes first.

        Returns
        -------
        bool
            Whether nothing waits any longer.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(LEAVE_S)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (record := self._next()) is not None:
            try:
                self._consume(record)
            except (EdgelidError, OSError) as error:
                with self._changed:
                    self._count_lost(str(error))
            else:
                with self._changed:
                    self._tell_recovery()

    def _next(self) -> Record | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ending)
            self._changed.notify_all()
            return self._waiting.popleft() if self._waiting else None

    def _count_lost(self, reason: str) -> None:
        if not self._failing:
            self._failing, self._lost_before = True, self.lost
            logger.warning("%s: events are lost (%s)", self.name, reason.rstrip("."))
        self.lost += 1

    def _tell_recovery(self) -> None:
        if self._failing and not self._waiting:
            self._failing = False
            lost = self.lost - self._lost_before
            logger.warning("%s: events get through again; %d were lost", self.name, lost)
