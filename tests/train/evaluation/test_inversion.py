"""What an attacker gets from the statistics of lessons: the voice, and not the words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.model.interpreter import open_graphs
from edge.model.modelfile import DEFAULT_MODEL, read_model
from tests.conftest import Conversion
from train.evaluation.inversion import attack, explained, statistics_and_spectrogram


def test_regression_finds_what_is_there() -> None:
    rng = np.random.default_rng(0)
    known, attacked = rng.normal(size=(300, 8)), rng.normal(size=(50, 8))
    weights = rng.normal(size=(8, 5))
    assert explained(known, known @ weights, attacked, attacked @ weights) > 0.95
    noise = rng.normal(size=(50, 5))
    assert explained(known, rng.normal(size=(300, 5)), attacked, noise) < 0.05


def test_a_corpus_without_test_speech(
    tiny_conversion: Conversion, tiny_corpus: Path, tmp_path: Path
) -> None:
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines()
    kept = [line for line in lines if "\ttest\t" not in line]
    (tmp_path / "manifest.tsv").write_text("\n".join(kept) + "\n")
    for name in {line.split("/")[0] for line in kept[1:]}:
        (tmp_path / name).symlink_to(tiny_corpus / name)
    with pytest.raises(EdgelidError, match=r"the test split of .* has no 3\.. s of any speaker"):
        attack(tiny_conversion.path, tmp_path)


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
