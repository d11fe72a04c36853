"""Running something hostile in a child process: what it does to that one is told to this one."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

CAUGHT = (
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGALRM,
    signal.SIGINT,
    signal.SIGTERM,
)


def data_bytes() -> int:
    """Writable memory of this process, which RLIMIT_DATA limits."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmData in /proc/self/status")


def in_child(work: Callable[[], str], seconds: int, more_bytes: int) -> tuple[int, str]:
    """Work in a fork of this process, which has no other threads.

    Returns
    -------
    int
        Exit status: zero, or minus the number of a signal.
    str
        What the work returned, or the end of the traceback of what it raised after "raised".
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        for number in CAUGHT:  # a fuzzer handles them, and would report the child's as its own
            signal.signal(number, signal.SIG_DFL)
        limit = data_bytes() + more_bytes
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(seconds)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            text = work()
        except BaseException as error:
            frame = error.__traceback__
            while frame is not None and frame.tb_next is not None:
                frame = frame.tb_next
            where = "" if frame is None else f"{frame.tb_frame.f_code.co_name}:{frame.tb_lineno}"
            text = f"raised {type(error).__name__} in {where}: {error}"
        os.write(writing, text.encode(errors="replace")[:4_000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        text = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, text


def give_way() -> None:
    """Let whatever else runs on this machine go first."""
    try:
        Path("/proc/self/autogroup").write_text("15")
    except OSError:  # a kernel without it
        os.nice(15)
    sys.stderr.flush()
