"""Noise and rooms that are made where there are none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import train.features.synthetic_noise
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from train.corpus.cuts import read_audio
from train.evaluation.conditions import TITLES, choose, find_sounds
from train.features.noise import read_noise
from train.features.synthetic_noise import make_sounds, room_response, sounds_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "sounds"
    make_sounds(folder)
    return folder


def test_the_splits_have_all_kinds(made: Path) -> None:
    kinds = [{clip.kind for clip in read_noise(made / "noise", s)} for s in ("train", "test")]
    assert kinds[0] == kinds[1]
    for split in ("train", "test"):
        for clip in read_noise(made / "noise", split):
            samples = read_audio(made / "noise" / clip.path)
            assert len(samples) == 10 * SAMPLE_RATE_HZ
            assert 0.6 < np.abs(samples).max() < 0.8
        assert len(read_noise(made / "rir", split)) >= 4


def test_no_two_are_alike(made: Path) -> None:
    files = [path.read_bytes() for path in made.rglob("*.wav")]
    assert len({*files}) == len(files)


def test_every_condition_but_voices(made: Path) -> None:
    assert choose(None, find_sounds(made)) == [name for name in TITLES if name != "babble-10"]


def test_made_again_they_are_the_same(made: Path, tmp_path: Path) -> None:
    make_sounds(tmp_path / "again")
    for path in made.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(made)).read_bytes()


@pytest.mark.parametrize("rt60_s", [0.2, 0.8])
def test_rooms_decay_as_long_as_they_say(rt60_s: float) -> None:
    """By the slope of the energy that is still to come (Schroeder 1965)."""
    response = room_response(rt60_s, np.random.default_rng(0))
    assert np.argmax(np.abs(response)) == 0  # the direct sound
    tail = response[np.flatnonzero(response)[1] :]
    left_db = 10 * np.log10(np.cumsum(np.square(tail[::-1]))[::-1] / np.sum(np.square(tail)))
    times = np.arange(len(tail)) / SAMPLE_RATE_HZ
    steady = (left_db < -5) & (left_db > -35)
    slope = np.polyfit(times[steady], left_db[steady], 1)[0]  # dB a second
    assert -60 / slope == pytest.approx(rt60_s, rel=0.1)


def test_where_they_are_looked_for(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        train.features.synthetic_noise, "make_sounds", lambda folder: shutil.copytree(made, folder)
    )
    corpus, cache = tmp_path / "data" / "corpus", tmp_path / "cache"
    corpus.mkdir(parents=True)
    assert sounds_of(corpus, Path("given"), cache) == Path("given")
    assert caplog.messages == []
    found = sounds_of(corpus, None, cache)
    assert cache in found.parents
    assert (found / "noise").is_dir()
    assert ["synthetic" in text for text in caplog.messages] == [True]
    (tmp_path / "data" / "noise").mkdir()
    assert sounds_of(corpus, None, cache) == tmp_path / "data"
    # However the corpus is named.
    (tmp_path / "link").symlink_to(corpus)
    assert sounds_of(tmp_path / "link", None, cache) == tmp_path / "data"
    monkeypatch.chdir(corpus)
    assert sounds_of(Path(), None, cache) == tmp_path / "data"


def test_a_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match="cannot make synthetic noise"):
        sounds_of(tmp_path / "corpus", None, tmp_path / "file" / "cache")
