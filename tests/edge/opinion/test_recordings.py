"""Second opinions of recordings: of the speech alone, all of it at first, and less of long ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from edge import offline
from edge.audio.sources import AudioSource
from edge.belief import COMPACT, SECOND_OPINION, Opinion
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import UNKNOWN
from edge.model.interpreter import Graphs
from edge.model.modelfile import NONSPEECH, ModelFile
from edge.offline import Classification, RecordingClassifier
from edge.opinion.expert import ExpertFile
from edge.opinion.recordings import OFTEN, Hearing, _calibrated


class Audio(AudioSource):
    """Samples as a source."""

    name = "audio"

    def __init__(self, samples: Float32Array, length: int = 1_600) -> None:
        self._samples, self._length = samples, length

    def blocks(self) -> Iterator[Float32Array]:
        for start in range(0, len(self._samples), self._length):
            yield self._samples[start : start + self._length]

    def close(self) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def alone(model: ModelFile, graphs: Graphs) -> RecordingClassifier:
    return RecordingClassifier(model, graphs)


@pytest.fixture(scope="module")
def both(model: ModelFile, graphs: Graphs, expert_path: str) -> RecordingClassifier:
    return RecordingClassifier(model, graphs, second=ExpertFile(expert_path, model.labels))


def test_without_it_nothing_is_told_of_it(alone: RecordingClassifier, speech: Float32Array) -> None:
    answer = alone.classify(Audio(speech))
    assert (answer.by, answer.compact, answer.opinions) == (None, None, 0)
    assert all(stretch.by is None for stretch in answer.stretches)


def test_the_compact_answer_stays_visible(
    alone: RecordingClassifier, both: RecordingClassifier, speech: Float32Array
) -> None:
    part = speech[20 * SAMPLE_RATE_HZ : 28 * SAMPLE_RATE_HZ]
    one, other = alone.classify(Audio(part)), both.classify(Audio(part))
    assert other.compact == (one.language, one.confidence)
    assert other.by == (COMPACT if other.language == one.language else SECOND_OPINION)
    assert of_the_whole(both) in (2, 3)
    assert other.opinions > of_the_whole(both)
    assert other.took_s > 0
    assert sum(other.probabilities.values()) == pytest.approx(1.0)


def of_the_whole(classifier: RecordingClassifier) -> int:
    """How many answers count for the newest recording as a whole."""
    assert classifier._hearing is not None
    return classifier._hearing._answers


def facts(answer: Classification) -> tuple[object, ...]:
    return answer.language, answer.probabilities, answer.stretches, answer.opinions


def test_the_answer_does_not_depend_on_blocks_or_on_what_was_before(
    both: RecordingClassifier, speech: Float32Array
) -> None:
    first = both.classify(Audio(speech))
    for length in (777, len(speech)):
        assert facts(both.classify(Audio(speech, length))) == facts(first)
    assert first.language == UNKNOWN  # it is in six
    assert first.opinions > 10


def test_silence_is_not_asked_about(both: RecordingClassifier) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-4, 10 * SAMPLE_RATE_HZ).astype(np.float32)
    answer = both.classify(Audio(noise))
    assert (answer.opinions, answer.by) == (0, COMPACT)


def test_the_shortest_recordings_are_asked_about_too(
    both: RecordingClassifier, speech: Float32Array
) -> None:
    answer = both.classify(Audio(speech[32_000:44_000]))
    assert answer.opinions == 1


def test_one_short_word_before_a_silence_is_asked_about(
    both: RecordingClassifier, speech: Float32Array
) -> None:
    pause, word = np.zeros(3 * SAMPLE_RATE_HZ // 2, np.float32), speech[32_000:40_000]
    answer = both.classify(Audio(np.concatenate([word, pause])))
    assert answer.opinions == 1
    # Of two, about the longer one alone.
    two = both.classify(Audio(np.concatenate([word, pause, word[:4_800], pause])))
    assert two.opinions == 1


def test_who_decides_is_told_of_what_is_answered(
    both: RecordingClassifier, speech: Float32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = speech[22 * SAMPLE_RATE_HZ : 28 * SAMPLE_RATE_HZ]
    assert both.classify(Audio(part)).language == "fr"
    # As if half of it were another language: French is no answer then, of neither model.
    monkeypatch.setattr(offline, "shares", lambda stretches: {"fr": 0.3, "zh": 0.3})
    answer = both.classify(Audio(part))
    assert answer.compact is not None
    assert (answer.language, answer.compact[0], answer.by) == (UNKNOWN, UNKNOWN, COMPACT)


def test_a_long_recording_is_asked_about_less_often(
    both: RecordingClassifier, speech: Float32Array
) -> None:
    part = speech[20 * SAMPLE_RATE_HZ : 28 * SAMPLE_RATE_HZ]
    stretches = 3 * OFTEN  # the first forty, and every second one of the next eighty
    both.classify(Audio(np.tile(part, 1 + stretches * 3 // 8)))
    assert OFTEN < of_the_whole(both) <= 2 * OFTEN + 4


def test_languages_that_follow_each_other_without_a_pause_are_told_apart(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    large = RecordingClassifier(model, graphs, second=ExpertFile("large", model.labels))
    turns = [speech[round(start * SAMPLE_RATE_HZ) :][: 6 * SAMPLE_RATE_HZ] for start in (2, 20, 63)]
    answer = large.classify(Audio(np.concatenate(turns)))
    told = [stretch for stretch in answer.stretches if stretch.language != NONSPEECH]
    assert [stretch.language for stretch in told] == ["en", "fr", "en"]
    np.testing.assert_allclose([stretch.end_s for stretch in told], [6.0, 12.0, 18.0], atol=1.0)
    # The large model alone hears ten seconds in one piece, and neither language in the middle.
    assert of_the_whole(large) == 2


def test_how_both_are_combined() -> None:
    hearing = object.__new__(Hearing)
    compact = np.array([0.2, 0.8, 0.0])
    hearing._sum, hearing._weight, hearing._heard_s = np.zeros(3), 0.0, 0.0
    assert hearing.combined(compact) is compact
    # Of enough speech, the large model alone; what is masked stays impossible.
    hearing._sum, hearing._weight, hearing._heard_s = np.array([1.8, 0.6, 0.6]), 3.0, 3.0
    np.testing.assert_allclose(hearing.combined(compact), [0.75, 0.25, 0.0])
    # Of a second, the compact one to the power of 0.2: 0.2**0.2 and 0.8**0.2, as shares.
    hearing._sum, hearing._weight, hearing._heard_s = np.array([0.5, 0.5, 0.0]), 1.0, 1.0
    np.testing.assert_allclose(hearing.combined(compact), [0.431126, 0.568874, 0.0], rtol=1e-5)


def test_short_speech_is_less_sure() -> None:
    opinion = Opinion(0.0, 0.75, 3.0, np.array([0.8, 0.1, 0.1]), 0.0)
    # Square roots, for a quarter of a window, as shares.
    np.testing.assert_allclose(_calibrated(opinion, 3.0), [0.585786, 0.207107, 0.207107], rtol=1e-5)


def test_a_model_that_hears_much_at_once_hears_across_pauses(
    model: ModelFile, graphs: Graphs, both: RecordingClassifier, speech: Float32Array
) -> None:
    large = RecordingClassifier(model, graphs, second=ExpertFile("large", model.labels))
    one, other = (speech[n * SAMPLE_RATE_HZ :][: 2 * SAMPLE_RATE_HZ] for n in (21, 24))

    def answers(classifier: RecordingClassifier, pause_s: float) -> int:
        pause = np.zeros(round(pause_s * SAMPLE_RATE_HZ), np.float32)
        answer = classifier.classify(Audio(np.concatenate([one, pause, other])))
        assert answer.language in ("fr", UNKNOWN)
        return of_the_whole(classifier)

    assert [answers(large, pause_s) for pause_s in (0.8, 3.0)] == [1, 2]
    assert answers(both, 0.8) == 2
