"""A slow, hanging or failing consumer loses its own records, counted, and delays nobody."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from edge.errors import EdgelidError
from edge.outputs.outlet import Outlet
from tests.waiting import wait_until

PATIENCE_S = 30.0  # of tests, for threads on a machine that is busy


def record(number: int) -> dict[str, Any]:
    return {"type": "change", "number": number}


def test_records_come_in_order_and_none_is_lost_at_the_end() -> None:
    came: list[int] = []
    outlet = Outlet("list", lambda r: came.append(r["number"]))
    for number in range(100):
        outlet.put(record(number))
    outlet.close()
    assert came == list(range(100))
    assert outlet.lost == 0


def test_one_that_hangs_loses_the_oldest_and_holds_nobody_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go, hangs = threading.Event(), threading.Event()
    came: list[int] = []

    def consume(r: dict[str, Any]) -> None:
        hangs.set()
        assert go.wait(PATIENCE_S)
        came.append(r["number"])

    outlet = Outlet("slow", consume, capacity=3)
    outlet.put(record(0))
    assert hangs.wait(PATIENCE_S)
    for number in range(1, 9):
        outlet.put(record(number))  # returns at once, or this test would never end
    assert outlet.lost == 5
    go.set()
    outlet.close()
    assert came == [0, 6, 7, 8]
    warnings = [r.getMessage() for r in caplog.records]
    assert warnings == [
        "slow: events are lost (it is too slow)",
        "slow: events get through again; 5 were lost",
    ]


@pytest.mark.parametrize("error", [EdgelidError("the disk is full."), OSError(5, "broken")])
def test_what_fails_is_said_once_and_counted(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def consume(r: dict[str, Any]) -> None:
        if r["number"] < 3:
            raise error

    outlet = Outlet("faulty", consume)
    for number in range(5):
        outlet.put(record(number))
    outlet.close()
    assert outlet.lost == 3
    assert [r.levelno for r in caplog.records] == [logging.WARNING] * 2


def test_each_failure_has_a_count_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    def consume(r: dict[str, Any]) -> None:
        if r["number"] in (0, 1, 3):
            raise OSError(5, "broken")

    outlet = Outlet("faulty", consume)
    for number in range(5):
        outlet.put(record(number))
        expected = (1, 1, 2, 3, 4)[number]
        wait_until(lambda expected=expected: len(caplog.records) >= expected)
    outlet.close()
    assert outlet.lost == 3
    came = [r.getMessage()[-11:] for r in caplog.records]
    assert [said for said in came if said.endswith("were lost")] == ["2 were lost", "1 were lost"]


def test_the_end_does_not_wait_for_one_that_hangs() -> None:
    never = threading.Event()
    outlet = Outlet("stuck", lambda r: bool(never.wait(PATIENCE_S)))
    outlet.put(record(0))
    outlet.close()
    assert any(t.name == "outlet-stuck" for t in threading.enumerate())  # left behind, as a daemon
    never.set()
