"""The decoder: languages last, one wild window is no change, and segments tile the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.belief import PAUSE_CHANGES, Opinion
from edge.borders import FINE_S, HISTORY_S, PAUSE_S
from edge.classifier import Window, masked, softmax
from edge.decoder import (
    DOUBT_S,
    MAX_HOLD_S,
    OPINION_DOUBT,
    OTHER_DOUBT,
    Change,
    Decoder,
    Segment,
)
from edge.frontend import Float64Array
from edge.languages import UNKNOWN
from edge.model.modelfile import DecoderDefaults

LABELS = ("de", "en", "fr", "other", "nonspeech")
HOP_S = 0.16
SETTINGS = DecoderDefaults(window_s=3.0, stay_s=30.0, confidence=0.6)


def favouring(label: str, probability: float = 0.9) -> Float64Array:
    """The rest is shared equally."""
    probabilities = np.full(len(LABELS), (1 - probability) / (len(LABELS) - 1))
    probabilities[LABELS.index(label)] = probability
    return probabilities


UNIFORM = np.full(len(LABELS), 1 / len(LABELS))
SILENCE = favouring("nonspeech", 0.97)
UNCLEAR = np.array([0.46, 0.03, 0.46, 0.04, 0.01])  # neither English nor any one other language


class Run:
    """What a decoder makes of a stream of probabilities, one set a hop."""

    def __init__(
        self, stream: Iterable[Float64Array], settings: DecoderDefaults = SETTINGS
    ) -> None:
        self.decoder = Decoder(LABELS, settings, HOP_S)
        self.changes: list[Change] = []
        self.segments: list[Segment] = []
        self.end_s = 0.0
        self.answers: list[str] = []
        for probabilities in stream:
            self.hear(probabilities)

    def hear(self, probabilities: Float64Array) -> None:
        hop = round(self.end_s / HOP_S) + 1
        self.end_s = hop * HOP_S
        start_s = max(0.0, self.end_s - SETTINGS.window_s)
        decided = self.decoder.update(Window(start_s, self.end_s, SETTINGS.window_s, probabilities))
        if decided is not None:
            self.changes += [decided.change] if decided.change else []
            self.segments += decided.finished
        self.answers.append(self.decoder.current.language)

    def restart(self, begin: Callable[[], None]) -> None:
        begin()
        self.end_s = 0.0

    def finish(self, end_s: float | None = None) -> list[Segment]:
        return [*self.segments, *self.decoder.finish(self.end_s if end_s is None else end_s)]


def seconds(duration_s: float) -> range:
    return range(round(duration_s / HOP_S))


# --- what it answers -------------------------------------------------------------------------


def test_it_starts_unknown() -> None:
    decoder = Decoder(LABELS, SETTINGS, HOP_S)
    assert decoder.current == Segment(UNKNOWN, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(decoder.belief, UNIFORM)


def test_a_language_is_announced_after_some_evidence() -> None:
    run = Run(favouring("en") for _ in seconds(6))
    (change,) = run.changes
    assert (change.language, change.previous) == ("en", UNKNOWN)
    assert 0 < change.decided_s <= 3.0
    assert run.answers[-1] == "en"


def test_sustained_evidence_changes_the_answer() -> None:
    run = Run([*(favouring("en") for _ in seconds(10)), *(favouring("fr") for _ in seconds(10))])
    assert [change.language for change in run.changes if change.language != UNKNOWN] == ["en", "fr"]
    assert run.answers[-1] == "fr"
    last = run.changes[-1]
    assert 10.0 < last.decided_s < 18.0
    assert 10.0 - SETTINGS.window_s <= last.start_s <= last.decided_s


@pytest.mark.parametrize(
    "wild", [favouring("fr", 0.99), np.array([1e-300, 1e-300, 1.0, 1e-300, 1e-300])]
)
def test_one_wild_window_changes_nothing(wild: Float64Array) -> None:
    run = Run(
        [
            *(favouring("en") for _ in seconds(10)),
            wild,
            *(favouring("en") for _ in seconds(5)),
        ]
    )
    assert [change.language for change in run.changes] == ["en"]


def test_without_confidence_the_answer_is_unknown() -> None:
    run = Run(UNIFORM for _ in seconds(20))
    assert run.changes == []
    assert set(run.answers) == {UNKNOWN}


def test_two_languages_alike_are_unknown() -> None:
    between = np.array([0.48, 0.48, 0.02, 0.01, 0.01])
    assert set(Run(between for _ in seconds(30)).answers) == {UNKNOWN}


def test_an_answer_fades_without_evidence() -> None:
    run = Run([*(favouring("en") for _ in seconds(10)), *(UNIFORM for _ in seconds(60))])
    assert run.answers[-1] == UNKNOWN
    change = run.changes[-1]
    assert (change.language, change.previous) == (UNKNOWN, "en")
    assert change.confidence < SETTINGS.confidence
    # As far back as the decoder remembers.
    assert change.start_s == pytest.approx(change.decided_s - HISTORY_S, abs=HOP_S)
    (english,) = run.segments[1:] or run.segments
    assert (english.language, english.end_s) == ("en", change.start_s)


def test_a_moment_of_doubt_is_no_news() -> None:
    """Less sure than to be announced, an answer stays: there is nothing to announce behind it."""
    heard = [favouring("en")] * 60 + [UNIFORM] * 150 + [favouring("en")] * 60
    run = Run(heard[:210])
    assert run.decoder.belief.max() < SETTINGS.confidence - 0.04
    assert run.answers[-1] == "en"
    assert [change.language for change in Run(heard).changes] == ["en"]


def test_without_other_what_is_not_expected_is_as_if_it_were_not_known() -> None:
    """Once it was likely beforehand, so that answers lasted longer and were kept for longer."""

    def run(labels: tuple[str, ...], before: list[float], after: list[float]) -> Decoder:
        decoder = Decoder(labels, SETTINGS, HOP_S)
        for hop in range(1, 600):
            heard = np.array(before if hop <= 100 else after)
            decoder.update(Window(0.0, hop * HOP_S, SETTINGS.window_s, heard))
        return decoder

    two = run(("de", "en"), [0.1, 0.9], [0.5, 0.5])
    masked_to_two = run(("de", "en", "fr", "it"), [0.1, 0.9, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(masked_to_two.belief, [*two.belief, 0.0, 0.0])
    assert masked_to_two.current.language == two.current.language == UNKNOWN


def spoken(label: str, duration_s: float = 60.0) -> list[Float64Array]:
    """A minute of a language, and silence."""
    return [*(favouring(label) for _ in seconds(duration_s)), *(SILENCE for _ in seconds(8))]


def announced(run: Run, label: str, probability: float, within_s: float) -> float | None:
    """How long it takes until a language is announced."""
    start_s = run.end_s
    for _ in seconds(within_s):
        run.hear(favouring(label, probability))
        if run.answers[-1] == label:
            return run.end_s - start_s
    return None


def test_what_has_been_spoken_is_expected_most() -> None:
    """A language that was heard before is announced sooner, and others later."""
    again, new = Run(spoken("en")), Run(spoken("en"))
    known_s = announced(again, "en", 0.4, 30.0)
    new_s = announced(new, "fr", 0.4, 30.0)
    assert known_s is not None and new_s is not None
    assert known_s < new_s
    before = Run(SILENCE for _ in seconds(68))
    first_s = announced(before, "fr", 0.4, 30.0)
    assert first_s is not None and known_s < first_s <= new_s
    again.restart(again.decoder.reset)
    for _ in seconds(68):
        again.hear(SILENCE)
    assert announced(again, "fr", 0.4, 30.0) == pytest.approx(first_s)


def test_what_has_been_spoken_is_known_behind_a_gap() -> None:
    """Of the language that goes on when the gap begins, too."""
    run, new = Run(favouring("en") for _ in seconds(60)), Run([])
    run.finish()
    run.restart(run.decoder.go_on)
    known_s, first_s = (announced(each, "en", 0.4, 30.0) for each in (run, new))
    assert known_s is not None and first_s is not None
    assert known_s < first_s


def test_a_visitor_is_heard_after_hours_of_another_language() -> None:
    hours = Run(part for _ in range(20) for part in spoken("en", 180.0))
    minute_s = announced(Run(spoken("en")), "fr", 0.9, 30.0)
    hours_s = announced(hours, "fr", 0.9, 30.0)
    assert minute_s is not None and hours_s is not None
    assert hours_s - minute_s <= 2 * HOP_S


@pytest.mark.parametrize("threshold", [0.25, 0.6, 0.9])
def test_nothing_is_announced_for_having_been_spoken_before(threshold: float) -> None:
    settings = replace(SETTINGS, confidence=threshold)
    run = Run(spoken("en", 300.0), settings)
    for _ in seconds(60):  # of somebody who may be going on
        run.hear(UNIFORM)
    heard = len(run.answers)
    for _ in seconds(240):
        run.hear(UNIFORM)
    assert {*run.answers[heard:]} == {UNKNOWN}


@pytest.mark.parametrize(("speech_s", "told"), [(4.0, True), (0.6, False)])
def test_speech_between_two_silences_is_told_though_nobody_recognised_it(
    speech_s: float, told: bool
) -> None:
    """Once it was told as silence. What is as short as a bang may be none."""
    unclear = np.array([0.3, 0.3, 0.3, 0.09, 0.01])
    run = Run(
        [
            *(SILENCE for _ in seconds(6)),
            *(unclear for _ in seconds(speech_s)),
            *(SILENCE for _ in seconds(6)),
        ],
        replace(SETTINGS, window_s=1.0, stay_s=10.0),
    )
    found = [segment.language for segment in run.finish()]
    assert found == (["nonspeech", UNKNOWN, "nonspeech"] if told else ["nonspeech"])
    if told:
        assert run.answers[-1] == "nonspeech"
        unknown = run.finish()[1]
        assert unknown.end_s - unknown.start_s == pytest.approx(speech_s, abs=3.0)


def test_other_languages_take_more_evidence() -> None:
    """Of the same evidence, `other` is announced later, and never of what is just enough."""
    english, other = (Run(favouring(label, 0.7) for _ in seconds(30)) for label in ("en", "other"))
    assert english.changes[0].decided_s < other.changes[0].decided_s
    assert other.changes[0].confidence >= 1 - (1 - SETTINGS.confidence) / OTHER_DOUBT
    weak = np.array([0.12, 0.12, 0.12, 0.62, 0.02])
    wavering = [weak] * 20 + [UNIFORM] * 60
    assert set(Run(wavering).answers) == {UNKNOWN}


def test_where_opinions_count_answers_have_to_be_surer() -> None:
    def announced(asked: bool) -> Change:
        decoder = Decoder(LABELS, SETTINGS, HOP_S, second_opinion=True)
        for hop in range(1, 200):
            end_s = hop * HOP_S
            start_s = max(0.0, end_s - 3.0)
            decoder.advance(Window(start_s, end_s, 3.0, favouring("en", 0.5)))
            if asked:
                decoder.consider(Opinion(start_s, end_s, 3.0, favouring("en", 0.4), 0.1))
            if (decided := decoder.conclude()) and decided.change:
                return decided.change
        raise AssertionError

    alone, both = announced(False), announced(True)
    sure = 1 - (1 - SETTINGS.confidence) / OPINION_DOUBT
    assert SETTINGS.confidence <= alone.confidence < sure <= both.confidence


def test_a_higher_confidence_takes_longer() -> None:
    decided_s = [
        Run(
            (favouring("de", 0.8) for _ in seconds(20)),
            DecoderDefaults(window_s=3.0, stay_s=30.0, confidence=confidence),
        )
        .changes[0]
        .decided_s
        for confidence in (0.5, 0.7, 0.9)
    ]
    assert decided_s == sorted(decided_s)
    assert decided_s[0] < decided_s[-1]


def test_a_stickier_prior_takes_longer_to_change() -> None:
    stream = [*(favouring("en") for _ in seconds(20)), *(favouring("fr") for _ in seconds(20))]
    decided_s = [
        Run(stream, DecoderDefaults(window_s=3.0, stay_s=stay_s, confidence=0.6))
        .changes[-1]
        .decided_s
        for stay_s in (5.0, 60.0, 3_600.0)
    ]
    assert decided_s == sorted(decided_s)
    assert decided_s[0] < decided_s[-1]


def test_overlapping_windows_do_not_count_more_than_once() -> None:
    """Twice as many windows of the same audio are not twice the evidence."""
    beliefs = []
    for hop_s in (HOP_S, HOP_S / 2):
        decoder = Decoder(LABELS, SETTINGS, hop_s)
        for i in range(round(3.2 / hop_s)):
            decoder.update(Window(0.0, (i + 1) * hop_s, 3.0, favouring("de")))
        beliefs.append(decoder.belief)
    np.testing.assert_allclose(beliefs[0], beliefs[1], atol=0.01)


def test_the_filter_is_the_forward_recursion() -> None:
    """Against Rabiner's alpha of both chains, normalised at every step."""
    rng = np.random.default_rng(0)
    stream = rng.dirichlet(np.ones(len(LABELS)), 50)
    decoder = Decoder(LABELS, SETTINGS, HOP_S)
    languages = len(LABELS) - 1
    leave, evidence = HOP_S / SETTINGS.stay_s, HOP_S / SETTINGS.window_s
    language, quiet = np.full(languages, 1 / languages), np.array([languages, 1]) / len(LABELS)
    often = quiet
    for i, probabilities in enumerate(stream):
        decoder.update(Window(0.0, (i + 1) * HOP_S, 3.0, probabilities))
        *spoken, silence = probabilities
        change = leave * (1 + PAUSE_CHANGES * quiet[1])
        transition = (1 - change) * np.eye(languages) + change / languages
        likely = np.maximum(spoken / np.sum(spoken), 1e-3) ** (evidence * (1 - silence))
        language = (language @ transition) * likely
        language /= language.sum()
        quiet = ((1 - leave) * quiet + leave * often) * np.array([1 - silence, silence]) ** evidence
        quiet /= quiet.sum()
    np.testing.assert_allclose(decoder.belief, [*quiet[0] * language, quiet[1]], rtol=1e-9)


