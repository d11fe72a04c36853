"""A pause is where nobody speaks, not all that lies between two languages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.borders import FINE_S, find_borders
from edge.classifier import Window

HOP_S = 0.1
CLASSES = 5
OLD, NEW, NONSPEECH = 0, 1, 4
UNCLEAR = None


def windows(script: list[tuple[int | None, int]]) -> list[Window]:
    """Short windows a hop apart: what they hear, and how many of them."""
    found: list[Window] = []
    for heard, count in script:
        probabilities = np.full(CLASSES, 0.2)
        if heard is not None:
            probabilities = np.full(CLASSES, 0.025)
            probabilities[heard] = 0.9
        for _ in range(count):
            end_s = FINE_S + HOP_S * len(found)
            found.append(Window(end_s - FINE_S, end_s, FINE_S, probabilities))
    return found


@pytest.mark.parametrize("quiet_moments", [1, 3])
def test_a_quiet_moment_in_unclear_speech_is_no_pause(quiet_moments: int) -> None:
    """Once, all from the first quiet window to the last was a pause, and its speech was lost."""
    pause = [(NONSPEECH, 20), (NEW, 30)]
    plain = [(OLD, 30), (UNCLEAR, 10 + quiet_moments), *pause]
    broken = [(OLD, 30), (UNCLEAR, 2), (NONSPEECH, quiet_moments), (UNCLEAR, 8), *pause]
    wanted = find_borders(windows(plain), OLD, NEW, NONSPEECH, HOP_S)
    found = find_borders(windows(broken), OLD, NEW, NONSPEECH, HOP_S)
    assert found == wanted
    begins = 30 + 10 + quiet_moments
    assert found.old_end_s == pytest.approx(begins * HOP_S)
    assert found.new_start_s == pytest.approx(FINE_S + (begins + 20 - 1) * HOP_S)


def test_a_pause_between_languages() -> None:
    found = find_borders(
        windows([(OLD, 30), (NONSPEECH, 20), (NEW, 30)]), OLD, NEW, NONSPEECH, HOP_S
    )
    assert found.old_end_s == pytest.approx(30 * HOP_S)
    assert found.pause_end_s == found.new_start_s == pytest.approx(FINE_S + 49 * HOP_S)


@pytest.mark.parametrize(
    ("broken", "hops"),
    [
        ([(OLD, 30), (NONSPEECH, 10), (OLD, 8), (NEW, 30)], 48),
        ([(OLD, 30), (NEW, 8), (NONSPEECH, 10), (NEW, 30)], 30),
        ([(OLD, 30), (NONSPEECH, 6), (OLD, 8), (NEW, 8), (NONSPEECH, 6), (NEW, 30)], 44),
    ],
)
def test_a_pause_within_a_language_is_no_border(
    broken: list[tuple[int | None, int]], hops: int
) -> None:
    """Once, a second of speech had to outweigh the silence that parts it from the rest."""
    found = find_borders(windows(broken), OLD, NEW, NONSPEECH, HOP_S)
    assert found == find_borders(
        windows([(OLD, hops), (NEW, len(windows(broken)) - hops)]), OLD, NEW, NONSPEECH, HOP_S
    )


def test_a_wild_moment_behind_a_pause_is_not_of_the_language_before() -> None:
    plain = [(OLD, 30), (NONSPEECH, 20), (UNCLEAR, 5), (NEW, 30)]
    wild = [(OLD, 30), (NONSPEECH, 20), (OLD, 2), (UNCLEAR, 3), (NEW, 30)]
    found, wanted = (
        find_borders(windows(each), OLD, NEW, NONSPEECH, HOP_S) for each in (wild, plain)
    )
    assert found == wanted


@pytest.mark.parametrize(("hops", "new_start_s"), [(25, 3.15), (40, 7.15)])
def test_speech_in_neither_is_of_the_new_one_unless_it_lasts(hops: int, new_start_s: float) -> None:
    third = 2
    found = find_borders(windows([(OLD, 30), (third, hops), (NEW, 30)]), OLD, NEW, NONSPEECH, HOP_S)
    assert found.old_end_s == found.pause_end_s == pytest.approx(3.15)
    assert found.new_start_s == pytest.approx(new_start_s)


# --- silence and speech that nobody recognises ------------------------------------------------

# Of speech that is like no one language, silence is as likely as each of them.
UNRECOGNISED = np.array([0.22, 0.2, 0.2, 0.18, 0.2])
FAINT = np.array([0.16, 0.16, 0.16, 0.16, 0.36])  # half of the window has speech


def heard(script: list[tuple[np.ndarray | int, int]]) -> list[Window]:
    """Windows as of `windows`, or as they are."""
    found = windows([(None if isinstance(what, np.ndarray) else what, n) for what, n in script])
    each = [what for what, n in script for _ in range(n)]
    return [
        replace(window, probabilities=what) if isinstance(what, np.ndarray) else window
        for window, what in zip(found, each, strict=True)
    ]


@pytest.mark.parametrize("speech", [UNRECOGNISED, FAINT])
def test_speech_that_nobody_recognises_is_no_silence(speech: np.ndarray) -> None:
    """Once silence took it: being as likely as any one language, it was likelier than one."""
    before = heard([(speech, 60), (NONSPEECH, 20)])
    found = find_borders(before, None, NONSPEECH, NONSPEECH, HOP_S)
    assert found.new_start_s == pytest.approx(60 * HOP_S)
    behind = heard([(NONSPEECH, 20), (speech, 60)])
    found = find_borders(behind, NONSPEECH, None, NONSPEECH, HOP_S)
    assert found.old_end_s == pytest.approx(FINE_S + 19 * HOP_S)


def test_speech_behind_a_language_is_not_of_the_silence_that_follows() -> None:
    """It may be somebody else's, but speech it is."""
    script = [(OLD, 20), (NONSPEECH, 8), (UNRECOGNISED, 20), (NONSPEECH, 20)]
    found = find_borders(heard(script), OLD, NONSPEECH, NONSPEECH, HOP_S)
    assert found.new_start_s == pytest.approx(48 * HOP_S)


def test_a_pause_between_languages_is_without_unclear_speech() -> None:
    script = [(OLD, 20), (UNRECOGNISED, 12), (NONSPEECH, 12), (NEW, 20)]
    found = find_borders(heard(script), OLD, NEW, NONSPEECH, HOP_S)
    assert found.old_end_s == pytest.approx(32 * HOP_S)
    assert found.pause_end_s == found.new_start_s == pytest.approx(FINE_S + 43 * HOP_S)
