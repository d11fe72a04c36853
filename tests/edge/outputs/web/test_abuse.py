"""All sorts of abuse at once, while the real command listens in real time."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from edge.audio.capture import RING_S
from edge.outputs.timeline import seconds_of
from tests.edge.live_soak import resident_bytes
from tests.edge.outputs.web.conftest import rest_of
from tests.edge.outputs.web.viewers import listening

pytestmark = pytest.mark.slow
LASTING_S = 12.0
MORE_BYTES = 32_000_000  # of memory, whatever is sent
HEAD = b"Host: localhost\r\n\r\n"
BIG = b"x" * 10_000_000
BAD = {
    "big": b"POST / HTTP/1.1\r\nContent-Length: 10000000\r\n" + HEAD + BIG,
    "chunked": b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD + b"989680\r\n" + BIG,
    "token": b"GET /metrics HTTP/1.1\r\nAuthorization: Bearer wrong\r\nConnection: close\r\n"
    + HEAD,
    "path": b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nConnection: close\r\n" + HEAD,
    "unseen": b"GET /api/v1/state%0A HTTP/1.1\r\nConnection: close\r\n" + HEAD,
    "headers": b"GET / HTTP/1.1\r\nX: " + b"a" * 1_000_000 + b"\r\n" + HEAD,
    "garbage": b"\x00\xff" * 50_000 + b"\r\n\r\n",
}


def test_listening_misses_nothing(tmp_path: Path) -> None:
    told, token = tmp_path / "told", tmp_path / "token"
    token.write_text("a-token-for-this-test\n")
    config = tmp_path / "edgelid.toml"
    config.write_text('web = "0"\nweb_token_file = "token"\n')
    options = ("--config", str(config), "--json", "--windows", "3")
    statuses: Counter[str] = Counter()
    ending = threading.Event()
    with (
        told.open("w") as stdout,
        listening(tmp_path, *options, minutes=0.1, stdout=stdout) as (process, port),
    ):
        while not told.stat().st_size:
            time.sleep(0.05)
        before_bytes = resident_bytes(process.pid)
        threads = [
            threading.Thread(target=worker, args=(port, ending, statuses))
            for worker in (ask_badly, hold_many, never_read, read_slowly, come_and_go)
        ]
        for thread in threads:
            thread.start()
        most_bytes = 0
        deadline_s = time.monotonic() + LASTING_S
        while time.monotonic() < deadline_s:
            most_bytes = max(most_bytes, resident_bytes(process.pid))
            time.sleep(0.1)
        ending.set()
        for thread in threads:
            thread.join()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == -signal.SIGTERM
    errors = (tmp_path / "errors").read_text()
    assert errors.count("\n") == 1, errors  # where the page is, and nothing else
    heard = [json.loads(line) for line in told.read_text().splitlines()]
    assert_nothing_is_missing(heard)
    late_s = lateness_s(heard)
    print(f"{sum(statuses.values())} requests: {dict(statuses)}")
    print(f"memory {before_bytes / 1e6:.1f} MB, at most {most_bytes / 1e6:.1f} MB")
    print(f"answers at most {1000 * late_s:.0f} ms later than at their best")
    assert late_s < RING_S  # later, and a microphone would lose audio
    assert most_bytes - before_bytes < MORE_BYTES
    assert set(statuses) <= {"400", "401", "404", "405", "408", "413", "431", "503", "cut", "200"}
    assert {"401", "404", "405", "413"} <= set(statuses)


def assert_nothing_is_missing(heard: list[dict[str, Any]]) -> None:
    ends_s = [record["end_s"] for record in heard if record["type"] == "window"]
    steps = [round(b - a, 3) for a, b in itertools.pairwise(ends_s)]
    assert set(steps[:-1]) == {0.16}  # the end of the file makes one of its own
    assert not [record for record in heard if record["type"] == "gap"]
    segments = [record for record in heard if record["type"] == "segment"]
    for before, after in itertools.pairwise(segments):
        assert before["end_s"] == after["start_s"]


def lateness_s(heard: list[dict[str, Any]]) -> float:
    windows = [record for record in heard if record["type"] == "window"]
    delays_s = [seconds_of(window["time"]) - window["end_s"] for window in windows]
    return max(delays_s) - min(delays_s)


def connected(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5.0)
    connection.settimeout(5.0)
    return connection


def ask_badly(port: int, ending: threading.Event, statuses: Counter[str]) -> None:
    while not ending.is_set():
        for request in BAD.values():
            with contextlib.suppress(OSError), connected(port) as connection:
                with contextlib.suppress(OSError):
                    connection.sendall(request)
                statuses[status_of(rest_of(connection))] += 1


def hold_many(port: int, ending: threading.Event, statuses: Counter[str]) -> None:
    """200 connections, of which half begin a request and none ends it."""
    while not ending.is_set():
        with contextlib.ExitStack() as stack:
            for number in range(200):
                with contextlib.suppress(OSError):
                    connection = stack.enter_context(connected(port))
                    if number % 2:
                        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
            ending.wait(2.0)
        ending.wait(1.0)  # the others, too, are to get in


def never_read(port: int, ending: threading.Event, statuses: Counter[str]) -> None:
    """Viewers, and requests in a pipeline, whose answers nobody takes."""
    events = (
        b"GET /api/v1/events HTTP/1.1\r\nAuthorization: Bearer a-token-for-this-test\r\n" + HEAD
    )
    page = b"GET /plots.js HTTP/1.1\r\n" + HEAD
    with contextlib.ExitStack() as stack:
        while not ending.is_set():
            for request in (events, page * 200):
                with contextlib.suppress(OSError):
                    connection = stack.enter_context(connected(port))
                    connection.sendall(request)
            ending.wait(0.5)


def read_slowly(port: int, ending: threading.Event, statuses: Counter[str]) -> None:
    while not ending.is_set():
        with contextlib.suppress(OSError), connected(port) as connection:
            connection.sendall(b"GET /plots.js HTTP/1.1\r\n" + HEAD)
            while not ending.wait(0.1) and connection.recv(1):
                pass


def come_and_go(port: int, ending: threading.Event, statuses: Counter[str]) -> None:
    while not ending.is_set():
        with contextlib.suppress(OSError), connected(port) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n" + HEAD)
        ending.wait(0.01)


def status_of(answer: bytes) -> str:
    found = re.match(rb"HTTP/1.1 (\d{3}) ", answer)
    return found[1].decode() if found else "cut"
