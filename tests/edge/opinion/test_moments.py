"""When it is asked: not in silence, not too early, often in doubt, and rarely to confirm."""

from __future__ import annotations

import pytest

from edge.opinion.moments import (
    CONFIRM_S,
    DISPUTE_S,
    FIRST_S,
    LEAST_S,
    PATIENCE_S,
    PAUSE_S,
    UNSURE_S,
    Moment,
    Moments,
)

HOP_S = 0.1
WINDOW_S = 3.0
SURE = {"sure": 0.95, "is_announced": True, "is_disputed": False}
UNSURE = {"sure": 0.5, "is_announced": False, "is_disputed": True}
DISPUTED = {"sure": 0.95, "is_announced": True, "is_disputed": True}


def asked(
    script: list[tuple[float, bool, dict[str, object]]], ahead_s: float = 0.0
) -> list[tuple[float, float]]:
    """Stretches that are asked about, of a script: until when, whether speech, and how sure."""
    moments = Moments(WINDOW_S, ahead_s)
    found: list[tuple[float, float]] = []
    hop = 0
    for until_s, is_speech, state in script:
        while hop * HOP_S < until_s - 1e-9:
            hop += 1
            end_s = hop * HOP_S
            nonspeech = 0.1 if is_speech else 0.9
            moment = Moment(end_s, nonspeech, min(0.5, end_s), **state)  # type: ignore[arg-type]
            stretch = moments.wanted(moment)
            if stretch is not None:
                moments.asked(stretch[1])
                found.append((round(stretch[0], 3), round(stretch[1], 3)))
    return found


def test_silence_is_never_asked_about() -> None:
    assert asked([(60.0, False, UNSURE)]) == []


def test_first_once_there_is_enough_speech_and_again_once_there_is_a_window() -> None:
    stretches = asked([(5.0, False, UNSURE), (25.0, True, SURE)])
    (start_s, end_s), (second_s, later_s), *_ = stretches
    assert FIRST_S <= end_s - start_s <= FIRST_S + 2 * HOP_S
    assert start_s >= 5.0 - 0.5  # nothing of the silence before, but for a short window
    assert later_s - second_s == pytest.approx(WINDOW_S)
    assert later_s - end_s == pytest.approx(DISPUTE_S, abs=HOP_S)
    assert len(stretches) == 2 + int((25.0 - later_s) // CONFIRM_S)


def test_what_has_been_heard_since_is_asked_about_with_the_rest() -> None:
    """So that the first answer comes as much sooner, and has heard as much."""
    script = [(5.0, False, UNSURE), (25.0, True, SURE)]
    now, sooner = asked(script), asked(script, ahead_s=0.5)
    assert sooner[: len(now)] == now  # the last hop is as much sooner, too
    # Of speech that is over, there is no more.
    brief = [(5.0, False, UNSURE), (6.8, True, UNSURE), (9.0, False, UNSURE)]
    assert asked(brief, ahead_s=0.5) == asked(brief)


def test_what_is_over_too_soon_is_asked_about_when_it_ends() -> None:
    brief = [(5.0, False, UNSURE), (7.2, True, UNSURE), (9.0, False, UNSURE)]
    assert LEAST_S <= 2.2 < FIRST_S
    ((start_s, end_s),) = asked(brief)
    assert (start_s, end_s) == (pytest.approx(5.0, abs=0.5), pytest.approx(7.2 + HOP_S))
    word = [(5.0, False, UNSURE), (6.0, True, UNSURE), (9.0, False, UNSURE)]
    assert asked(word) == []


def test_often_in_doubt_less_in_dispute_rarely_to_confirm() -> None:
    counts = [len(asked([(61.0, True, state)])) for state in (UNSURE, DISPUTED, SURE)]
    expected = [(61.0 - FIRST_S) / step_s + 1 for step_s in (UNSURE_S, DISPUTE_S, CONFIRM_S)]
    for count, most in zip(counts, expected, strict=True):
        assert 0.85 * most - 1 <= count <= most + 1
    assert counts == sorted(counts, reverse=True)


def test_no_stretch_is_longer_than_the_model_hears() -> None:
    assert all(b - a <= WINDOW_S + 1e-6 for a, b in asked([(30.0, True, UNSURE)]))


def test_behind_a_pause_only_what_follows_it() -> None:
    pause_s = 2 * PAUSE_S
    stretches = asked([(10.0, True, SURE), (10.0 + pause_s, False, SURE), (20.0, True, SURE)])
    behind = [start_s for start_s, end_s in stretches if end_s > 10.0]
    assert behind
    assert min(behind) >= 10.0 + pause_s - 0.5


def test_behind_a_short_pause_nothing_is_heard_across_it() -> None:
    pause = (10.4, False, SURE)
    stretches = asked([(10.0, True, SURE), pause, (20.0, True, SURE)])
    behind = [(start_s, end_s) for start_s, end_s in stretches if end_s > 10.0]
    assert all(start_s >= 10.4 - 0.5 for start_s, _ in behind)
    assert behind[0][1] - behind[0][0] <= WINDOW_S + HOP_S  # whoever speaks now, it is asked soon


def test_speech_in_pieces_is_asked_about_in_the_end() -> None:
    words: list[tuple[float, bool, dict[str, object]]] = []
    for word in range(20):
        words += [(word * 1.5 + 1.2, True, UNSURE), (word * 1.5 + 1.5, False, UNSURE)]
    stretches = asked(words)
    assert stretches[0][1] <= FIRST_S + PATIENCE_S + 1.5 + HOP_S
    assert 4 <= len(stretches) <= 30.0 / PATIENCE_S
