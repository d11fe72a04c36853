"""The feature cache: what is in it, when it is used, and that it is never half there."""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import train.features.cache
import train.features.shards
from edge.errors import EdgelidError
from edge.frontend import FrontEnd, FrontEndConfig
from tests.synthetic import noise, room, speech, write_audio
from train.corpus.cuts import read_audio
from train.features.cache import CachedFeatures, prepare
from train.features.filterbank import mel_filterbank

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


def files(cache: Path) -> dict[str, bytes]:
    """What is in a cache, but for the lock."""
    found = (path for path in cache.rglob("*") if path.is_file() and path.name != "lock")
    return {path.name: path.read_bytes() for path in found}


def copy(audio: Path, folder: Path, bad: Sequence[str] = ()) -> Path:
    """The files in another folder, some of them no audio."""
    folder.mkdir()
    for path in (*PATHS, "room.wav"):
        data = b"no audio" if path in bad else (audio / path).read_bytes()
        (folder / path).write_bytes(data)
    return folder


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path) -> None:
        raise AssertionError(f"{path} was decoded")

    monkeypatch.setattr(train.features.cache, "read_audio", read)


def test_the_clean_variant_is_the_front_end(audio: Path, tmp_path: Path) -> None:
    features = prepared(audio, tmp_path)
    front_end = FrontEnd(CONFIG, mel_filterbank(CONFIG))
    for index, path in enumerate(PATHS):
        front_end.reset()
        expected = front_end.process(read_audio(audio / path)).astype(np.float16)
        np.testing.assert_array_equal(features.clip(index, 0), expected)
        assert features.lengths[0, index] == len(expected)
    assert features.lengths[0, 2] == 0
    np.testing.assert_array_equal(features.speeds, 1.0)