def test_a_short_pause_says_nothing_about_the_language() -> None:
    """Once it was forgotten there, and who went on had to be recognised anew."""
    settings = replace(SETTINGS, window_s=1.0, stay_s=10.0)
    run = Run((favouring("en") for _ in seconds(10)), settings)

    def share() -> float:
        *languages, _ = run.decoder.belief
        return float(languages[LABELS.index("en")] / sum(languages))

    before = share()
    for _ in seconds(1.5):
        run.hear(SILENCE)
    assert run.decoder.belief[LABELS.index("nonspeech")] > 0.5
    assert share() > 0.6 * before
    for _ in seconds(9):  # somebody else may be next
        run.hear(SILENCE)
    assert run.answers[-1] == "nonspeech"
    assert share() < 0.5


# --- events ----------------------------------------------------------------------------------


def test_the_fields_of_a_change_and_of_its_segment() -> None:
    french = favouring("fr", 0.97)
    run = Run([*(favouring("en") for _ in seconds(10)), *(french for _ in seconds(10))])
    assert [change.language for change in run.changes] == ["en", "fr"]
    for change, before in zip(run.changes, [UNKNOWN, "en"], strict=True):
        assert change.previous == before
        assert change.start_s <= change.decided_s
        assert 0 < change.confidence <= 1
    (english,) = (segment for segment in run.segments if segment.language == "en")
    assert english.end_s == run.changes[-1].start_s
    assert SETTINGS.confidence <= english.confidence <= 1


