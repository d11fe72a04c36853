"""One connection of a browser, with no more time and memory than it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 64
HEAD_S = 10.0  # for a request to arrive
STUCK_S = 10.0  # without anything being read of what waits to be sent
WAITING_BYTES = 1 << 16  # to be sent, before whoever sends has to wait
HEAD_BYTES = 8_192

_BUSY = b"HTTP/1.1 503 Service Unavailable\r\n"
_LATE = b"HTTP/1.1 408 Request Timeout\r\n"
_END = b"Content-Length: 0\r\nConnection: close\r\n\r\n"


class Connection(H11Protocol):
    """HTTP, as uvicorn speaks it, with limits on number, patience and what waits to be read.

    Parameters
    ----------
    stuck : callable
        Told of each one that is cut because it does not read.
    settings
        Of uvicorn's.
    """

    def __init__(self, stuck: Callable[[], None], **settings: Any) -> None:
        super().__init__(**settings)
        self._tell_stuck = stuck
        self._head_timer: asyncio.TimerHandle | None = None
        self._stuck_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Welcome it, or not."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WAITING_BYTES)
        if len(self.connections) > CONNECTIONS:
            self._refuse(_BUSY)
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take part of a request."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._await_head()

    def pause_writing(self) -> None:
        """Too much waits to be read."""
        super().pause_writing()
        if self._stuck_timer is None:
            self._stuck_timer = self.loop.call_later(STUCK_S, self._cut)

    def resume_writing(self) -> None:
        """It has been read."""
        super().resume_writing()
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._refuse, _LATE)

    def _refuse(self, line: bytes) -> None:
        self._stop_timers()
        self.transport.write(line + _END)
        self.transport.close()

    def _cut(self) -> None:
        self._tell_stuck()
        self.transport.abort()  # closing would wait for it to read

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_timers(self) -> None:
        self._stop_head_timer()
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
            self._stuck_timer = None
