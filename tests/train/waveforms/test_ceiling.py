"""The ceiling: heads on each layer's frames, each window alone, by duration and source."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import train.waveforms.ceiling
from edge.errors import EdgelidError
from edge.model.modelfile import NONSPEECH, OTHER
from train.waveforms.__main__ import main
from train.waveforms.bank import DEVELOPMENT, TRAIN, Segments
from train.waveforms.ceiling import ceiling, held_out_windows, pooled, table, training_windows
from train.waveforms.checkpoint import save_parts
from train.waveforms.large import Large
from train.waveforms.linear import Linear
from train.waveforms.whisper import Encoder

RATE = 16_000
LABELS = ["de", "en", OTHER, NONSPEECH]
CONFIG = """
seed = 3
[data]
languages = ["de", "en"]
[large]
layers = 1
head_penalty = 0.1
"""


def tones(hz: float, length_s: float, seed: int) -> np.ndarray:
    """A tone in noise."""
    time_s = np.arange(round(length_s * RATE)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    wave = 0.2 * np.sin(2 * np.pi * hz * time_s) + 0.02 * noise
    return np.rint(32767 * wave).astype(np.int16)


@pytest.fixture(scope="module")
def bank() -> Segments:
    """Two languages, one high and one low, of people and, in development, of a machine."""
    parts, rows = [], []
    for number, (role, language, source, kind, length_s) in enumerate(
        [
            (TRAIN, "de", "home", "human", 11.0),
            (TRAIN, "en", "home", "human", 12.0),
            (TRAIN, "en", "words", "human", 2.0),
            (TRAIN, "sv", "home", "human", 11.0),
            (DEVELOPMENT, "de", "attic", "human", 10.5),
            (DEVELOPMENT, "en", "attic", "human", 10.5),
            (DEVELOPMENT, "en", "robot", "tts", 3.5),
            (DEVELOPMENT, "sv", "attic", "human", 10.5),
        ]
    ):
        hz = {"de": 400.0, "en": 1700.0, "sv": 900.0}[language] * (1 + 0.01 * number)
        parts.append(tones(hz, length_s, number))
        names = ("role", "language", "source", "speaker", "kind", "coded")
        row = (role, language, source, f"s{number}", kind, False)
        rows.append(dict(zip(names, row, strict=True)))
    lengths = np.array([len(part) for part in parts])
    return Segments(np.concatenate(parts), np.cumsum(lengths) - lengths, lengths, rows)


def test_training_windows_lie_in_speech_of_their_language(bank: Segments) -> None:
    windows = training_windows(bank, LABELS, 3 * RATE, 5, 1)
    assert windows.labels.tolist() == [0] * 5 + [1] * 5
    for start, label in zip(windows.starts, windows.labels, strict=True):
        (segment,) = np.flatnonzero((bank.starts <= start) & (start < bank.starts + bank.lengths))
        assert start + 3 * RATE <= bank.starts[segment] + bank.lengths[segment]
        row = bank.rows[segment]
        assert (row["role"], row["language"]) == (TRAIN, LABELS[label])
    same = training_windows(bank, LABELS, 3 * RATE, 5, 1)
    assert same.starts.tolist() == windows.starts.tolist()
    with pytest.raises(EdgelidError, match="no 12 s of training speech in de by one speaker"):
        training_windows(bank, LABELS, 12 * RATE, 5, 1)


def test_held_out_windows_are_of_the_languages(bank: Segments) -> None:
    windows = held_out_windows(bank, LABELS, 3 * RATE, 2)
    assert windows.sources == ["de/attic", "de/attic", "en/attic", "en/attic", "en/robot"]
    assert windows.labels.tolist() == [0, 0, 1, 1, 1]
    with pytest.raises(EdgelidError, match="no 20 s of development speech"):
        held_out_windows(bank, LABELS, 20 * RATE, 2)


def test_a_linear_head_of_two_classes_and_of_three() -> None:
    rng = np.random.default_rng(0)
    for classes in (2, 3):
        labels = np.arange(90) % classes
        x = rng.standard_normal((90, 4))
        x[np.arange(90), labels] += 4
        head = Linear.fit(x, labels, 0.1)
        assert head.kernel.shape == (4, classes)
        assert np.mean(head.scores(x).argmax(axis=1) == labels) > 0.9
        strict = Linear.fit(x, labels, 100.0)
        assert np.abs(strict.kernel).max() < np.abs(head.kernel).max()


def test_each_layer_is_pooled_alone() -> None:
    encoder = Encoder(2, dim=16, heads=2)
    wave = np.random.default_rng(1).standard_normal((2, RATE)).astype(np.float32)
    wave = wave[:, : RATE - 15 - 225]  # an even number of frames
    both = np.asarray(pooled(encoder)(wave))
    assert both.shape == (2, 2, 32)
    np.testing.assert_allclose(np.asarray(pooled(encoder)(wave[1:]))[0], both[1], atol=1e-4)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random layers in place of Whisper's, which tell a high tone from a low one, and short
    windows.
    """

    def encoder(arrays: dict[str, np.ndarray]) -> Encoder:
        keras.utils.set_random_seed(6)
        return Encoder(2, dim=32, heads=2)

    monkeypatch.setattr(train.waveforms.ceiling, "LENGTHS_S", (1.0, 3.0))
    monkeypatch.setattr(train.waveforms.ceiling, "whole_encoder", encoder)
    monkeypatch.setattr(train.waveforms.ceiling, "read_whisper", lambda file: {})