def test_the_last_segment_reaches_to_the_end() -> None:
    run = Run(favouring("en") for _ in seconds(6))
    segments = run.finish(6.123)
    assert segments[-1].language == "en"
    assert segments[-1].end_s == 6.123


def test_a_stream_without_any_window_is_unknown() -> None:
    decoder = Decoder(LABELS, SETTINGS, HOP_S)
    assert decoder.finish(0.5) == (Segment(UNKNOWN, 0.0, 0.5, 0.0),)


def test_a_stream_without_any_audio_has_no_segment() -> None:
    assert Decoder(LABELS, SETTINGS, HOP_S).finish(0.0) == ()


def test_reset() -> None:
    run = Run(favouring("en") for _ in seconds(6))
    run.decoder.reset()
    assert run.decoder.current == Segment(UNKNOWN, 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(run.decoder.belief, UNIFORM)


def test_the_confidence_of_a_segment_is_the_mean_over_its_hops() -> None:
    run = Run(())
    beliefs: list[float] = []
    for _ in seconds(12):
        run.hear(favouring("en"))
        if run.decoder.current.language == "en":
            beliefs.append(float(run.decoder.belief.max()))
            assert run.decoder.current.confidence == pytest.approx(np.mean(beliefs), rel=1e-12)
    assert len(beliefs) > 50
    assert len(set(beliefs)) > 10


# --- where it was, once it is known -----------------------------------------------------------


def window(script: list[tuple[str, float]], end_s: float, length_s: float) -> Window:
    """What a good classifier says of a window: the language of most of its speech."""
    start_s = max(0.0, end_s - length_s)
    heard = dict.fromkeys(LABELS, 0.0)
    begin_s = 0.0
    for label, until_s in script:
        heard[label] += max(0.0, min(end_s, until_s) - max(start_s, begin_s))
        begin_s = until_s
    if any(heard[label] > 0.01 for label in LABELS if label != "nonspeech"):
        heard["nonspeech"] = 0.0
    total = sum(heard.values())
    shares = np.array([heard[label] / total for label in LABELS])
    return Window(start_s, end_s, length_s, 0.8 * shares + 0.2 / len(LABELS))


def follow(script: list[tuple[str, float]], hold_s: float = 0.0) -> Run:
    """Listen to languages, each until a time."""
    run = Run(())
    run.decoder = Decoder(LABELS, SETTINGS, HOP_S, hold_s)
    for hop in range(1, round(script[-1][1] / HOP_S) + 1):
        run.end_s = hop * HOP_S
        decided = run.decoder.update(
            window(script, run.end_s, SETTINGS.window_s), window(script, run.end_s, FINE_S)
        )
        if decided is not None:
            run.changes += [decided.change] if decided.change else []
            run.segments += decided.finished
        run.answers.append(run.decoder.current.language)
    return run


def assert_told(run: Run, script: list[tuple[str, float]]) -> None:
    """Segments are those of the script, to two hops."""
    segments = run.finish()
    assert [segment.language for segment in segments] == [label for label, _ in script]
    for segment, (_, until_s) in zip(segments, script, strict=True):
        assert segment.end_s == pytest.approx(until_s, abs=2 * HOP_S)
    for before, after in pairwise(segments):
        assert before.end_s == after.start_s


@pytest.mark.parametrize(
    "script",
    [
        [("en", 20.0)],
        [("en", 20.0), ("fr", 40.0)],
        [("en", 20.0), ("fr", 32.0), ("de", 45.0), ("en", 60.0)],
        [("en", 12.0), ("nonspeech", 13.0), ("fr", 25.0)],
        [("en", 12.0), ("nonspeech", 14.5), ("fr", 25.0)],
        [("en", 12.0), ("nonspeech", 30.0), ("fr", 45.0)],
        [("en", 12.0), ("nonspeech", 30.0)],
        [("en", 12.0), ("nonspeech", 13.0)],
        [("nonspeech", 20.0), ("fr", 32.0)],
        [("en", 3_000.0), ("fr", 3_020.0)],
    ],
)
def test_segments_begin_and_end_where_the_speech_did(script: list[tuple[str, float]]) -> None:
    assert_told(follow(script), script)


def test_a_change_says_where_it_was() -> None:
    run = follow([("en", 20.0), ("fr", 40.0)])
    change = run.changes[-1]
    assert change.language == "fr"
    assert change.start_s == pytest.approx(20.0, abs=2 * HOP_S)
    assert 21.0 < change.decided_s < 28.0


def test_a_stream_that_begins_in_silence_is_unknown_until_the_speech() -> None:
    first = follow([("nonspeech", 1.0), ("en", 12.0)]).finish()[0]
    assert (first.language, first.start_s) == (UNKNOWN, 0.0)
    assert first.end_s == pytest.approx(1.0, abs=2 * HOP_S)


def test_a_pause_within_a_language_is_part_of_it() -> None:
    run = follow([("en", 12.0), ("nonspeech", 13.5), ("en", 25.0)])
    assert [segment.language for segment in run.finish()] == ["en"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            [("en", 12.0), ("nonspeech", 14.0), ("en", 15.4), ("fr", 30.0)],
            [("en", 15.4), ("fr", 30.0)],
        ),
        (
            [("en", 12.0), ("fr", 13.4), ("nonspeech", 14.6), ("fr", 30.0)],
            [("en", 12.0), ("fr", 30.0)],
        ),
    ],
)
def test_a_pause_near_a_change_is_not_the_change(
    script: list[tuple[str, float]], told: list[tuple[str, float]]
) -> None:
    assert_told(follow(script), told)


