"""Work shared out to processes comes back in order, and no more is under way than need be."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from edge.errors import EdgelidError
from train.parallel.pool import CHUNKS_AHEAD, mapped


@pytest.mark.parametrize("workers", [1, 2])
def test_in_order(workers: int) -> None:
    doubled = mapped(functools.partial(pow, 2), range(100), workers, chunk_jobs=7)
    assert list(doubled) == [2**n for n in range(100)]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = 0

    def jobs() -> Iterator[int]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield number

    results = mapped(abs, jobs(), 2, chunk_jobs=5)
    assert next(results) == 0
    assert taken == 2 * CHUNKS_AHEAD * 5
    results.close()


@pytest.mark.parametrize("results", [0, 1])
def test_given_up_while_large_results_are_on_their_way(results: int) -> None:
    """Nothing waits for the rest of them."""
    for _ in range(3):
        blocks = mapped(bytes, [1 << 24] * 100, 2, chunk_jobs=1)
        for _, block in zip(range(results), blocks, strict=False):
            assert len(block) == 1 << 24
        blocks.close()


def fail(number: int) -> None:
    raise EdgelidError(f"number {number} is bad")


def test_what_goes_wrong_there_goes_wrong_here() -> None:
    with pytest.raises(EdgelidError, match="number 7 is bad"):
        list(mapped(fail, [7], 2))


def test_a_process_that_dies() -> None:
    with pytest.raises(EdgelidError, match="give fewer --workers"):
        list(mapped(os._exit, [3], 2))
