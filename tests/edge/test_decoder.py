"""The decoder: languages last, one wild window is no change, and segments tile the stream."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.classifier import Window, softmax
from edge.decoder import Change, Decoder, Segment
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
            self.changes.append(decided[0])
            self.segments.append(decided[1])
        self.answers.append(self.decoder.current.language)

    def finish(self, end_s: float | None = None) -> list[Segment]:
        last = self.decoder.finish(self.end_s if end_s is None else end_s)
        return [*self.segments, *([last] if last else [])]


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
    assert change.start_s == pytest.approx(change.decided_s - HOP_S)


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
    """Against Rabiner's alpha, normalised at every step."""
    rng = np.random.default_rng(0)
    stream = rng.dirichlet(np.ones(len(LABELS)), 50)
    decoder = Decoder(LABELS, SETTINGS, HOP_S)
    classes = len(LABELS)
    leave = HOP_S / SETTINGS.stay_s
    transition = (1 - leave) * np.eye(classes) + leave / classes
    alpha = np.full(classes, 1 / classes)
    for i, probabilities in enumerate(stream):
        decoder.update(Window(0.0, (i + 1) * HOP_S, 3.0, probabilities))
        alpha = (alpha @ transition) * np.maximum(probabilities, 1e-3) ** (
            HOP_S / SETTINGS.window_s
        )
        alpha /= alpha.sum()
    np.testing.assert_allclose(decoder.belief, alpha, rtol=1e-9)


# --- events ----------------------------------------------------------------------------------


def test_the_fields_of_a_change_and_of_its_segment() -> None:
    run = Run([*(favouring("en") for _ in seconds(10)), *(favouring("fr") for _ in seconds(10))])
    for change, segment in zip(run.changes, run.segments, strict=True):
        assert change.previous == segment.language
        assert change.language != change.previous
        assert change.start_s == segment.end_s
        assert change.start_s <= change.decided_s
        assert 0 < change.confidence <= 1
    english = next(segment for segment in run.segments if segment.language == "en")
    assert SETTINGS.confidence <= english.confidence <= 1


def test_the_last_segment_reaches_to_the_end() -> None:
    run = Run(favouring("en") for _ in seconds(6))
    segments = run.finish(6.123)
    assert segments[-1].language == "en"
    assert segments[-1].end_s == 6.123


def test_a_stream_without_any_window_is_unknown() -> None:
    decoder = Decoder(LABELS, SETTINGS, HOP_S)
    assert decoder.finish(0.5) == Segment(UNKNOWN, 0.0, 0.5, 0.0)


def test_a_stream_without_any_audio_has_no_segment() -> None:
    assert Decoder(LABELS, SETTINGS, HOP_S).finish(0.0) is None


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
