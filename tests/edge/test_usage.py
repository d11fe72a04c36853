"""Which languages are spoken: what was heard counts, up to a point and for a while."""

from __future__ import annotations

import pytest

from edge.languages import UNKNOWN
from edge.model.modelfile import NONSPEECH, OTHER
from edge.usage import BEFOREHAND_S, HALF_LIFE_S, MOST_S, Usage

LABELS = ("de", "en", "fr", OTHER, NONSPEECH)


def test_all_are_alike_to_begin_with() -> None:
    usage = Usage(LABELS)
    assert usage.weights == [BEFOREHAND_S] * len(LABELS)
    usage.add("de", 0.0, 20.0)
    usage.reset()
    assert usage.weights == [BEFOREHAND_S] * len(LABELS)


def test_a_language_counts_for_as_long_as_it_was_spoken() -> None:
    usage = Usage(LABELS)
    usage.add("de", 0.0, 20.0)
    usage.add("en", 20.0, 25.0)
    usage.add("de", 25.0, 35.0)
    german, english, *rest = usage.weights
    # What happened half a minute ago counts for 0.6 % less, of an hour's half.
    assert german == pytest.approx(BEFOREHAND_S + 30.0, rel=3e-3)
    assert english == pytest.approx(BEFOREHAND_S + 5.0, rel=3e-3)
    assert rest == [BEFOREHAND_S] * 3


@pytest.mark.parametrize("label", [OTHER, NONSPEECH, UNKNOWN])
def test_what_is_no_language_counts_for_nothing(label: str) -> None:
    usage = Usage(LABELS)
    usage.add(label, 0.0, 60.0)
    assert usage.weights == [BEFOREHAND_S] * len(LABELS)


def test_none_counts_for_more_than_two_minutes_so_that_visitors_catch_up() -> None:
    usage = Usage(LABELS)
    usage.add("de", 0.0, 7200.0)
    assert usage.weights[0] == BEFOREHAND_S + MOST_S
    usage.add("fr", 7200.0, 7200.0 + MOST_S)
    german, _, french, *_ = usage.weights
    assert french == BEFOREHAND_S + MOST_S
    assert german < french


def test_it_is_forgotten_by_and_by() -> None:
    usage = Usage(LABELS)
    usage.add("de", 0.0, 100.0)
    usage.add(NONSPEECH, 100.0, 100.0 + HALF_LIFE_S)
    assert usage.weights[0] == pytest.approx(BEFOREHAND_S + 50.0)


def test_where_time_begins_anew_nothing_is_forgotten() -> None:
    usage = Usage(LABELS)
    usage.add("de", 0.0, 100.0)
    usage.go_on()
    assert usage.weights[0] == BEFOREHAND_S + 100.0
    usage.add(NONSPEECH, 0.0, HALF_LIFE_S)
    assert usage.weights[0] == pytest.approx(BEFOREHAND_S + 50.0)
