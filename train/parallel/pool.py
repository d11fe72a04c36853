"""Jobs for processes, in order and in bounded memory, however many there are.

The processes end with the one that started them, whatever ends that one, and at once. Each has a
pipe of its own: an executor's share one, and where one of them is killed while it writes a large
result, the executor waits for the rest of it for ever.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from edge.errors import EdgelidError

Job = TypeVar("Job")
Result = TypeVar("Result")

CHUNK_JOBS = 32  # sent to a process at once
CHUNKS_AHEAD = 4  # for each process: none waits for the next, and results do not pile up


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
    yield from in_processes(function, jobs, workers, chunk_jobs)


def in_processes(
    function: Callable[[Job], Result], jobs: Iterable[Job], workers: int, chunk_jobs: int
) -> Generator[Result, None, None]:
    """As `mapped`, and in another process even if it is one."""
    left = iter(jobs)
    chunks = iter(lambda: [*islice(left, chunk_jobs)], [])
    # A thread for each process, so that results are fetched while nobody asks for them.
    threads = ThreadPoolExecutor(workers)
    try:
        with _processes(function, workers) as idle:

            def work(chunk: list[Job]) -> list[Result]:
                line = idle.get()
                try:
                    return _ask(line, chunk)
                finally:
                    idle.put(line)

            for results in in_order(threads, work, chunks, workers * CHUNKS_AHEAD):
                yield from results
    finally:
        threads.shutdown(cancel_futures=True)


def in_order(
    pool: Executor, function: Callable[[Job], Result], jobs: Iterable[Job], ahead: int
) -> Generator[Result, None, None]:
    """Results of jobs, in their order, of which `ahead` at most are given out."""
    left = iter(jobs)
    waiting: deque[Future[Result]] = deque()
    while True:
        while len(waiting) < ahead and (job := [*islice(left, 1)]):
            waiting.append(pool.submit(function, *job))
        if not waiting:
            return
        yield waiting.popleft().result()


@contextlib.contextmanager
def _processes(
    function: Callable[[Any], Any], count: int
) -> Iterator[queue.SimpleQueue[Connection]]:
    """Start processes; yields the lines to those that have nothing to do."""
    # Spawned, as a forked process could wait for ever for a lock that some thread of TensorFlow
    # or polars held at that moment.
    context = multiprocessing.get_context("spawn")
    idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
    started = []
    try:
        for _ in range(count):
            line, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, function), daemon=True)
            process.start()
            theirs.close()  # so that its end is noticed here
            started.append(process)
            idle.put(line)
        yield idle
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.join()


def _ask(line: Connection, chunk: list[Any]) -> list[Any]:
    try:
        line.send(chunk)
        answer = line.recv()
    except (EOFError, OSError) as error:
        raise EdgelidError(
            "a worker process died, perhaps for want of memory: give fewer --workers or --loaders"
        ) from error
    if isinstance(answer, Exception):
        raise answer
    results: list[Any] = answer
    return results


def _work(line: Connection, function: Callable[[Any], Any]) -> None:
    """What a process does: answer with results, or with what went wrong."""
    # They reach all processes of a terminal or service: the one that started this one will end it.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    end_with_parent()
    with contextlib.suppress(EOFError, OSError):
        while True:
            chunk = line.recv()
            answer: list[Any] | Exception
            try:
                answer = [function(job) for job in chunk]
            except Exception as error:
                answer = error
            line.send(answer)


def end_with_parent() -> None:
    """Have this process end with the one that started it, whatever ends that one."""
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
