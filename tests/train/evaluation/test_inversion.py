"""What an attacker gets from the statistics of lessons: the voice, and not the words."""

from __future__ import annotations

import numpy as np

from edge.audio.sources import FileSource
from edge.frontend import SAMPLE_RATE_HZ
from edge.model.interpreter import open_graphs
from edge.model.modelfile import DEFAULT_MODEL, read_model
from train.evaluation.inversion import explained, statistics_and_spectrogram


def test_regression_finds_what_is_there() -> None:
    rng = np.random.default_rng(0)
    known, attacked = rng.normal(size=(300, 8)), rng.normal(size=(50, 8))
    weights = rng.normal(size=(8, 5))
    assert explained(known, known @ weights, attacked, attacked @ weights) > 0.95
    noise = rng.normal(size=(50, 5))
    assert explained(known, rng.normal(size=(300, 5)), attacked, noise) < 0.05


def test_the_course_of_speech_does_not_come_back() -> None:
    """Even of the same recording that the attacker has learnt the beginning of."""
    model = read_model(DEFAULT_MODEL)
    with FileSource(DEFAULT_MODEL.parents[1] / "samples" / "languages.opus") as source:
        speech = np.concatenate([*source.samples()])
    starts = np.arange(0, len(speech) - 5 * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
    audio = [speech[start : start + 5 * SAMPLE_RATE_HZ] for start in starts]
    statistics, mean, course = statistics_and_spectrogram(model, open_graphs(model), audio)
    known = slice(0, len(audio) * 3 // 4)
    rest = slice(known.stop + 5, None)  # no window overlaps one that was learnt from
    of_mean = explained(statistics[known], mean[known], statistics[rest], mean[rest])
    of_course = explained(statistics[known], course[known], statistics[rest], course[rest])
    assert of_course < 0.1
    assert of_course < of_mean