def test_doubt_that_ends_as_it_began_leaves_no_segment() -> None:
    run = Run([favouring("en")] * 60)
    while run.answers[-1] != UNKNOWN:
        run.hear(UNCLEAR)
    for _ in seconds(10):
        run.hear(favouring("en"))
    assert [change.language for change in run.changes] == ["en", UNKNOWN, "en"]
    assert run.changes[-1].start_s == run.changes[0].start_s
    assert [segment.language for segment in run.finish()] == ["en"]


def test_doubt_that_lasts_is_a_segment() -> None:
    unclear = np.array([0.45, 0.05, 0.04, 0.45, 0.01])
    run = Run([favouring("en")] * 60 + [unclear] * 250 + [favouring("fr")] * 100)
    segments = run.finish()
    assert [segment.language for segment in segments] == ["en", UNKNOWN, "fr"]
    assert segments[1].end_s == pytest.approx(310 * HOP_S, abs=SETTINGS.window_s)
    open_s = next(c.decided_s for c in run.changes if c.language == UNKNOWN)
    closed_s = next(c.decided_s for c in run.changes if c.language == "fr")
    assert closed_s - open_s > DOUBT_S


def test_a_language_that_begins_with_the_last_hop_ends_well() -> None:
    run = Run([favouring("en")] * 60)
    run.decoder._settled.start_s = run.end_s
    assert run.finish(run.end_s + 0.05)[-1] == Segment("en", run.end_s, run.end_s + 0.05, ANY)


