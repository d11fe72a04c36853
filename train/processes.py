"""Processes that work for this one, and end with it, however it ends."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from edge.errors import EdgelidError

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextlib.contextmanager
def processes(
    count: int, start: Callable[..., None], *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Start processes.

    At the end of the block they end at once, whatever they are at; and also if this process is
    killed, which the executor alone would leave them waiting for ever after.

    Parameters
    ----------
    count : int
    start : callable
        What each calls first, with `arguments`.

    Yields
    ------
    ProcessPoolExecutor

    Raises
    ------
    EdgelidError
        If one of them dies.
    """
    # Spawned, as a forked process could wait for ever for a lock that some thread of TensorFlow
    # held at that moment.
    context = multiprocessing.get_context("spawn")
    # Nothing is ever sent: its end is what the other side waits for.
    other, line = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, context, _begin, (other, start, arguments))
    try:
        yield pool
        pool.shutdown()
    except BrokenProcessPool as error:
        raise EdgelidError(
            "a worker process died, perhaps for want of memory: give fewer --workers or --loaders"
        ) from error
    finally:
        line.close()
        pool.shutdown(cancel_futures=True)
        other.close()


def in_order(
    pool: Executor, function: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
) -> Generator[Result, None, None]:
    """Results of jobs, in the order of the jobs, of which `ahead` at most are given out."""
    waiting = iter(jobs)
    given: deque[Future[Result]] = deque(
        pool.submit(function, job) for job in itertools.islice(waiting, ahead)
    )
    while given:
        result = given.popleft().result()
        given.extend(pool.submit(function, job) for job in itertools.islice(waiting, 1))
        yield result


def _begin(line: Connection, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # Ctrl-C reaches all processes of a terminal: the one that started this one will end it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    start(*arguments)


def _end_with(line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv()
    os._exit(1)
