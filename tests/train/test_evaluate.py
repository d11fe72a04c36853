"""Scores worked out by hand, and the same answers as the command that people use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.classifier import StreamingClassifier
from edge.classify import RecordingClassifier, classify_file
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float64Array
from edge.interpreter import open_graphs
from edge.modelfile import read_model
from tests.conftest import Conversion
from train.cuts import Cut, balanced, cuts, load_cut
from train.evaluate import (
    SEED,
    Scored,
    accuracy_report,
    among,
    evaluate_model,
    expected_calibration_error,
    fit_temperature,
    score_audio,
)
from train.manifest import read_manifest
from train.report import table, write_json

LABELS = ("de", "en", "other", "nonspeech")


def cut(language: str, source: str = "home") -> Cut:
    return Cut(language, True, "anna", source, "human", 0, 1.0, (("a.wav", 0.0, 1.0),))


def scored(probabilities: list[list[float]], languages: list[str]) -> Scored:
    return Scored([cut(name) for name in languages], np.log(np.array(probabilities)), LABELS)


def test_calibration_error_by_hand() -> None:
    # Two bins: 0.9 twice, once right; 0.6 (of the other class) three times, always right.
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]])
    wanted = np.array([0, 1, 1, 1, 1])
    expected = 2 / 5 * abs(0.5 - 0.9) + 3 / 5 * abs(1.0 - 0.6)
    assert expected_calibration_error(probabilities, wanted) == pytest.approx(expected)


def test_calibration_error_of_certainty() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == 0
    assert expected_calibration_error(certain, np.array([1, 0])) == 1


@pytest.mark.parametrize(("margin", "share"), [(4.0, 0.9), (1.0, 0.8), (0.5, 0.6)])
def test_temperature_by_hand(margin: float, share: float) -> None:
    """Always the same margin, right in a share of the cases: the best posterior is that share."""
    scores = np.array([[0.0, margin]] * 100)
    wanted = (np.arange(100) < 100 * share).astype(int)
    expected = margin / np.log(share / (1 - share))
    assert fit_temperature(scores, wanted) == pytest.approx(expected, rel=0.01)


def test_temperature_has_limits() -> None:
    scores = np.array([[0.0, 3.0]] * 10)
    assert fit_temperature(scores, np.ones(10, int)) == pytest.approx(0.2)
    assert fit_temperature(scores, np.zeros(10, int)) == pytest.approx(10.0)


def test_accuracy_by_hand() -> None:
    report = accuracy_report(
        scored(
            [
                [0.7, 0.1, 0.1, 0.1],
                [0.6, 0.2, 0.1, 0.1],
                [0.1, 0.7, 0.1, 0.1],
                [0.1, 0.1, 0.1, 0.7],
            ],
            ["de", "de", "de", "en"],
        )
    )
    assert report["cuts"] == 4
    assert report["accuracy"] == 0.5
    assert report["by_language"] == {"de": 0.6667, "en": 0.0}
    assert report["macro_accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert report["confusion"] == {"de": {"de": 2, "en": 1}, "en": {"nonspeech": 1}}
    assert report["by_source"] == {"de/home": 0.6667, "en/home": 0.0}


def test_among_renormalises() -> None:
    some = among(scored([[0.2, 0.3, 0.4, 0.1]], ["de"]), ["de", "en"])
    np.testing.assert_allclose(np.exp(some.log_probabilities), [[0.4, 0.6, 0, 0]], atol=1e-12)


@pytest.fixture(scope="module")
def test_cuts(tiny_corpus: Path) -> list[Cut]:
    clips = [clip for clip in read_manifest(tiny_corpus) if clip.split == "test"]
    return cuts(clips, duration_s=10.0, seed=SEED)


def stream(
    conversion: Conversion, audio: Path, some: Cut, languages: list[str] | None
) -> Float64Array:
    model = read_model(conversion.path)
    classifier = StreamingClassifier(model, open_graphs(model), [some.duration_s], languages)
    return np.exp(score_audio(classifier, load_cut(some, audio)))


def test_scores_as_classify_does(
    tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut], tmp_path: Path
) -> None:
    model = read_model(tiny_conversion.path)
    classifier = RecordingClassifier(model, open_graphs(model))
    for some in test_cuts:
        file = tmp_path / "cut.wav"
        soundfile.write(file, load_cut(some, tiny_corpus), SAMPLE_RATE_HZ, subtype="FLOAT")
        answer = classify_file(classifier, file)
        expected = stream(tiny_conversion, tiny_corpus, some, None)
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, rtol=1e-9)


def test_among_is_what_the_mask_does(
    tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut]
) -> None:
    some = test_cuts[0]
    everything = stream(tiny_conversion, tiny_corpus, some, None)
    masked = stream(tiny_conversion, tiny_corpus, some, ["en"])  # nonspeech stays possible
    closed = among(Scored([some], np.log(everything)[None], LABELS), ["en", "nonspeech"])
    np.testing.assert_allclose(np.exp(closed.log_probabilities[0]), masked, rtol=1e-6, atol=1e-12)


@pytest.fixture(scope="module")
def report(tiny_conversion: Conversion, tiny_corpus: Path) -> dict[str, object]:
    return evaluate_model(tiny_conversion.path, tiny_corpus, "test", [1.0, 10.0], 3)


def test_evaluate_model(
    report: dict[str, dict[str, dict[str, dict[str, object]]]],
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    test_cuts: list[Cut],
) -> None:
    assert report["split"] == "test"
    assert list(report["durations"]) == ["1", "10"]
    known = [c for c in test_cuts if c.language in ("de", "en")]
    known = balanced(known, per_language=3, seed=SEED)
    entry = report["durations"]["10"]
    answers = [
        LABELS[int(stream(tiny_conversion, tiny_corpus, some, None).argmax())] for some in known
    ]
    hits = [answer == some.language for answer, some in zip(answers, known, strict=True)]
    assert entry["open"]["cuts"] == len(known) == 2
    assert entry["open"]["accuracy"] == np.mean(hits)
    assert entry["languages"]["cuts"] == len(known)
    assert entry["other"]["cuts"] == 1
    one = report["durations"]["1"]
    assert one["languages"]["cuts"] == 4  # of each speaker, one in each item of 10 s or less
    for name in ("languages", "open"):
        for value in ("accuracy", "macro_accuracy", "ece"):
            assert 0 <= one[name][value] <= 1  # type: ignore[operator]


def test_table(report: dict[str, object]) -> None:
    lines = table(report)
    text = "\n".join(lines)
    assert lines[0] == "tiny, split test, restricted to its languages"
    assert text.count("1 s") >= 2
    assert text.count("10 s") >= 2
    assert "de" in text
    assert "other languages taken for one of these" in text


def test_json(report: dict[str, object], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_json(file, report)
    assert json.loads(file.read_text()) == report
    with pytest.raises(EdgelidError, match="cannot write"):
        write_json(tmp_path / "none" / "report.json", report)


def test_nothing_to_score(tiny_conversion: Conversion, tiny_corpus: Path) -> None:
    with pytest.raises(EdgelidError, match="give a duration"):
        evaluate_model(tiny_conversion.path, tiny_corpus, "test", [], 3)
    with pytest.raises(EdgelidError, match="at least one cut"):
        evaluate_model(tiny_conversion.path, tiny_corpus, "test", [1.0], 0)
    with pytest.raises(EdgelidError, match="at most 10 s"):
        evaluate_model(tiny_conversion.path, tiny_corpus, "test", [11.0], 3)


def test_a_split_without_known_speech(
    tiny_conversion: Conversion, tiny_corpus: Path, tmp_path: Path
) -> None:
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines()
    kept = [line for line in lines if line.startswith(("path", "sv"))]
    (tmp_path / "manifest.tsv").write_text("\n".join(kept) + "\n")
    with pytest.raises(EdgelidError, match="split test has no 1 s of speech"):
        evaluate_model(tiny_conversion.path, tmp_path, "test", [1.0], 3)
