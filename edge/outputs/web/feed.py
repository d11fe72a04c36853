"""Server-Sent Events: the state a few times a second while someone watches, and events at once.

All viewers are served from the same messages. Each only has a place in the row of events, so
that one which does not read costs no memory here: it skips states, and loses the events that the
row no longer has. Those it fills in, as it does after any pause, from the API.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from typing import Any

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from edge.languages import language_name
from edge.outputs.timeline import Timeline
from edge.outputs.web.snapshot import STATE_S, Snapshots, compact

VIEWERS = 16
EVENTS = 256  # an hour of them
RETRY_MS = 1_000  # after which a browser tries again
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"x-accel-buffering", b"no"),  # nginx would hold them back
]


class Feed:
    """Passes records on to viewers; an ASGI application.

    Parameters
    ----------
    snapshots : Snapshots
    live : bool
        Whether the stream is heard as it comes, see `Timeline`.

    Attributes
    ----------
    viewers : int
    lost : int
        Events that did not get to a viewer, or to none as the server could not run, and viewers
        that were cut off because they did not read.
    """

    def __init__(self, snapshots: Snapshots, live: bool) -> None:
        self.viewers = 0
        self.lost = 0
        self._snapshots = snapshots
        self._start = f"{time.time_ns():x}"  # numbers of another start mean nothing now
        self._number = 0
        self._incoming: deque[dict[str, Any]] = deque(maxlen=EVENTS)
        self._events: deque[tuple[int, bytes]] = deque(maxlen=EVENTS)
        self._timeline = Timeline(live)
        self._state: bytes | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- of the thread that listens -----------------------------------------------------------

    def put(self, record: dict[str, Any]) -> None:
        """Take a record, without waiting."""
        if record["type"] == "window":
            return
        self._incoming.append(record)
        loop = self._loop
        try:
            if loop is None:
                raise RuntimeError
            loop.call_soon_threadsafe(self._take)
        except RuntimeError:  # it does not run
            self.lost += 1

    # --- of the server's ----------------------------------------------------------------------

    async def run(self) -> None:
        """Tell the state for as long as someone watches; until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._news, self._someone = asyncio.Event(), asyncio.Event()
        self._take()
        try:
            while True:
                await self._someone.wait()
                self._state = b"event: state\ndata: " + self._snapshots.newest() + b"\n\n"
                self._tell_news()
                await asyncio.sleep(STATE_S)
        finally:
            self._loop = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a viewer until it leaves."""
        head_only = scope["method"] == "HEAD"
        full = self.viewers >= VIEWERS
        more = [(b"retry-after", b"5"), (b"content-length", b"0")] if full else []
        status = 503 if full else 200
        await send({"type": "http.response.start", "status": status, "headers": _HEADERS + more})
        if full or head_only:
            await send({"type": "http.response.body"})
            return
        after = Request(scope).headers.get("last-event-id", "")
        self._come()
        writer = asyncio.create_task(self._write(send, self._position(after)))
        try:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            writer.cancel()
            self._leave()

    async def _write(self, send: Send, position: int) -> None:
        async def write(body: bytes) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": True})

        await write(f"retry: {RETRY_MS}\n\n".encode())
        shown = None
        while True:
            news = self._news
            first = self._number - len(self._events)
            self.lost += max(0, first - position)
            wanted = itertools.islice(self._events, max(0, position - first), None)
            message = b"".join(event for _, event in wanted)
            position = self._number
            if self._state is not None and self._state is not shown:
                shown = self._state
                message += shown
            if message:
                await write(message)
            await news.wait()

    def _position(self, last_event_id: str) -> int:
        """Where in the row to begin: behind what a viewer had last, or at its end."""
        start, _, number = last_event_id.partition("-")
        if start == self._start and number.isascii() and number.isdecimal():
            return min(int(number[:18]), self._number)
        return self._number

    def _come(self) -> None:
        self.viewers += 1
        self._someone.set()

    def _leave(self) -> None:
        self.viewers -= 1
        if not self.viewers:
            self._someone.clear()
            self._state = None

    def _take(self) -> None:
        """Turn records into events."""
        while self._incoming:
            record = self._incoming.popleft()
            span = self._timeline.add(record)
            if span is not None:
                self._add(span.type, span.as_dict())
            elif record["type"] == "change":
                self._add("change", {**record, "name": language_name(record["language"])})
        self._tell_news()

    def _add(self, kind: str, data: dict[str, Any]) -> None:
        self._number += 1
        head = f"id: {self._start}-{self._number}\nevent: {kind}\ndata: "
        self._events.append((self._number, head.encode() + compact(data) + b"\n\n"))

    def _tell_news(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()