def test_found_again(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepared(audio, tmp_path, variants=1)
    forbid_decoding(monkeypatch)
    assert everything(prepared(audio, tmp_path, variants=1)) == everything(first)


def test_more_variants_keep_those_that_are_there(audio: Path, tmp_path: Path) -> None:
    prepared(audio, tmp_path)
    (shard,) = tmp_path.rglob("*.array_record")
    before = shard.stat().st_mtime_ns
    assert prepared(audio, tmp_path, variants=1).lengths.shape == (2, len(PATHS))
    assert shard.stat().st_mtime_ns == before
    assert len(files(tmp_path)) == 4


def test_another_front_end_and_another_corpus_are_another_cache(
    audio: Path, tmp_path: Path
) -> None:
    prepared(audio, tmp_path)
    prepare(audio, PATHS, tmp_path, FrontEndConfig(mels=20), 0, [], 1)
    assert len(os.listdir(tmp_path)) == 2
    prepare(audio, PATHS[:2], tmp_path, CONFIG, 0, [], 1)
    assert len(list(tmp_path.rglob("*.json"))) == 3


def test_other_rooms_are_other_variants(audio: Path, tmp_path: Path) -> None:
    """But not another clean variant."""
    prepared(audio, tmp_path, variants=1)
    other = tmp_path / "room.wav"
    write_audio(other, room("hall"))
    prepare(audio, PATHS, tmp_path / "two", CONFIG, 1, [other], 1)
    one, two = files(tmp_path), files(tmp_path / "two")
    assert len(one.keys() | two.keys()) == 7  # the audio of the room, and three shards
    assert len(one.keys() & two.keys()) == 4


def test_a_corpus_that_grows(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole shards stay, those that have changed are made anew."""
    monkeypatch.setattr(train.features.cache, "CLIPS", 2)
    prepare(audio, PATHS[:3], tmp_path, CONFIG, 0, [], 1)
    read: list[str] = []

    def noted(path: Path) -> np.ndarray:
        read.append(path.name)
        return read_audio(path)

    monkeypatch.setattr(train.features.cache, "read_audio", noted)
    features = prepare(audio, PATHS, tmp_path, CONFIG, 0, [], 1)
    assert read == ["short.wav", "hiss.wav"]
    assert features.numbers.tolist() == [0, 1, 0, 1]
    monkeypatch.setattr(train.features.cache, "CLIPS", 1024)
    assert everything(features) == everything(prepared(audio, tmp_path / "again"))


@pytest.mark.parametrize("damage", ["shard cut", "shard gone", "index cut", "index gone"])
def test_an_incomplete_cache_is_not_used(audio: Path, tmp_path: Path, damage: str) -> None:
    whole = everything(prepared(audio, tmp_path))
    what, how = damage.split()
    (file,) = tmp_path.rglob({"shard": "*.array_record", "index": "*.json"}[what])
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
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.slow
def test_a_cluster_gives_the_same(audio: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    one = prepared(audio, tmp_path / "one", variants=2)
    rooms = [audio / "room.wav"]
    two = prepare(audio, PATHS, tmp_path / "two", CONFIG, 2, rooms, 1, cluster="local")
    assert everything(one) == everything(two)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_no_ray(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EdgelidError, match=r'pip install "edgelid\[edge,train,cluster\]"'):
        prepare(audio, PATHS, tmp_path, CONFIG, 0, [], 1, cluster="auto")


@pytest.mark.slow
def test_no_such_cluster(audio: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    with pytest.raises(EdgelidError, match="cannot use the Ray cluster nowhere"):
        prepare(audio, PATHS, tmp_path, CONFIG, 0, [], 1, cluster="nowhere")


def test_readers_go_to_other_processes(audio: Path, tmp_path: Path) -> None:
    features = prepared(audio, tmp_path, variants=1)
    expected = everything(features)  # opens the files
    assert everything(pickle.loads(pickle.dumps(features))) == expected


def test_few_files_are_open(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.features.cache, "CLIPS", 1)
    monkeypatch.setattr(train.features.shards, "MOST_OPEN", 2)
    features = prepared(audio, tmp_path, variants=1)
    expected = everything(features)

    def opened() -> list[str]:
        links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
        return [link for link in links if link.startswith(str(tmp_path.resolve()))]

    assert everything(features) == expected
    assert 0 < len(opened()) <= 2


def test_a_shard_that_has_gone(audio: Path, tmp_path: Path) -> None:
    features = prepared(audio, tmp_path)
    for shard in tmp_path.rglob("*.array_record"):
        shard.unlink()
    with pytest.raises(EdgelidError, match="prepare the features again"):
        features.clip(0, 0)


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
    parts = [(part, i) for part in (one, two, one) for i in range(len(part.numbers))]
    assert len(np.unique(joined.speeds[1])) > 2
    for table in (joined.shards, joined.lengths, joined.speeds):
        assert table.shape == (2, len(parts))
    for variant in (0, 1):
        for index, (part, i) in enumerate(parts):
            expected = part.clip(i, variant)
            np.testing.assert_array_equal(joined.clip(index, variant), expected)
            assert joined.lengths[variant, index] == len(expected)
            assert joined.speeds[variant, index] == part.speeds[variant, i]

    taken = joined.take([9, 4, 0])
    np.testing.assert_array_equal(taken.clip(1, 1), two.clip(0, 1))
    np.testing.assert_array_equal(taken.clip(0, 0), one.clip(3, 0))
    assert everything(CachedFeatures.join([one])) == everything(one)


def test_corpora_of_different_variants(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different numbers of variants"):
        CachedFeatures.join([prepared(audio, tmp_path), prepared(audio, tmp_path, variants=1)])


@pytest.mark.parametrize("workers", [1, 2])
def test_unreadable_audio(
    audio: Path,
    tmp_path: Path,
    workers: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All bad files are named; what was computed of the others stays."""
    monkeypatch.setattr(train.features.cache, "CLIPS", 1)
    corpus, cache = copy(audio, tmp_path / "corpus", ["en.opus", "hiss.wav"]), tmp_path / "cache"
    with pytest.raises(EdgelidError, match=r"files: 2\): .*--skip-bad; .*en\.opus"):
        prepare(corpus, PATHS, cache, CONFIG, 1, [audio / "room.wav"], workers)
    named = caplog.messages[0].splitlines()[1:]
    assert [PATHS[1] in named[0], PATHS[3] in named[1], len(named)] == [True, True, 2]
    times = {file: file.stat().st_mtime_ns for file in cache.rglob("*.array_record")}
    for path in ("en.opus", "hiss.wav"):
        (corpus / path).write_bytes((audio / path).read_bytes())  # mended
    features = prepare(corpus, PATHS, cache, CONFIG, 1, [audio / "room.wav"], workers)
    assert everything(features) == everything(prepared(audio, tmp_path / "other", variants=1))
    kept = [file for file, time in times.items() if file.stat().st_mtime_ns == time]
    assert len(kept) >= 4  # two clips in two variants


def test_bad_files_are_left_out_and_named(
    audio: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus = copy(audio, tmp_path / "corpus", ["en.opus"])
    (corpus / "hiss.wav").unlink()
    whole = everything(prepared(audio, tmp_path / "whole"))
    for _ in range(2):  # they are named again where nothing is left to compute
        caplog.clear()
        features = prepare(corpus, PATHS, tmp_path / "c", CONFIG, 0, [], 1, skip_bad=True)
        assert everything(features) == [whole[0], b"", whole[2], b""]
        message = caplog.messages[0].splitlines()
        assert message[0] == "left out, as they cannot be read (files: 2):"
        assert ["en.opus" in message[1], "hiss.wav" in message[2]] == [True, True]
        forbid_decoding(monkeypatch)


def test_many_bad_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = [f"{number}.wav" for number in range(30)]
    for path in paths:
        (tmp_path / path).write_bytes(b"no audio")
    with pytest.raises(EdgelidError, match="files: 30"):
        prepare(tmp_path, paths, tmp_path / "cache", CONFIG, 0, [], 1)
    lines = caplog.messages[0].splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 10 more"


def test_a_missing_file(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"none\.wav is not in .* \(files missing: 1\)"):
        prepare(audio, ["de.wav", "none.wav"], tmp_path, CONFIG, 0, [], 1)
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
        patch.setattr(train.features.cache, "read_audio", read)
        with pytest.raises(KeyboardInterrupt):
            prepared(audio, tmp_path)
    assert files(tmp_path) == {}
    assert len(everything(prepared(audio, tmp_path))) == len(PATHS)


def test_a_second_process_waits_for_the_first(
    audio: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And finds what that has done."""
    prepared(audio, tmp_path / "whole")
    (cache,) = (tmp_path / "whole").iterdir()
    folder = tmp_path / "cache" / cache.name
    folder.mkdir(parents=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool, caplog.at_level(logging.INFO):
            forbid_decoding(monkeypatch)
            second = pool.submit(prepared, audio, tmp_path / "cache")
            while not any("waiting for another process" in text for text in caplog.messages):
                assert not second.done()
            for file in cache.iterdir():
                if file.name != "lock":
                    shutil.copy(file, folder)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert len(second.result().numbers) == len(PATHS)
