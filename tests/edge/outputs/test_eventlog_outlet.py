"""The event log holds nobody up, and what it could not take is counted and told in it."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.outputs.eventlog_outlet import LogOutlet
from edge.outputs.outlet import CAPACITY

FILE_BYTES = 1_000_000
PATIENCE_S = 30.0


def event(number: int) -> dict[str, Any]:
    return {"type": "change", "number": number}


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Card:
    """A card on which records can get stuck on their way."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def fdatasync(self, descriptor: int) -> None:
        self.reached.set()
        assert self.free.wait(PATIENCE_S)

    @contextmanager
    def stuck(self, log: LogOutlet) -> Iterator[None]:
        """With the first event of a log on its way."""
        self.reached.clear()
        self.free.clear()
        try:
            log.put(event(0))
            assert self.reached.wait(PATIENCE_S)
            yield
        finally:
            self.free.set()


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    card = Card()
    monkeypatch.setattr(os, "fdatasync", card.fdatasync)
    return card


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_a_card_that_blocks_holds_nobody_up(
    card: Card, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogOutlet(path, FILE_BYTES, 2)
    with card.stuck(log):
        for number in range(1, CAPACITY + 8):
            log.put(event(number))  # returns at once, or this test would never end
        assert log.lost == 7
    log.close()
    first, lost, *rest = records(path)
    assert (first, rest) == (event(0), [event(n) for n in range(8, CAPACITY + 8)])
    assert (lost["type"], lost["events"]) == ("lost", 7)
    assert log.lost == 7
    assert [r.getMessage() for r in caplog.records] == [
        "log: events are lost (it is too slow)",
        "log: events get through again; 7 were lost",
    ]


def test_a_file_waits_for_the_card(card: Card, path: Path) -> None:
    log = LogOutlet(path, FILE_BYTES, 2, wait_s=PATIENCE_S)
    events = [event(number) for number in range(2 * CAPACITY)]
    with card.stuck(log):
        rest = threading.Thread(target=lambda: [log.put(e) for e in events[1:]])
        rest.start()
    rest.join()
    log.close()
    assert records(path) == events
    assert log.lost == 0


def test_the_end_does_not_wait_for_ever(
    card: Card, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogOutlet(path, FILE_BYTES, 2)
    with card.stuck(log):
        log.put(event(1))
        log.close()
        assert "ends without its last events" in caplog.text


def test_what_cannot_be_written_is_counted_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = LogOutlet(path, FILE_BYTES, 2)
    path.unlink()
    path.parent.rmdir()
    log.put(event(0))
    log.put(event(1))
    log.close()
    assert log.lost == 2
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_windows_stay_out_and_bounds_change(path: Path) -> None:
    log = LogOutlet(path, FILE_BYTES, 3)
    log.put({"type": "window"})
    log.bound(100, 2)
    for number in range(40):
        log.put(event(number))
    log.close()
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, f"{path.name}.1"]
    assert path.stat().st_size <= 100
    assert records(path)[-1] == event(39)
