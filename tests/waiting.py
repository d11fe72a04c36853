"""Waiting for what comes about in its own time, in another thread or process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 120.0  # for what takes moments, on a machine that is busy


def wait_until(condition: Callable[[], T], shown: Callable[[], object] | None = None) -> T:
    """Wait until something is so, and give what tells that it is.

    Parameters
    ----------
    condition : callable
        Asked again and again, until what it gives is true.
    shown : callable
        What to show where it has not come about in `PATIENCE_S`.
    """
    until_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < until_s, shown and shown()
        time.sleep(0.02)
    return found