def test_what_no_window_has_heard_at_the_end_is_no_pause() -> None:
    """Of windows that come seldom, half a second may be left."""
    run = follow([("en", 20.0)])
    (segment,) = run.finish(run.end_s + PAUSE_S)
    assert (segment.language, segment.end_s) == ("en", run.end_s + PAUSE_S)
    # Without a class for silence there never was one.
    decoder = Decoder(LABELS[:2], SETTINGS, HOP_S)
    for hop in range(1, 60):
        decoder.update(Window(0.0, hop * HOP_S, SETTINGS.window_s, np.array([0.1, 0.9])))
    (segment,) = decoder.finish(59 * HOP_S + PAUSE_S)[-1:]
    assert segment.language == "en"


def test_what_it_remembers_is_bounded() -> None:
    run = follow([("en", 100.0)])
    assert len(run.decoder._history) <= (HISTORY_S + MAX_HOLD_S) / HOP_S + 1


# --- languages that are not expected -----------------------------------------------------------


def expecting(heard: Window, *languages: str) -> Window:
    """The same where only these are expected."""
    mask = [label in (*languages, "other", "nonspeech") for label in LABELS]
    probabilities = np.array(masked(heard.probabilities.tolist(), LABELS, mask))
    return replace(heard, probabilities=probabilities, apart=heard.probabilities)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ([("en", 20.0), ("fr", 40.0)], [("en", 20.0), ("other", 40.0)]),
        ([("fr", 20.0), ("en", 40.0)], [("other", 20.0), ("en", 40.0)]),
        (
            [("en", 15.0), ("de", 22.0), ("nonspeech", 23.0), ("fr", 30.0), ("en", 45.0)],
            [("en", 15.0), ("other", 30.0), ("en", 45.0)],
        ),
        (
            [("de", 8.0), ("nonspeech", 9.5), ("fr", 16.0), ("nonspeech", 17.0), ("en", 30.0)],
            [("other", 16.0), ("nonspeech", 17.0), ("en", 30.0)],
        ),
    ],
)
def test_what_is_not_expected_ends_where_it_did(
    script: list[tuple[str, float]], told: list[tuple[str, float]]
) -> None:
    """Though short windows hear so little that all the others together are likelier."""
    run = Run(())
    for hop in range(1, round(script[-1][1] / HOP_S) + 1):
        run.end_s = hop * HOP_S
        long, short = (window(script, run.end_s, s) for s in (SETTINGS.window_s, FINE_S))
        faint = replace(short, probabilities=0.3 * short.probabilities + 0.7 / len(LABELS))
        assert faint.probabilities[1] < 0.4
        decided = run.decoder.update(expecting(long, "en"), expecting(faint, "en"))
        run.segments += decided.finished if decided else ()
    assert_told(run, told)


