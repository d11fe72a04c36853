"""Recordings that are varied: the same at every run, and none is spoilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from convert.varied_audio import Surroundings
from edge.errors import EdgelidError
from edge.frontend import FrontEnd, FrontEndConfig
from train.features.filterbank import mel_filterbank
from train.features.noise import read_noise

CONFIG = FrontEndConfig(mels=16)
FRONT_END = FrontEnd(CONFIG, mel_filterbank(CONFIG))


@pytest.fixture(scope="module")
def surroundings(tiny_corpus: Path) -> Surroundings:
    sounds = tiny_corpus.parent
    return Surroundings.of(sounds, read_noise(sounds / "noise", "train"))


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[Path, str]]:
    rng = np.random.default_rng(0)
    found = []
    for i, seconds in enumerate((2.0, 1.0, 1.5, 0.1, 0.01, 2.5)):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, 0.1 * rng.normal(size=round(seconds * 16_000)), 16_000)
        found.append((path, path.name))
    return found


def test_the_same_at_every_run(surroundings: Surroundings, files: list[tuple[Path, str]]) -> None:
    first, again = (surroundings.varied(files, FRONT_END, 1) for _ in range(2))
    assert first.ids == ("0.wav, varied", *(f"{i}.wav, varied" for i in range(1, 6)))
    assert first.sha256 == again.sha256
    assert surroundings.varied(files, FRONT_END, 2).sha256 != first.sha256
    lengths = [len(frames) for frames in first.frames]
    assert all(np.isfinite(frames).all() for frames in first.frames)
    # Of 2 s there are, played slower or faster, still some 2 s; what is too short stays.
    assert 130 < lengths[0] < 270
    assert lengths[3:5] == [8, 0]


def test_sounds_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="cannot read the noise manifest"):
        Surroundings.of(tmp_path, [])
