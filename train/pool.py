"""Work shared out to processes, in order and in bounded memory, however many jobs there are."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from edge.errors import EdgelidError

Job = TypeVar("Job")
Result = TypeVar("Result")

CHUNK_JOBS = 32  # sent to a process at once
CHUNKS_AHEAD = 4  # for each process: none waits for the next, and results do not pile up


class _Worker:
    """What a worker process has been started with."""

    function: Callable[[Any], Any]

    @classmethod
    def start(cls, function: Callable[[Any], Any]) -> None:
        # Ctrl-C reaches all processes of a terminal: the one that started this one will end it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
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
    # Spawned, as a forked process could wait for ever for a lock that some thread of TensorFlow
    # or polars held at that moment.
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _Worker.start, (function,)
    )
    left = iter(jobs)
    waiting: deque[Future[list[Any]]] = deque()
    try:
        while True:
            while len(waiting) < workers * CHUNKS_AHEAD and (chunk := [*islice(left, chunk_jobs)]):
                waiting.append(pool.submit(_Worker.run, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()
    except BrokenProcessPool as error:
        raise EdgelidError(
            "a worker process died, perhaps for want of memory: give fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
