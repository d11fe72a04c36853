"""The web server, in a thread of its own: listening goes on whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from edge.errors import EdgelidError
from edge.outputs.monitor import Monitor
from edge.outputs.web.address import Address, parse_address
from edge.outputs.web.api import Api
from edge.outputs.web.connection import CONNECTIONS, HEAD_BYTES, Connection
from edge.outputs.web.feed import Feed
from edge.outputs.web.guard import Guard
from edge.outputs.web.metrics import Metrics
from edge.outputs.web.secret import new_token, token_of
from edge.outputs.web.settings import WebSettings
from edge.outputs.web.snapshot import Snapshots

if TYPE_CHECKING:
    from edge.outputs.outlet_settings import Running

logger = logging.getLogger(__name__)

RETRY_S = 10.0  # between attempts at a port that is taken
LEAVE_S = 1.0
TICK_S = 1.0  # the date of an answer tells the second
IDLE_S = 15  # a connection may wait for its next request
# What waits to be sent to one that does not read is the kernel's memory, too.
SEND_BYTES = 1 << 16


class WebServer:
    """Serves page, API and metrics from the start on, until `close`.

    Parameters
    ----------
    settings : WebSettings
    monitor : Monitor
    outlets : sequence of Running
        To tell of in the metrics.

    Attributes
    ----------
    name : str
    address : Address
        Where it is to be had, once it is.

    Raises
    ------
    EdgelidError
        If the settings are no good. A port that is taken is no reason: it is tried again.
    """

    name = "web"

    def __init__(self, settings: WebSettings, monitor: Monitor, outlets: Sequence[Running]) -> None:
        self.address = parse_address(settings.web)
        self._token: str | None = None
        self._token_is_new = False
        if settings.web_token_file:
            self._token = token_of(Path(settings.web_token_file))
        elif not self.address.is_loopback:
            self._token, self._token_is_new = new_token(), True
        snapshots = Snapshots(monitor)
        self._feed = Feed(snapshots, monitor.live)
        api = Api(monitor, snapshots, self._feed, Metrics(monitor, self._feed, outlets))
        host = self.address.url_host if self.address.is_loopback else None
        self._app = Guard(api.router, self._token, host)
        # Whatever a stranger sends is no news, and our own faults are told by the guard.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        self._ending = threading.Event()
        self._server: Server | None = None
        self._told = ""
        self._socket = self._bound()
        self._thread = threading.Thread(target=self._work, name="web", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Events that did not get to viewers, or to none."""
        return self._feed.lost

    def put(self, record: dict[str, Any]) -> None:
        """Hand over an event; never waits."""
        self._feed.put(record)

    def close(self) -> None:
        """End, within `LEAVE_S`."""
        self._ending.set()
        server = self._server
        if server is not None:
            server.end()
        self._thread.join(LEAVE_S)

    def _bound(self) -> socket.socket | None:
        """A socket that listens, or None if that has to be tried again.

        Raises
        ------
        EdgelidError
            If trying again does not help.
        """
        try:
            bound = bound_socket(self.address)
        except OSError as error:
            self._tell_failure(error.strerror or str(error))
            return None
        self.address = replace(self.address, port=bound.getsockname()[1])
        url = self.address.url()
        if self._token_is_new:
            url += f"?token={self._token}"
        logger.warning("the web page is at %s", url)
        self._told = ""
        return bound

    def _tell_failure(self, reason: str) -> None:
        if reason != self._told:  # once
            self._told = reason
            logger.warning(
                "no web page at %s (%s): tried again every %.0f s; listening goes on",
                *(self.address.url(), reason.rstrip("."), RETRY_S),
            )

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                if self._socket is None:
                    self._socket = self._bound()
                if self._socket is not None:
                    asyncio.run(self._serve(self._socket))
            except Exception as error:  # none is worth ending the program for
                self._tell_failure(str(error) or repr(error))
            if not self._ending.is_set():
                self._socket = None
                self._ending.wait(RETRY_S)

    async def _serve(self, bound: socket.socket) -> None:
        asyncio.get_running_loop().set_exception_handler(_say_little)
        config = uvicorn.Config(
            self._app,
            http=functools.partial(Connection, self._count_stuck),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEAD_BYTES,
            backlog=CONNECTIONS,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=0,
        )
        self._server = server = Server(config)
        server.should_exit = self._ending.is_set()
        ticking = asyncio.create_task(self._feed.run())
        ticking.add_done_callback(lambda _: server.end())
        try:
            with bound:
                await server.serve(sockets=[bound])
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    def _count_stuck(self) -> None:
        self._feed.lost += 1


class Server(uvicorn.Server):
    """A server that wakes up every `TICK_S` while nobody asks, and not ten times a second.

    Parameters
    ----------
    config : uvicorn.Config
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Have it end soon; any thread may."""
        self.should_exit = True
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._ended.set)

    async def main_loop(self) -> None:
        """Keep the date of the answers, until the end."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), TICK_S)


def bound_socket(address: Address) -> socket.socket:
    """A socket that listens.

    Raises
    ------
    EdgelidError
        If trying again does not help.
    OSError
        If it may.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
            bound.bind(place)
            bound.listen(CONNECTIONS)
            bound.setblocking(False)
        except OSError:
            bound.close()
            raise
    except PermissionError as error:
        raise EdgelidError(
            f"the web page may not have port {address.port} ({error.strerror}): choose one from "
            "1024 on."
        ) from error
    return bound


def _say_little(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Connections break in many ways, none of which is of interest to who reads the journal."""
    logger.debug("web: %s (%r)", context["message"], context.get("exception"))