def test_many_languages_are_not_expected_and_nothing_is_heard() -> None:
    run = Run(())
    for hop in seconds(20):
        decided = run.decoder.update(
            expecting(Window(0.0, (hop + 1) * HOP_S, SETTINGS.window_s, UNIFORM), "en")
        )
        assert decided is None
    assert run.decoder.current.language == UNKNOWN
    _, english, _, other, silence = run.decoder.belief
    np.testing.assert_allclose([english, other], [(1 - silence) / 2] * 2)


def test_a_language_that_is_expected_no_longer() -> None:
    """Becomes another one, then and there."""
    run = Run(())
    script = [("en", 40.0)]
    for hop in range(1, 250):
        run.end_s = hop * HOP_S
        windows = (window(script, run.end_s, s) for s in (SETTINGS.window_s, FINE_S))
        language = "en" if run.end_s <= 20.0 else "fr"
        decided = run.decoder.update(*(expecting(each, language) for each in windows))
        run.segments += decided.finished if decided else ()
    assert_told(run, [("en", 20.0), ("other", run.end_s)])


# --- hold ------------------------------------------------------------------------------------


def test_a_language_is_announced_once_it_has_lasted() -> None:
    script = [("en", 20.0), ("fr", 40.0)]
    at_once, held = follow(script), follow(script, hold_s=2.0)
    for language in ("en", "fr"):
        early, late = (
            next(change for change in run.changes if change.language == language)
            for run in (at_once, held)
        )
        assert late.decided_s - early.decided_s == pytest.approx(2.0, abs=HOP_S)
        assert late.start_s == pytest.approx(early.start_s, abs=HOP_S)
    assert_told(held, script)


