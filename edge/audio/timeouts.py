"""Time limits for calls into libraries that may never return."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

POLL_S = 0.05


class Unanswered(Exception):
    """The call goes on, and nobody waits for it any longer."""


def patiently(call: Callable[[], Result], enough: Callable[[int], bool]) -> Result:
    """Make a call in a thread of its own, and wait for its end.

    Parameters
    ----------
    call : callable
    enough : callable
        Asked every `POLL_S` with the number of times it has been asked before: whether to stop
        waiting.

    Raises
    ------
    Unanswered
        If it was enough. What the call raises before that is raised here, too.
    """
    results: list[Result] = []
    failures: list[BaseException] = []
    done = threading.Event()

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=work, daemon=True).start()
    asked = 0
    while not done.wait(POLL_S):
        if enough(asked):
            raise Unanswered
        asked += 1
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # it holds this frame, which would hold it
    return results[0]
