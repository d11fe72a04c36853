"""The sample recording and its labels, and the parts of its making that need no synthesiser."""

from __future__ import annotations

import importlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from train.synthesis import sample_recording
from train.synthesis.sample_recording import (
    NOISES,
    PASSAGES,
    SPEECH_RMS,
    compose,
    encode_opus,
    faded,
    main,
)

SAMPLES = Path(edge.__file__).parent / "samples"


@pytest.fixture(scope="module")
def labels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((SAMPLES / "languages.json").read_text("utf-8"))
    return found


def test_labels_tile_the_recording(labels: list[dict[str, Any]]) -> None:
    assert labels[0]["start_s"] == 0
    for before, after in pairwise(labels):
        assert before["start_s"] < before["end_s"] == after["start_s"]
    with FileSource(SAMPLES / "languages.opus") as source:
        assert (source.rate_hz, source.channels) == (SAMPLE_RATE_HZ, 1)
        samples = sum(len(block) for block in source.blocks())
    assert labels[-1]["end_s"] == pytest.approx(samples / SAMPLE_RATE_HZ, abs=0.01)


def test_labels_say_what_the_passages_are(labels: list[dict[str, Any]]) -> None:
    spoken = [span for span in labels if span["language"] != "nonspeech"]
    assert [span["language"] for span in spoken] == [passage.label for passage in PASSAGES]
    assert [span["text"] for span in spoken] == [passage.text for passage in PASSAGES]
    assert [span["voice"] for span in spoken] == [passage.voice for passage in PASSAGES]
    assert len({span["language"] for span in spoken}) == 6


def test_what_is_labelled_speech_is_the_louder(labels: list[dict[str, Any]]) -> None:
    with FileSource(SAMPLES / "languages.opus") as source:
        audio = np.concatenate(list(source.blocks()))
    for span in labels:
        part = audio[round(span["start_s"] * 16_000) : round(span["end_s"] * 16_000)]
        rms = float(np.sqrt(np.mean(np.square(part))))
        if span["language"] == "nonspeech":
            assert rms < 0.3 * SPEECH_RMS
        else:
            assert 0.6 * SPEECH_RMS < rms < 1.2 * SPEECH_RMS


def test_compose() -> None:
    rng = np.random.default_rng(0)
    spoken = [
        (SPEECH_RMS * rng.standard_normal(16_000 + 160 * i)).astype(np.float32)
        for i in range(len(PASSAGES))
    ]
    track = compose(spoken)
    assert len(track.speech) == len(track.noise)
    assert track.labels[-1]["end_s"] == pytest.approx(len(track.speech) / SAMPLE_RATE_HZ)
    placed = [span for span in track.labels if span["text"]]
    for span, samples in zip(placed, spoken, strict=True):
        start = round(span["start_s"] * SAMPLE_RATE_HZ)
        np.testing.assert_array_equal(track.speech[start : start + len(samples)], samples)
    np.testing.assert_array_equal(compose(spoken).noise, track.noise)


@pytest.mark.parametrize("kind", NOISES)
def test_noises(kind: str) -> None:
    noise = NOISES[kind](8000, np.random.default_rng(1))
    assert noise.shape == (8000,)
    assert np.sqrt(np.mean(np.square(noise))) == pytest.approx(1, rel=1e-4)
    np.testing.assert_array_equal(noise, NOISES[kind](8000, np.random.default_rng(1)))


def test_faded() -> None:
    ones = np.ones(100, np.float32)
    soft = faded(ones, 10)
    assert soft[0] == soft[-1] == 0
    assert (np.diff(soft[:10]) > 0).all()
    assert (soft[10:90] == 1).all()
    assert ones.all()


def test_clipping_is_refused() -> None:
    with pytest.raises(EdgelidError, match="the sample recording clips"):
        encode_opus(np.ones(1600, np.float32))


def test_without_the_synthesiser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str, *_: object) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    (tmp_path / "af_bella.bin").touch()
    monkeypatch.setattr(importlib, "import_module", absent)
    output = tmp_path / "out" / "languages.opus"
    assert main(["--output", str(output), "--voices", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "pip install onnxruntime" in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is said before anything is spoken."""
    (tmp_path / "taken").touch()
    monkeypatch.setattr(sample_recording, "speak", None)  # which would be called
    output = tmp_path / "taken" / "languages.opus"
    assert main(["--output", str(output), "--voices", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err == f"error: cannot make the folder {output.parent}: File exists\n"
    )