def test_the_old_language_is_kept_while_unsure() -> None:
    script = [favouring("en")] * 125 + [UNCLEAR] * 25 + [favouring("fr")] * 100
    assert UNKNOWN in Run(script).answers[60:]
    held = Run(())
    held.decoder = Decoder(LABELS, SETTINGS, HOP_S, 6.0)
    for probabilities in script:
        held.hear(probabilities)
    assert [change.language for change in held.changes] == ["en", "fr"]


def test_but_no_longer_than_that() -> None:
    decided_s = []
    for hold_s in (0.0, 3.0, 20.0):
        run = Run(())
        run.decoder = Decoder(LABELS, SETTINGS, HOP_S, hold_s)
        for probabilities in [favouring("en")] * 200 + [UNIFORM] * 600:
            run.hear(probabilities)
        decided_s.append(run.changes[-1].decided_s)
        assert run.changes[-1].language == UNKNOWN
    assert np.diff(decided_s) == pytest.approx([3.0, 17.0], abs=HOP_S)


def test_a_language_that_does_not_last_is_never_announced() -> None:
    script = [("en", 20.0), ("fr", 28.0), ("en", 50.0)]
    assert "fr" in follow(script).answers
    assert "fr" not in follow(script, 6.0).answers


# --- whatever comes --------------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Float64Array]:
    """Runs of windows that more or less favour a class."""
    stream: list[Float64Array] = []
    for _ in range(draw(st.integers(0, 8))):
        scores = draw(
            st.lists(
                st.sampled_from([0.0, 0.5, 2.0, 5.0, 30.0, 600.0]),
                min_size=len(LABELS),
                max_size=len(LABELS),
            )
        )
        stream += [softmax(np.array(scores))] * draw(st.integers(1, 60))
    return stream