def test_the_command(
    bank: Segments,
    tmp_path: Path,
    small: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bank.save(tmp_path / "bank")
    (tmp_path / "c.toml").write_text(CONFIG)
    large = Large(1, len(LABELS), dim=64, heads=1)
    save_parts(tmp_path / "large.npz", large.arrays(), {"config": tomllib.loads(CONFIG)})
    given = ["c.toml", "--bank", "bank", "--weights", "w.bin", "--large", "large.npz"]
    given += ["--per-language", "4", "--most", "2", "--json", "ceiling.json"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.waveforms", "ceiling", *given])
    assert main() == 0
    report: dict[str, Any] = json.loads((tmp_path / "ceiling.json").read_text())
    assert report["windows"] == {
        "1": {"train": 8, "development": 6},
        "3": {"train": 8, "development": 5},
    }
    rows = {row["frames"]: row["durations"] for row in report["rows"]}
    assert list(rows) == [
        "Whisper, layer 1",
        "Whisper, layer 2",
        "large model, layer 1",
        "large model, its own head",
    ]
    first = rows["Whisper, layer 1"]["3"]
    assert first["macro"] == 1.0
    assert first["by_language"] == {"de": 1.0, "en": 1.0}
    assert first["by_source"] == {"de/attic": 1.0, "en/attic": 1.0, "en/robot": 1.0}
    assert (first["natural"], first["synthetic"]) == (1.0, 1.0)
    printed = capsys.readouterr().out.splitlines()
    assert printed == list(table(report))
    assert printed[0].startswith("| frames of | 1 s | 3 s | natural, 1 s |")
    assert any(line.startswith("| en/robot | ") for line in printed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("languages = ", "tongues = "), "the configuration is not one of the large model"),
        (('["de", "en"]', '["en", "de"]'), "large.npz and the configuration differ in their lang"),
    ],
)
def test_what_does_not_fit(
    bank: Segments, tmp_path: Path, small: None, change: tuple[str, str], message: str
) -> None:
    large = Large(1, len(LABELS), dim=64, heads=1)
    save_parts(tmp_path / "large.npz", large.arrays(), {"config": tomllib.loads(CONFIG)})
    config = tomllib.loads(CONFIG.replace(*change))
    with pytest.raises(EdgelidError, match=message):
        ceiling(config, bank, tmp_path / "w.bin", tmp_path / "large.npz", 2, 2)


def test_a_compact_checkpoint_is_no_large_one(bank: Segments, tmp_path: Path, small: None) -> None:
    told = {"config": tomllib.loads(CONFIG)}
    save_parts(tmp_path / "x.npz", {"weights": np.zeros(3)}, told)
    with pytest.raises(EdgelidError, match=r"x.npz is no checkpoint of the large model"):
        ceiling(told["config"], bank, tmp_path / "w.bin", tmp_path / "x.npz", 2, 2)
