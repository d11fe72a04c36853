"""Server-Sent Events: at once, again after a pause, and at nobody else's cost."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from typing import Any

import pytest

from edge.outputs.monitor import Monitor
from edge.outputs.timeline import time_of
from edge.outputs.web import connection, feed
from edge.outputs.web.snapshot import STATE_S
from tests.edge.outputs.web.conftest import TIMEOUT_S, Served, events, rest_of, serving
from tests.waiting import wait_until

EVENTS_REQUEST = b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def change(number: int, filling: str = "") -> dict[str, Any]:
    return {
        "type": "change",
        "language": "de",
        "previous": f"{number}{filling}",
        "start_s": number + 0.5,
        "decided_s": float(number),
        "confidence": 0.5,
        "time": time_of(time.time()),
    }


def test_events_lie_where_the_api_has_them_behind_a_clock_that_was_set_back() -> None:
    """As that of a board without a battery is when it has found the time."""
    with serving(Monitor(live=True)) as served, served.viewer() as told:
        next(told)
        for heard_s, clock_s in ((10.0, 1_010.0), (50.0, 1_020.0)):
            served.put({**change(0), "decided_s": heard_s, "time": time_of(clock_s)})
        times = {"start_s": 10.0, "end_s": 58.0, "time": time_of(1_028.0)}
        served.put({"type": "segment", "language": "de", "confidence": 0.5, **times})
        span = next(data for _, kind, data in told if kind == "segment")
        assert span == served.monitor.spans()[0].as_dict()
        assert span["end"] == 1_028.0


def test_state_and_events(served: Served) -> None:
    with served.viewer() as told:
        identity, kind, state = next(told)
        assert (identity, kind, state["language"]) == ("", "state", "unknown")
        served.put(change(1))
        served.put({"type": "window", "time": "never told"})
        served.put(
            {
                "type": "segment",
                "language": "unknown",
                "start_s": 0.0,
                "end_s": 1.5,
                "confidence": 0.4,
                "time": time_of(time.time()),
            }
        )
        news = (event for event in told if event[1] != "state")
        found = [next(news), next(news)]
    (_, first, data), (_, second, span) = found
    assert (first, data["language"], data["name"]) == ("change", "de", "German")
    assert (second, span) == ("segment", served.monitor.spans()[0].as_dict())


def test_the_state_is_told_a_few_times_a_second_while_someone_watches(served: Served) -> None:
    with served.viewer() as told, served.viewer() as also:
        states = [next(told)[2] for _ in range(6)]
        times = [state["time"] for state in states]
        assert all(b - a > STATE_S - 0.05 for a, b in itertools.pairwise(times))
        # All get the same; one who is slow, not all of them.
        assert any(next(also)[2] in states for _ in range(30))
    wait_until(lambda: not served.server._feed.viewers)
    assert served.server._feed._state is None


def test_what_was_missed_comes_again(served: Served) -> None:
    with served.viewer() as told:
        served.put(change(1))
        last = next(identity for identity, _, _ in told if identity)
    served.put(change(2))
    served.put(change(3))
    with served.viewer(Last_Event_ID=last) as told:
        assert [next(told)[2]["previous"] for _ in range(2)] == ["2", "3"]
    for nonsense in ("", "x", "1-1", f"{last[:-1]}x", f"{last}9999999999999999999999", "-", "é"):
        with served.viewer(Last_Event_ID=nonsense) as told:
            assert next(told)[1] == "state"


def test_events_of_before_the_row_are_lost_and_counted(served: Served) -> None:
    with served.viewer() as told:
        served.put(change(0))
        last = next(identity for identity, _, _ in told if identity)
    for number in range(1, feed.EVENTS + 11):
        served.put(change(number))
        if number % 100 == 0:  # what comes faster than it is taken would be lost before
            wait_until(lambda: not served.server._feed._incoming)
    wait_until(lambda: not served.server._feed._incoming)
    with served.viewer(Last_Event_ID=last) as told:
        assert next(told)[2]["previous"] == "11"
    assert served.server.lost == 10


def test_one_that_never_reads_is_cut_and_costs_no_one_else(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STUCK_S", 0.5)
    with served.connected(receive_bytes=2_048) as deaf, served.viewer() as told:
        deaf.sendall(EVENTS_REQUEST)
        wait_until(lambda: served.server._feed.viewers == 2)
        number, deadline_s = 0, time.monotonic() + TIMEOUT_S
        while served.server._feed.viewers == 2:
            assert time.monotonic() < deadline_s
            for _ in range(50):
                number += 1
                served.put(change(number, "x" * 4_000))
            while next(told)[2].get("previous", "").rstrip("x") != str(number):
                pass
        assert served.server.lost > 0
        assert next(told)[1] == "state"


def test_viewers_are_so_many_at_most(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(feed.VIEWERS):
            next(stack.enter_context(served.viewer()))
        answer = served.ask("/api/v1/events")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert served.ask("/api/v1/state").status == 200
    wait_until(lambda: not served.server._feed.viewers)


def test_half_open_connections_are_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    with served.connected() as silent, served.connected() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        for one in (silent, slow):
            assert rest_of(one).startswith(b"HTTP/1.1 408 ")
    with served.connected() as patient:  # between two requests it may take longer
        for _ in range(2):
            patient.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert patient.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.5)


def test_connections_are_so_many_at_most(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(connection.CONNECTIONS):
            stack.enter_context(served.connected())
        assert served.raw(b"").startswith(b"HTTP/1.1 503 ")
    wait_until(lambda: served.ask("/healthz").status == 200)


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    other = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    told = served.raw(one * 200 + other)
    assert (told.count(b"HTTP/1.1 200 "), told.count(b"HTTP/1.1 404 ")) == (200, 1)
    assert told.rindex(b"HTTP/1.1 200 ") < told.index(b"HTTP/1.1 404 ")


def test_the_events_are_what_browsers_read(served: Served) -> None:
    with served.connected() as viewer:
        viewer.sendall(EVENTS_REQUEST)
        data = b""
        while b"event: state" not in data:
            data += viewer.recv(1 << 16)
        served.put(change(1))
        while not re.search(rb"event: change\ndata: .*\n\n", data):
            data += viewer.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-type: text/event-stream" in head.lower()
    lines = [line for line in body.replace(b"\r\n", b"\n").split(b"\n") if b": " in line]
    assert [*events([*lines, b""])]
    assert lines[0] == b"retry: 1000"
