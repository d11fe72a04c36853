"""A server on loopback, in front of a monitor that a real listener writes to."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge.audio.sources import Gap, Sound
from edge.frontend import Float32Array
from edge.listener import Listener
from edge.model.interpreter import Graphs
from edge.model.modelfile import ModelFile
from edge.outputs.monitor import Monitor
from edge.outputs.settings import Settings
from edge.outputs.stdout import heard_records
from edge.outputs.web.server import WebServer

TIMEOUT_S = 20.0
PRIVATE = ("/api/v1/state", "/api/v1/segments", "/api/v1/probabilities", "/api/v1/events")
PRIVATE_PATHS = frozenset({*PRIVATE, "/metrics"})


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A server, and how to ask it."""

    server: WebServer
    monitor: Monitor
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.server.address.port

    def ask(self, target: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            wanted = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, target, body, {**self.headers, **wanted})
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, told, answer.read())

    def connected(self, receive_bytes: int = 0) -> socket.socket:
        """A bare connection."""
        connection = socket.socket()
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(TIMEOUT_S)
        connection.connect(("127.0.0.1", self.port))
        return connection

    def raw(self, data: bytes) -> bytes:
        """All that comes back for some bytes, until the server ends the connection."""
        with self.connected() as connection:
            # It may have had enough before all of it is sent.
            with contextlib.suppress(ConnectionError):
                connection.sendall(data)
            return rest_of(connection)

    def put(self, record: dict[str, Any]) -> None:
        self.monitor.record(record)
        self.server.put(record)

    @contextlib.contextmanager
    def viewer(self, **headers: str) -> Iterator[Iterator[tuple[str, str, Any]]]:
        """Events of a viewer, as (id, kind, data)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            wanted = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request("GET", "/api/v1/events", headers={**self.headers, **wanted})
            answer = connection.getresponse()
            assert answer.status == 200
            yield events(answer)


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, str, Any]]:
    """Server-Sent Events in lines."""
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode().rstrip("\n").partition(": ")
        if colon:
            found[name] = value
        elif "data" in found:
            yield found.get("id", ""), found["event"], json.loads(found["data"])
            found = {}
        else:
            found = {}


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the end."""
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def serving(monitor: Monitor | None = None, **settings: str) -> Iterator[Served]:
    monitor = monitor or Monitor()
    server = WebServer(Settings(**{"web": "0", **settings}), monitor, [])  # type: ignore[arg-type]
    try:
        yield Served(server, monitor)
    finally:
        server.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """With nothing heard yet."""
    with serving() as running:
        yield running


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Served]:
    """One that wants a token."""
    with serving(web_token_file=str(tmp_path / "token")) as running:
        yield running


@pytest.fixture(scope="session")
def hear(model: ModelFile, graphs: Graphs) -> Callable[[Served, Iterable[Sound]], None]:
    """Has a real listener hear blocks, as fast as it can, and a server told of it."""

    def run(served: Served, blocks: Iterable[Sound]) -> None:
        def noted() -> Iterator[Sound]:
            for block in blocks:
                if isinstance(block, Gap):
                    served.monitor.gap()
                else:
                    served.monitor.audio(block)  # type: ignore[arg-type]
                yield block
                served.monitor.took(0.001, 0.099)

        listener = Listener(model, graphs, model.description.decoder)
        for heard in listener.hear(noted()):
            served.monitor.heard(heard, model.labels)
            for record in heard_records(heard, model.labels, False):
                served.put(record)

    return run


@pytest.fixture(scope="session")
def full(hear: Callable[[Served, Iterable[Sound]], None], speech: Float32Array) -> Iterator[Served]:
    """With the sample and a gap heard: for tests that only read."""
    blocks: list[Sound] = [speech[i : i + 1600] for i in range(0, len(speech), 1600)]
    blocks.insert(300, Gap(48_000, "device lost"))
    with serving() as running:
        hear(running, blocks)
        yield running
