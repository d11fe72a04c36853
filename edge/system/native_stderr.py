"""Redirection of what libraries in C and C++ print to standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

logger = logging.getLogger(__name__)

LEAVE_S = 0.2
PIPE_BYTES = 1 << 16  # what a pipe of Linux holds

_turning = threading.Lock()  # descriptor 2, and what follows, are those of the whole process
_turned: list[int] = []  # writing ends of the pipes that it is turned to, the newest last
_real = -1  # standard error itself, meanwhile


def log_stream() -> TextIO | None:
    """Standard error for the log, which `stderr_to_log` does not turn away; None if there is none.

    Any thread may log at any time, and its one line must not be lost.
    """
    stream = sys.__stderr__
    if stream is None or sys.stderr is not stream:
        return sys.stderr
    copy = os.dup(stream.fileno())
    return open(copy, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)


@contextlib.contextmanager
def threads_stderr_to_log(library: str) -> Iterator[None]:
    """Pass on to the log, at level debug, whatever a library's own threads print meanwhile.

    PortAudio's do when a device is taken away, at any time. As `stderr_to_log`, but for as long as
    one likes: a thread reads it. What Python itself prints to standard error still goes there.

    Parameters
    ----------
    library : str
        What to call it in the log.
    """
    ours = sys.stderr
    if sys.__stderr__ is None or ours is None:
        yield
        return
    ours.flush()
    reading_end, writing_end = os.pipe()
    os.set_blocking(writing_end, False)  # a thread that records audio must not wait for us
    _turn_to(writing_end)
    reader = threading.Thread(target=_pass_on, args=(reading_end, library), daemon=True)
    reader.start()
    with open(os.dup(_real), "w", buffering=1, errors=sys.__stderr__.errors) as own:
        if ours is sys.__stderr__:
            sys.stderr = own
        try:
            yield
        finally:
            if sys.stderr is own:
                sys.stderr = ours
            _turn_back(writing_end)
            reader.join(LEAVE_S)  # a child of ours may have the pipe, and keep it


def _pass_on(reading_end: int, library: str) -> None:
    with open(reading_end, errors="replace") as pipe:
        for line in pipe:
            logger.debug("%s: %s", library, line.rstrip("\n"))


@contextlib.contextmanager
def stderr_to_log(library: str) -> Iterator[None]:
    """Pass on to the log, at level debug, what a library prints meanwhile.

    It prints to the file descriptor, where Python cannot catch it, and also on the way to
    success. Whatever else writes to standard error in the meantime goes there, too, but not what
    is logged to `log_stream`, from this thread or another. Any number of threads may do so at once;
    what is printed meanwhile goes to the log under one of their names.

    Parameters
    ----------
    library : str
        What to call it in the log.
    """
    if sys.__stderr__ is None:  # closed at the start, and descriptor 2 may by now be any file
        yield
        return
    reading_end, writing_end = os.pipe()
    # Rather lose the end of a long complaint than wait for a reader.
    os.set_blocking(reading_end, False)
    os.set_blocking(writing_end, False)
    _turn_to(writing_end)
    try:
        yield
    finally:
        _turn_back(writing_end)
        with contextlib.suppress(BlockingIOError):
            for line in os.read(reading_end, PIPE_BYTES).decode(errors="replace").splitlines():
                logger.debug("%s: %s", library, line)
        os.close(reading_end)


def _turn_to(writing_end: int) -> None:
    """Have descriptor 2 be the end of a pipe, until `_turn_back`."""
    global _real
    with _turning:
        if not _turned:
            _real = os.dup(2)
        os.dup2(writing_end, 2)
        _turned.append(writing_end)


def _turn_back(writing_end: int) -> None:
    """Close the end of a pipe, and have descriptor 2 be what it is without.

    Threads end in any order: what descriptor 2 was when one began may be closed by now.
    """
    with _turning:
        _turned.remove(writing_end)
        os.dup2(_turned[-1] if _turned else _real, 2)
        os.close(writing_end)
        if not _turned:
            os.close(_real)