@st.composite
def decoder_settings(draw: st.DrawFn) -> DecoderDefaults:
    return DecoderDefaults(
        window_s=draw(st.sampled_from([0.04, 1.0, 3.0, 60.0])),
        stay_s=draw(st.sampled_from([0.01, 3.0, 30.0, 1e6])),
        confidence=draw(st.sampled_from([0.0, 0.3, 0.6, 0.99, 1.0])),
    )


@settings(max_examples=150)
@given(streams(), decoder_settings(), st.floats(0.0, 0.2))
def test_segments_tile_the_stream(
    stream: list[Float64Array], chosen: DecoderDefaults, rest_s: float
) -> None:
    run = Run(stream, chosen)
    end_s = run.end_s + rest_s
    segments = run.finish(end_s)
    if end_s > 0:
        assert segments[0].start_s == 0.0
        assert segments[-1].end_s == end_s
    for before, after in pairwise(segments):
        assert before.end_s == after.start_s
        assert before.language != after.language
        assert before.start_s < before.end_s
    for segment in segments:
        assert segment.start_s <= segment.end_s
        assert segment.language in (*LABELS, UNKNOWN)
        assert 0 <= segment.confidence <= 1 + 1e-12
    decided_s = [change.decided_s for change in run.changes]
    assert decided_s == sorted(set(decided_s))
    for change in run.changes:
        assert change.start_s <= change.decided_s


@settings(max_examples=100)
@given(streams(), decoder_settings(), st.sets(st.sampled_from(LABELS), min_size=1))
def test_masked_classes_are_never_answered(
    stream: list[Float64Array], chosen: DecoderDefaults, possible: set[str]
) -> None:
    mask = np.array([label in possible for label in LABELS])
    masked = [np.where(mask, p + 1e-6, 0.0) for p in stream]
    run = Run([p / p.sum() for p in masked], chosen)
    assert set(run.answers) <= {*possible, UNKNOWN}
    if stream:
        assert not run.decoder.belief[~mask].any()


def test_a_single_possible_language_is_answered() -> None:
    probabilities = np.array([0.0, 1.0, 0.0, 0.0, 0.0])
    assert set(Run(probabilities for _ in seconds(3)).answers) == {"en"}
