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
    stderr_copy = os.dup(2)
    reading_end, writing_end = os.pipe()
    os.set_blocking(writing_end, False)  # a thread that records audio must not wait for us
    os.dup2(writing_end, 2)
    os.close(writing_end)
    reader = threading.Thread(target=_pass_on, args=(reading_end, library), daemon=True)
    reader.start()
    with open(os.dup(stderr_copy), "w", buffering=1, errors=sys.__stderr__.errors) as own:
        if ours is sys.__stderr__:
            sys.stderr = own
        try:
            yield
        finally:
            sys.stderr = ours
            os.dup2(stderr_copy, 2)
            os.close(stderr_copy)
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
    is logged to `log_stream`, from this thread or another.

    Parameters
    ----------
    library : str
        What to call it in the log.
    """
    if sys.__stderr__ is None:  # closed at the start, and descriptor 2 may by now be any file
        yield
        return
    stderr_copy = os.dup(2)
    reading_end, writing_end = os.pipe()
    # Rather lose the end of a long complaint than wait for a reader.
    os.set_blocking(reading_end, False)
    os.set_blocking(writing_end, False)
    os.dup2(writing_end, 2)
    os.close(writing_end)
    try:
        yield
    finally:
        os.dup2(stderr_copy, 2)
        os.close(stderr_copy)
        with contextlib.suppress(BlockingIOError):
            for line in os.read(reading_end, PIPE_BYTES).decode(errors="replace").splitlines():
                logger.debug("%s: %s", library, line)
        os.close(reading_end)
