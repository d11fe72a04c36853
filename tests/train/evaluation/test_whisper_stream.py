"""Whisper on a stream: what changes when, and the table beside a second opinion."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edge.bench.measure import SAMPLE
from edge.bench.turns import Turn
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, read_model
from train.evaluation import whisper_stream
from train.evaluation.whisper_stream import follow, side_by_side, table, whisper
from train.fit.teacher import weights_dir


def test_an_answer_every_three_seconds() -> None:
    # The stretch says itself what it is.
    audio = np.repeat(np.float32([0, 1, 1, 0, 2]), 3 * SAMPLE_RATE_HZ)
    heard: list[int] = []

    def ask(samples: Float32Array) -> str:
        heard.append(len(samples))
        return ("de", "en", "fr")[int(samples[0])]

    turns = [Turn("de", 0, 2), Turn("en", 2, 9), Turn("fr", 12.5, 15.5)]
    found = follow(ask, audio, turns)
    assert heard == [3 * SAMPLE_RATE_HZ] * 6
    assert found["missed"] == 1  # at 3 s, the first turn is over
    assert found["median_delay_s"] == 2.5  # of 2, 4, 2.5
    assert found["core_share"] >= 0


@pytest.mark.slow
def test_beside_a_second_opinion() -> None:
    said: list[str] = []
    found = side_by_side(SAMPLE, str(DEFAULT_MODEL), lambda samples: "en", said.append)
    lines = list(table(found))
    assert len(lines) == 6
    assert found["listening"]["whisper"]["missed"] > 3
    assert lines[4].startswith("Whisper base, every 3 s")


def test_speech_that_nothing_is_known_of(tmp_path: Path) -> None:
    path = tmp_path / "languages.opus"
    path.write_bytes(SAMPLE.read_bytes())
    with pytest.raises(EdgelidError, match=r"languages\.json beside it"):
        side_by_side(path, str(DEFAULT_MODEL), lambda samples: "en", print)


def test_a_report_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said before the work."""
    monkeypatch.setattr(whisper_stream, "whisper", None)  # which would be called
    with pytest.raises(EdgelidError, match=r"cannot write .*none/found\.json: No such file"):
        whisper_stream.main(["--json", str(tmp_path / "none" / "found.json")])


@pytest.mark.slow
def test_whisper_itself_knows_what_is_spoken() -> None:
    if importlib.util.find_spec("faster_whisper") is None:
        pytest.skip("needs the extra whisper")
    from train.corpus.cuts import read_audio

    languages = read_model(DEFAULT_MODEL).languages
    try:
        ask = whisper(weights_dir(), languages)
    except EdgelidError as error:
        pytest.skip(str(error))
    samples = read_audio(SAMPLE)
    parts = [samples[at * SAMPLE_RATE_HZ : (at + 6) * SAMPLE_RATE_HZ] for at in (2, 11, 21)]
    assert [ask(part) for part in parts] == ["en", "es", "fr"]
