"""The feature cache: what is in it, when it is used, and that it is never half there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import train.features
from edge.errors import EdgelidError
from edge.frontend import FrontEnd, FrontEndConfig
from tests.synthetic import noise, room, speech, write_audio
from train.cuts import read_audio
from train.features import CachedFeatures, prepare
from train.filterbank import mel_filterbank

CONFIG = FrontEndConfig(mels=24)
PATHS = ("de.wav", "en.opus", "short.wav", "hiss.wav")


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four files, one of them too short for a frame, and a room."""
    folder = tmp_path_factory.mktemp("audio")
    write_audio(folder / "de.wav", speech("de", "anna", 0, 1.2))
    write_audio(folder / "en.opus", speech("en", "bert", 0, 0.8))
    write_audio(folder / "short.wav", speech("en", "bert", 1, 0.02))
    write_audio(folder / "hiss.wav", noise("hiss", 0.5))
    write_audio(folder / "room.wav", room("small"))
    return folder


def prepared(audio: Path, cache: Path, variants: int = 0, workers: int = 1) -> CachedFeatures:
    return prepare(audio, PATHS, cache, CONFIG, variants, [audio / "room.wav"], workers)


def everything(features: CachedFeatures) -> list[bytes]:
    variants, clips = features.lengths.shape
    return [features.clip(i, v).tobytes() for v in range(variants) for i in range(clips)]


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr(train.features, "read_audio", read)


def test_the_clean_variant_is_the_front_end(audio: Path, tmp_path: Path) -> None:
    features = prepared(audio, tmp_path)
    front_end = FrontEnd(CONFIG, mel_filterbank(CONFIG))
    for index, path in enumerate(PATHS):
        front_end.reset()
        expected = front_end.process(read_audio(audio / path)).astype(np.float16)
        np.testing.assert_array_equal(features.clip(index, 0), expected)
    assert features.lengths.tolist()[0][2] == 0
    np.testing.assert_array_equal(features.speeds, 1.0)


def test_found_again(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(audio, tmp_path, variants=1)
    forbid_decoding(monkeypatch)
    assert everything(prepared(audio, tmp_path, variants=1)) == everything(first)


def test_more_variants_keep_those_that_are_there(audio: Path, tmp_path: Path) -> None:
    prepared(audio, tmp_path)
    (frames,) = tmp_path.rglob("frames-0.f16")
    before = frames.stat().st_mtime_ns
    assert prepared(audio, tmp_path, variants=1).lengths.shape == (2, len(PATHS))
    assert frames.stat().st_mtime_ns == before


def test_another_front_end_and_another_corpus_are_another_cache(
    audio: Path, tmp_path: Path
) -> None:
    prepared(audio, tmp_path)
    prepare(audio, PATHS, tmp_path, FrontEndConfig(mels=20), 0, [], 1)
    prepare(audio, PATHS[:2], tmp_path, CONFIG, 0, [], 1)
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("damage", ["frames cut", "frames gone", "index cut", "index gone"])
def test_an_incomplete_cache_is_not_used(audio: Path, tmp_path: Path, damage: str) -> None:
    whole = everything(prepared(audio, tmp_path))
    what, how = damage.split()
    (file,) = tmp_path.rglob(f"{what}-0.*")
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-10])
    assert everything(prepared(audio, tmp_path)) == whole


def test_variants(audio: Path, tmp_path: Path) -> None:
    features = prepared(audio, tmp_path, variants=3)
    for variant in (1, 2, 3):
        for index in (0, 1, 3):
            clean, varied = features.clip(index, 0), features.clip(index, variant)
            speed = features.speeds[variant, index]
            # A frame more or less, as the last one has to be whole.
            assert len(varied) == pytest.approx(len(clean) / speed, abs=3)
            assert np.isfinite(varied).all()
    assert len(np.unique(features.speeds)) > 3
    assert everything(prepared(audio, tmp_path / "again", variants=3)) == everything(features)


def test_processes_give_the_same(audio: Path, tmp_path: Path) -> None:
    one = prepared(audio, tmp_path / "one", variants=1)
    two = prepared(audio, tmp_path / "two", variants=1, workers=2)
    assert everything(one) == everything(two)


def test_take(audio: Path, tmp_path: Path) -> None:
    features = prepared(audio, tmp_path, variants=1)
    taken = features.take([3, 0])
    np.testing.assert_array_equal(taken.clip(0, 1), features.clip(3, 1))
    np.testing.assert_array_equal(taken.clip(1, 0), features.clip(0, 0))


def test_join(audio: Path, tmp_path: Path) -> None:
    """Corpora that lie in different caches, as one list of clips."""
    one = prepare(audio, PATHS, tmp_path, CONFIG, 1, [audio / "room.wav"], 1)
    two = prepare(audio, PATHS[1::-1], tmp_path, CONFIG, 1, [audio / "room.wav"], 1)
    joined = CachedFeatures.join([one, two, one])
    assert joined.corpora.tolist() == [0] * 4 + [1] * 2 + [2] * 4
    parts = [(part, i) for part in (one, two, one) for i in range(len(part.corpora))]
    assert len(np.unique(joined.speeds[1])) > 2
    for table in (joined.starts, joined.lengths, joined.speeds):
        assert table.shape == (2, len(parts))
    for variant in (0, 1):
        for index, (part, i) in enumerate(parts):
            expected = part.clip(i, variant)
            np.testing.assert_array_equal(joined.clip(index, variant), expected)
            assert joined.speeds[variant, index] == part.speeds[variant, i]

    taken = joined.take([9, 4, 0])
    assert taken.corpora.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(taken.clip(1, 1), two.clip(0, 1))
    np.testing.assert_array_equal(taken.clip(0, 0), one.clip(3, 0))
    assert everything(CachedFeatures.join([one])) == everything(one)


def test_corpora_of_different_variants(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="longer"):
        CachedFeatures.join([prepared(audio, tmp_path), prepared(audio, tmp_path, variants=1)])


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_audio(audio: Path, tmp_path: Path, workers: int) -> None:
    (tmp_path / "good.wav").write_bytes((audio / "de.wav").read_bytes())
    (tmp_path / "bad.wav").write_text("no audio")
    with pytest.raises(EdgelidError, match=r"bad\.wav"):
        prepare(tmp_path, ["good.wav", "bad.wav"], tmp_path / "cache", CONFIG, 0, [], workers)
    assert files(tmp_path / "cache") == []


def test_a_missing_file(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"cannot read .*none\.wav: No such file"):
        prepare(audio, ["none.wav"], tmp_path, CONFIG, 0, [], 1)
    assert not os.listdir(tmp_path)


def test_nothing_long_enough(audio: Path, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(EdgelidError, match="no file is long enough"):
            prepare(audio, ["short.wav"], tmp_path, CONFIG, 0, [], 1)


def test_a_cache_that_cannot_be_made(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match=r"cannot make the cache .*: Not a directory"):
        prepared(audio, tmp_path / "file")


def test_interrupted(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> np.ndarray:
        if path.name == "short.wav":
            raise KeyboardInterrupt
        return read_audio(path)

    with monkeypatch.context() as patch:
        patch.setattr(train.features, "read_audio", read)
        with pytest.raises(KeyboardInterrupt):
            prepared(audio, tmp_path)
    assert files(tmp_path) == []
    assert len(everything(prepared(audio, tmp_path))) == len(PATHS)
