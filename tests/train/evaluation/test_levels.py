"""What quiet input costs: speech at a level, heard with automatic gain and without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from train.evaluation import levels
from train.evaluation.levels import Piece, accuracy, main, recorded, taken_for_speech


@pytest.mark.parametrize("peak_db", [-6.0, -40.0, -60.0])
def test_a_quiet_microphone_has_sixteen_bits(peak_db: float) -> None:
    loud = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000).astype(np.float32)
    quiet = recorded(loud, peak_db, "here", None)
    assert np.abs(quiet).max() == pytest.approx(10 ** (peak_db / 20), abs=2.0**-16)
    np.testing.assert_array_equal(quiet * 2**15, np.rint(quiet * 2**15))


def test_hiss_is_as_loud_at_any_level() -> None:
    silence = np.zeros(160_000, np.float32)
    hiss = [recorded(silence, peak_db, "here", -60.0) for peak_db in (0.0, -50.0)]
    np.testing.assert_array_equal(*hiss)
    assert 20 * np.log10(hiss[0].std()) == pytest.approx(-60.0, abs=0.1)


def test_accuracy() -> None:
    pieces = [Piece(language, "", np.zeros(0, np.float32)) for language in ("de", "de", "en")]
    heard = [np.array(p) for p in ([0.9, 0.05, 0.05], [0.4, 0.1, 0.5], [0.6, 0.3, 0.1])]
    told = accuracy(pieces, heard, ["de", "en", "nonspeech"], ["de", "en"])
    assert told == {
        "languages": pytest.approx(2 / 3, abs=1e-4),
        "open": pytest.approx(1 / 3, abs=1e-4),
    }


def test_languages_that_nobody_speaks_can_be_answered() -> None:
    pieces = [Piece("de", "", np.zeros(0, np.float32))] * 2
    heard = [np.array(p) for p in ([0.4, 0.5, 0.1], [0.4, 0.1, 0.5])]
    told = accuracy(pieces, heard, ["de", "en", "nonspeech"], ["de", "en"])
    assert told == {"languages": 0.5, "open": 0.0}


def test_what_is_held_out_is_no_test_speech(
    tiny_corpus: Path, tiny_toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--corpus", str(tiny_corpus), "--held-out", str(tiny_toml), "--split", "test"]
    assert main(arguments) == 1
    assert "give it with --split dev" in capsys.readouterr().err


def test_noise_that_is_taken_for_speech() -> None:
    heard = [np.array(p) for p in ([0.1, 0.9], [0.55, 0.45], [0.8, 0.2], [0.2, 0.8])]
    told = taken_for_speech(heard, ["de", "nonspeech"], 0.7)
    assert told == {"speech": 0.5, "sure": 0.25}


def test_a_report(
    tiny_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(levels, "STREAM_S", 30.0)
    file = tmp_path / "levels.json"
    arguments = ["--corpus", str(tiny_corpus), "--split", "test", "--peaks=-20,-55"]
    arguments += ["--per-language", "2", "--streams", "1", "--json", str(file)]
    assert main(arguments) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.count("|") for row in rows] == [9] * 6 + [0] + [6] * 4
    report = json.loads(file.read_text())
    assert [(row["place"], row["peak_db"], row["gain"]) for row in report["levels"]] == [
        (place, peak_db, gain)
        for place in ("clean", "room")
        for peak_db in (-20, -55)
        for gain in ("none", "automatic")
    ]
    for none, automatic in zip(report["levels"][::2], report["levels"][1::2], strict=True):
        assert 0 <= none["streams"]["error_rate"] <= 1
        assert ("noise" in none) == (none["place"] == "clean")
        if none["peak_db"] == -20:
            assert {**none, "gain": "automatic"} == automatic


def test_no_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--corpus", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
