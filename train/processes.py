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

CHUNK_JOBS = 32  # sent to a process at once
CHUNKS_AHEAD = 4  # for each process: none waits for the next, and results do not pile up


@contextlib.contextmanager
def processes(
    count: int, start: Callable[..., None], *arguments: Any, finish: bool = False
) -> Iterator[ProcessPoolExecutor]:
    """Start processes.

    At the end of the block they end at once, whatever they are at; and also if this process is
    killed, which the executor alone would leave them waiting for ever after.

    Parameters
    ----------
    count : int
    start : callable
        What each calls first, with `arguments`.
    finish : bool
        Let each finish the job it is at. Needed where results are larger than a pipe takes at
        once: half of one would be waited for for ever.

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
        if not finish:
            line.close()
        pool.shutdown(cancel_futures=True)
        line.close()
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


class _Worker:
    """What a process of `mapped` has been started with."""

    function: Callable[[Any], Any]

    @classmethod
    def start(cls, function: Callable[[Any], Any]) -> None:
        cls.function = staticmethod(function)

    @classmethod
    def run(cls, jobs: list[Any]) -> list[Any]:
        return [cls.function(job) for job in jobs]


def mapped(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    chunk_jobs: int = CHUNK_JOBS,
) -> Generator[Result, None, None]:
    """Results of jobs, in their order.

    Parameters
    ----------
    function
        Is sent to each process once, so it can hold data.
    jobs
        Are taken as they are needed.
    workers
        Processes; with one, everything is done in this one.
    chunk_jobs
        How many are sent at once.

    Raises
    ------
    EdgelidError
        If a process dies.
    """
    if workers == 1:
        yield from map(function, jobs)
        return
    left = iter(jobs)
    chunks = iter(lambda: [*itertools.islice(left, chunk_jobs)], [])
    with processes(workers, _Worker.start, function) as pool:
        for results in in_order(pool, _Worker.run, chunks, workers * CHUNKS_AHEAD):
            yield from results


def _begin(line: Connection, start: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    # Ctrl-C reaches all processes of a terminal: the one that started this one will end it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(line,), daemon=True).start()
    start(*arguments)


def _end_with(line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        line.recv()
    os._exit(1)
