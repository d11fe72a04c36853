"""Streams with known labels, and scores worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.decoder import Change, Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from tests.synthetic import speech, write_audio
from train.corpus.manifest import Clip
from train.evaluation.streams import TURN_S, Span, make_stream, score_streams
from train.features.noise import NoiseClip


def change(language: str, previous: str, decided_s: float) -> Change:
    return Change(language, previous, decided_s - 1, decided_s, 0.9)


TRUTH = (Span("de", 1, 11), Span("nonspeech", 11, 14), Span("en", 15, 25))


def test_a_perfect_answer_with_a_delay() -> None:
    changes = [change("de", "unknown", 3), change("en", "de", 16)]
    segments = [Segment("de", 0, 15, 1.0), Segment("en", 15, 25, 1.0)]
    score = score_streams([TRUTH], [(changes, segments)])
    assert score.changes == 2
    assert score.median_delay_s == pytest.approx(1.5)  # 2 s and 1 s
    assert score.missed == 0
    assert score.false_changes_per_hour == 0
    assert score.error_rate == 0


def test_a_missed_change_counts_with_the_whole_turn() -> None:
    score = score_streams([TRUTH], [([change("de", "unknown", 2)], [Segment("de", 0, 25, 1.0)])])
    assert score.missed == 0.5
    assert score.p95_delay_s > 9
    assert score.error_rate == pytest.approx(10 / 20)


def test_false_changes_and_unknown_time() -> None:
    changes = [change("de", "unknown", 2), change("fr", "de", 5), change("de", "fr", 6)]
    changes.append(change("unknown", "de", 15))
    segments = [
        Segment("de", 0, 5, 1.0),
        Segment("fr", 5, 6, 1.0),
        Segment("de", 6, 15, 1.0),
        Segment("unknown", 15, 25, 0.4),
    ]
    score = score_streams([TRUTH], [(changes, segments)])
    assert score.false_changes_per_hour == pytest.approx(3600 / 20)  # "fr", once in 20 s
    assert score.unknown_share == pytest.approx(10 / 20)
    assert score.error_rate == pytest.approx(11 / 20)


def test_a_language_that_goes_on_has_no_delay_and_is_no_second_change() -> None:
    truth = (Span("de", 0, 5), Span("de", 6, 10), Span("en", 11, 20))
    changes = [change("de", "unknown", 1), change("en", "de", 12)]
    segments = [Segment("de", 0, 11, 1.0), Segment("en", 11, 20, 1.0)]
    assert score_streams([truth], [(changes, segments)]).changes == 2


def test_border_errors() -> None:
    truth = (Span("de", 1, 11), Span("nonspeech", 11, 14), Span("de", 14, 18), Span("en", 19, 25))
    segments = [
        Segment("unknown", 0, 1.5, 0.3),
        Segment("de", 1.5, 6, 1.0),  # 0.5 s late
        Segment("fr", 6, 7, 1.0),
        Segment("de", 7, 18.1, 1.0),  # 0.1 s late
        Segment("en", 18.1, 26, 1.0),  # 0.9 s early, 1 s late
    ]
    score = score_streams([truth], [([], segments)])
    assert score.median_border_error_s == pytest.approx(0.7)
    assert score.p95_border_error_s == pytest.approx(np.percentile([0.5, 0.1, 0.9, 1.0], 95))


def test_no_segment_of_any_turn_has_no_border_error() -> None:
    score = score_streams([TRUTH], [([], [Segment("fr", 0, 25, 1.0)])])
    assert score.median_border_error_s is None
    assert score.as_dict()["p95_border_error_s"] is None


def corpus(folder: Path) -> tuple[list[Clip], list[NoiseClip]]:
    clips = []
    for number, language in enumerate(("de", "en", "xx")):
        for clip in range(4):
            path = f"{language}-{clip}.wav"
            tone = np.sin(np.arange(3 * SAMPLE_RATE_HZ) * (0.1 + 0.05 * number)) * 0.3
            soundfile.write(folder / path, tone, SAMPLE_RATE_HZ)
            speaker = f"{language}{clip % 2}"
            clips.append(
                Clip(path, language, "train", True, speaker, "tones", "human", 3.0, "", "")
            )
    noise = np.random.default_rng(1).standard_normal(12 * SAMPLE_RATE_HZ) * 0.1
    soundfile.write(folder / "noise.wav", noise, SAMPLE_RATE_HZ)
    return clips, [NoiseClip("noise.wav", "rain", "train")]


def test_a_stream_holds_what_its_labels_say(tmp_path: Path) -> None:
    clips, noises = corpus(tmp_path)
    labels = ("de", "en", "other", "nonspeech")
    stream = make_stream(clips, tmp_path, noises, tmp_path, labels, 120, seed=3)
    again = make_stream(clips, tmp_path, noises, tmp_path, labels, 120, seed=3)
    assert np.array_equal(stream.samples, again.samples)
    assert {span.label for span in stream.spans} == set(labels)
    assert len(stream.samples) >= 120 * SAMPLE_RATE_HZ
    end_s = 0.0
    for span in stream.spans:
        assert span.start_s >= end_s and span.end_s > span.start_s
        gap = stream.samples[int(end_s * SAMPLE_RATE_HZ) : int(span.start_s * SAMPLE_RATE_HZ)]
        assert np.abs(gap).max(initial=0) < 0.01
        inside = stream.samples[
            int(span.start_s * SAMPLE_RATE_HZ) : int(span.end_s * SAMPLE_RATE_HZ)
        ]
        assert np.abs(inside).max() > 0.03
        end_s = span.end_s


def test_one_language_makes_no_stream(tmp_path: Path) -> None:
    clips, noises = corpus(tmp_path)
    with pytest.raises(EdgelidError, match="two languages"):
        make_stream(clips[:4], tmp_path, noises, tmp_path, ("de",), 10, seed=1)


def test_short_clips_of_many_make_whole_turns(tmp_path: Path) -> None:
    clips = []
    for language in ("de", "en"):
        for number in range(12):
            path = f"{language}/{number}.wav"
            write_audio(tmp_path / path, speech(language, path, number, 1.0))
            row = (path, language, "dev", True, path, "home", "human", 1.0, "none", "here")
            clips.append(Clip(*row))
    stream = make_stream(clips, tmp_path, [], tmp_path, ("de", "en"), 60.0, 0)
    turns = [span.end_s - span.start_s for span in stream.spans]
    assert min(turns) >= TURN_S[0] - 0.1
