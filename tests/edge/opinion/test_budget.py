"""The budget: never more than a share of any minute."""

from __future__ import annotations

import random

import pytest

from edge.opinion.budget import SPAN_S, Budget


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 1.0])
def test_no_minute_takes_more(share: float) -> None:
    budget = Budget(share, expected_s=0.5)
    spent: list[tuple[float, float]] = []
    for tenth in range(3_000):
        now_s = tenth / 10
        if budget.allows(now_s):
            budget.spend(now_s, 0.5)
            spent.append((now_s, 0.5))
    assert bool(spent) == (share * SPAN_S >= 0.5)
    for now_s, _ in spent:
        assert sum(s for at, s in spent if now_s - SPAN_S < at <= now_s) <= share * SPAN_S + 1e-9


def test_the_next_answer_is_expected_to_take_as_long_as_the_longest() -> None:
    rng = random.Random(0)
    budget = Budget(0.25, expected_s=0.1)
    budget.spend(0.0, 3.0)  # this one surprises it
    spent = [(0.0, 3.0)]
    for second in range(1, 600):
        if budget.allows(second):
            took_s = rng.uniform(0.1, 3.0)
            budget.spend(second, took_s)
            spent.append((second, took_s))
    for now_s, _ in spent:
        assert sum(s for at, s in spent if now_s - SPAN_S < at <= now_s) <= 0.25 * SPAN_S


def test_what_takes_more_than_a_minutes_share_comes_seldom() -> None:
    """As often as the share allows in the long run, and not never."""
    budget = Budget(0.01, expected_s=1.8)
    asked = []
    for second in range(1_000):
        if budget.allows(second):
            budget.spend(second, 1.8)
            asked.append(second)
    assert asked == [180, 360, 540, 720, 900]


def test_one_slow_answer_is_not_held_against_all_that_follow() -> None:
    budget = Budget(0.05, expected_s=0.5)
    assert budget.allows(0.0)
    budget.spend(0.0, 3.2)  # as when the board was out of memory for a moment
    assert not budget.allows(63.0)
    assert budget.allows(64.0)
    budget.spend(64.0, 0.5)
    assert budget.allows(65.0)


def test_another_share() -> None:
    budget = Budget(0.01, expected_s=1.0)
    assert not budget.allows(0.0)
    assert budget.is_scarce
    budget.change(0.5)
    assert budget.allows(0.0)
    assert not budget.is_scarce


def test_what_opening_the_model_takes_counts_and_is_no_measure_of_an_answer() -> None:
    budget = Budget(0.1, expected_s=0.5)
    budget.spend(0.0, 5.8, work=None)
    assert not budget.allows(1.0)
    assert budget.allows(SPAN_S)
    assert not budget.is_scarce


def test_what_is_shorter_is_expected_to_take_less() -> None:
    budget = Budget(0.1, expected_s=3.0)
    budget.spend(0.0, 3.5)
    assert not budget.allows(1.0)
    assert budget.allows(1.0, work=2 / 3)
    budget.spend(1.0, 2.4, work=2 / 3)  # a whole window would have taken 3.6
    assert not budget.allows(SPAN_S, work=1.01)
    assert budget.allows(SPAN_S, work=0.99)
