"""Jobs spread over machines by Ray, where that is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from typing import Any, TypeVar

from edge.errors import EdgelidError

Job = TypeVar("Job")
Result = TypeVar("Result")

LOCAL = "local"  # the address of a cluster that is started here, for this work
TASKS_A_PROCESSOR = 2  # given out at a time: one that is worked at, one that waits


def spread(
    function: Callable[[Job], Result], jobs: Sequence[Job], address: str
) -> Generator[tuple[int, Result], None, None]:
    """Results of jobs with their numbers, as they come.

    Parameters
    ----------
    function : callable
        The other machines must have this package, and the same files under the same names.
    jobs : sequence
    address : str
        Of a Ray cluster, ``auto`` for the one that this machine belongs to, or `LOCAL`.

    Raises
    ------
    EdgelidError
        If Ray is not installed, the cluster cannot be reached, or one of its processes dies for
        good; and whatever `function` raises of the kind.
    """
    try:
        import ray
    except ImportError as error:
        raise EdgelidError(
            'ray is missing: pip install "edgelid[edge,train,cluster]", or leave --ray out'
        ) from error
    _connect(ray, address)
    try:
        work = ray.put(function)
        task = ray.remote(_call)
        most = TASKS_A_PROCESSOR * max(1, int(ray.cluster_resources().get("CPU", 1)))
        waiting = iter(enumerate(jobs))
        given: dict[Any, int] = {}
        while True:
            while len(given) < most and (job := next(waiting, None)) is not None:
                given[task.remote(work, job[1])] = job[0]
            if not given:
                return
            (ready,), _ = ray.wait(list(given), num_returns=1)
            yield given.pop(ready), _result(ray, ready)
    finally:
        ray.shutdown()


def _call(function: Callable[[Job], Result], job: Job) -> Result:
    return function(job)


def _connect(ray: Any, address: str) -> None:
    # It has a word for everything that it does, and says it twice.
    settings: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == LOCAL:
        settings["include_dashboard"] = False
    try:
        ray.init(address, **settings)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise EdgelidError(f"cannot use the Ray cluster {address}: {reason}") from error


def _result(ray: Any, ready: Any) -> Any:
    try:
        return ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, EdgelidError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        raise EdgelidError(
            f"a process of the Ray cluster died ({type(error).__name__}): the same command goes on"
        ) from error
