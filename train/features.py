"""The feature cache: every clip decoded, augmented and turned into log-mel frames, once.

A cache is a folder of flat arrays of all frames, one a variant (variant 0 is clean), and an
index. Arrays are memory-mapped in training, so a corpus need not fit into memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge.atomic import atomic_file
from edge.errors import EdgelidError
from edge.frontend import Float32Array, FrontEnd, FrontEndConfig, front_end_hash
from train.augment import augment_waveform, draw_speed
from train.cuts import read_audio
from train.filterbank import mel_filterbank
from train.pool import mapped

VERSION = 1  # of the cache's layout and of the waveform augmentation behind it


@dataclass(frozen=True)
class CachedFeatures:
    """Log-mel frames of many clips.

    Attributes
    ----------
    frames : tuple of tuple of ndarray, shape (total frames, mels), float16
        For each variant one array a corpus, memory-mapped.
    corpora : ndarray, shape (clips,)
        Corpus of each clip.
    starts, lengths : ndarray, shape (variants, clips)
        Where a clip's frames are in its corpus' array, in frames.
    speeds : ndarray, shape (variants, clips)
        Playing speed of each variant of a clip.
    """

    frames: tuple[tuple[np.ndarray, ...], ...]
    corpora: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    speeds: np.ndarray

    def clip(self, index: int, variant: int) -> np.ndarray:
        """Frames of one clip, (frames, mels), float16."""
        start = self.starts[variant, index]
        frames: np.ndarray = self.frames[variant][self.corpora[index]]
        return frames[start : start + self.lengths[variant, index]]

    def take(self, indices: Sequence[int]) -> CachedFeatures:
        """Some of the clips, in the order given."""
        chosen = (table[:, indices] for table in (self.starts, self.lengths, self.speeds))
        return CachedFeatures(self.frames, self.corpora[list(indices)], *chosen)

    @classmethod
    def join(cls, parts: Sequence[CachedFeatures]) -> CachedFeatures:
        """The clips of several corpora, one corpus after the other."""
        sizes = [len(part.corpora) for part in parts]
        tables = ("starts", "lengths", "speeds")
        return cls(
            tuple(sum(arrays, ()) for arrays in zip(*(part.frames for part in parts), strict=True)),
            np.repeat(np.arange(len(parts)), sizes),
            *(np.concatenate([getattr(part, name) for part in parts], axis=1) for name in tables),
        )


def seed_of(*parts: object) -> np.random.Generator:
    """Random generator that depends on the given values and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@dataclass(frozen=True)
class _Extractor:
    """Computes the features of one file, wherever it runs."""

    front_end: FrontEnd
    rooms: list[Float32Array]

    def __call__(self, job: tuple[Path, str, int]) -> tuple[np.ndarray, float]:
        path, key, variant = job
        samples, speed = read_audio(path), 1.0
        if variant:
            rng = seed_of(VERSION, key, variant)
            speed = draw_speed(rng)
            samples = augment_waveform(samples, speed, self.rooms, rng)
        return self.front_end.log_mel(samples).astype(np.float16), speed


def prepare(
    directory: Path,
    paths: Sequence[str],
    cache_root: Path,
    config: FrontEndConfig,
    variants: int,
    rooms: Sequence[Path],
    workers: int,
) -> CachedFeatures:
    """Compute the features of all files, or find them in the cache.

    Parameters
    ----------
    directory : Path
        That `paths` are relative to.
    paths : sequence of str
    cache_root : Path
        Folder for caches; each is named after everything it depends on.
    config : FrontEndConfig
    variants : int
        Augmented variants besides the clean one.
    rooms : sequence of Path
        Room impulse responses; needed where `variants` is not zero.
    workers : int
        Processes.

    Returns
    -------
    CachedFeatures
        In the order of `paths`.

    Raises
    ------
    EdgelidError
        If a file cannot be decoded, or the cache cannot be written; nothing incomplete is left.
    """
    filterbank = mel_filterbank(config)
    try:
        # Sizes stand in for the contents: hashing a corpus would take as long as decoding it.
        sizes = [(path, (directory / path).stat().st_size) for path in paths]
    except OSError as error:
        raise EdgelidError(f"cannot read {error.filename}: {error.strerror}") from error
    key = hashlib.sha256(
        json.dumps([VERSION, front_end_hash(config, filterbank), sizes]).encode()
    ).hexdigest()[:16]
    folder = cache_root / key
    missing = [v for v in range(variants + 1) if not _is_complete(folder, v, config, len(paths))]
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EdgelidError(f"cannot make the cache {folder}: {error.strerror}") from error
        extract = _Extractor(FrontEnd(config, filterbank), [read_audio(room) for room in rooms])
        for variant in missing:
            jobs = [(directory / path, path, variant) for path in paths]
            with contextlib.closing(mapped(extract, jobs, workers)) as results:
                _write_variant(folder, variant, len(jobs), results)
    return _open(folder, variants, config)


def _files(folder: Path, variant: int) -> tuple[Path, Path]:
    """Frames and index of a variant; the index is written last."""
    return folder / f"frames-{variant}.f16", folder / f"index-{variant}.npz"


def _is_complete(folder: Path, variant: int, config: FrontEndConfig, clips: int) -> bool:
    """Whether a variant is in the cache, to the last frame."""
    frames, index = _files(folder, variant)
    try:
        with np.load(index) as arrays:
            lengths = arrays["lengths"]
        return len(lengths) == clips and frames.stat().st_size == (
            int(lengths.sum()) * config.mels * np.dtype(np.float16).itemsize
        )
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return False


def _write_variant(
    folder: Path, variant: int, count: int, results: Iterable[tuple[np.ndarray, float]]
) -> None:
    lengths, speeds = [], []
    frames_file, index_file = _files(folder, variant)
    with atomic_file(frames_file) as file:
        for frames, speed in tqdm(results, f"features, variant {variant}", count, unit="clip"):
            file.write(frames.tobytes())
            lengths.append(len(frames))
            speeds.append(speed)
    if not any(lengths):
        raise EdgelidError("no file is long enough for a frame of features")
    with atomic_file(index_file) as file:
        np.savez(file, lengths=np.array(lengths), speeds=np.array(speeds))


def _open(folder: Path, variants: int, config: FrontEndConfig) -> CachedFeatures:
    frames, starts, lengths, speeds = [], [], [], []
    for variant in range(variants + 1):
        frames_file, index_file = _files(folder, variant)
        with np.load(index_file) as index:
            lengths.append(index["lengths"])
            speeds.append(index["speeds"])
        starts.append(np.concatenate([[0], np.cumsum(lengths[-1])[:-1]]))
        flat = np.memmap(frames_file, np.float16, "r")
        frames.append((flat.reshape(-1, config.mels),))
    one = np.zeros(len(lengths[0]), np.int64)
    return CachedFeatures(tuple(frames), one, np.array(starts), np.array(lengths), np.array(speeds))
