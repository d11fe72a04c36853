"""The feature cache: every clip decoded, augmented and turned into log-mel frames, once.

A cache is a folder of flat arrays of all frames, one a variant (variant 0 is clean), and an
index. Arrays are memory-mapped in training, so a corpus need not fit into memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from edge.frontend import Float32Array, FrontEnd, FrontEndConfig, front_end_hash
from train.augment import augment_waveform, draw_speed
from train.cuts import read_audio
from train.filterbank import mel_filterbank

VERSION = 1  # of the cache's layout and of the waveform augmentation behind it


@dataclass(frozen=True)
class CachedFeatures:
    """Log-mel frames of many clips.

    Attributes
    ----------
    frames : tuple of ndarray, shape (total frames, mels), float16
        One array a variant, memory-mapped.
    starts, lengths : ndarray, shape (variants, clips)
        Where a clip's frames are, in frames.
    speeds : ndarray, shape (variants, clips)
        Playing speed of each variant of a clip.
    """

    frames: tuple[np.ndarray, ...]
    starts: np.ndarray
    lengths: np.ndarray
    speeds: np.ndarray

    def clip(self, index: int, variant: int) -> np.ndarray:
        """Frames of one clip, (frames, mels), float16."""
        start = self.starts[variant, index]
        return self.frames[variant][start : start + self.lengths[variant, index]]

    def take(self, indices: Sequence[int]) -> CachedFeatures:
        """Some of the clips, in the order given."""
        chosen = (table[:, indices] for table in (self.starts, self.lengths, self.speeds))
        return CachedFeatures(self.frames, *chosen)


def seed_of(*parts: object) -> np.random.Generator:
    """Random generator that depends on the given values and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


class _Extractor:
    """Computes features in a worker process; built once a process."""

    current: _Extractor

    def __init__(self, config: FrontEndConfig, filterbank: Float32Array, rooms: list[Path]) -> None:
        self.front_end = FrontEnd(config, filterbank)
        self.rooms = [read_audio(path) for path in rooms]

    @classmethod
    def start(cls, config: FrontEndConfig, filterbank: Float32Array, rooms: list[Path]) -> None:
        cls.current = cls(config, filterbank, rooms)

    @staticmethod
    def run(job: tuple[Path, str, int]) -> tuple[np.ndarray, float]:
        return _Extractor.current._extract(*job)

    def _extract(self, path: Path, key: str, variant: int) -> tuple[np.ndarray, float]:
        samples, speed = read_audio(path), 1.0
        if variant:
            rng = seed_of(VERSION, key, variant)
            speed = draw_speed(rng)
            samples = augment_waveform(samples, speed, self.rooms, rng)
        self.front_end.reset()
        return self.front_end.process(samples).astype(np.float16), speed


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

    Raises
    ------
    EdgelidError
        If a file cannot be decoded; nothing incomplete is left in the cache.
    """
    filterbank = mel_filterbank(config)
    # Sizes stand in for the contents: hashing a corpus would take as long as decoding it.
    sizes = [(path, (directory / path).stat().st_size) for path in paths]
    key = hashlib.sha256(
        json.dumps([VERSION, front_end_hash(config, filterbank), sizes]).encode()
    ).hexdigest()[:16]
    folder = cache_root / key
    folder.mkdir(parents=True, exist_ok=True)
    for variant in range(variants + 1):
        if not (folder / f"index-{variant}.npz").exists():
            jobs = [(directory / path, path, variant) for path in paths]
            with ProcessPoolExecutor(
                workers, initializer=_Extractor.start, initargs=(config, filterbank, list(rooms))
            ) as pool:
                results = pool.map(_Extractor.run, jobs, chunksize=32)
                _write_variant(folder, variant, config.mels, len(jobs), results)
    return _open(folder, variants)


def _write_variant(folder: Path, variant: int, mels: int, count: int, results) -> None:  # type: ignore[no-untyped-def]
    lengths, speeds = [], []
    partial = folder / f"frames-{variant}.partial"
    with open(partial, "wb") as file:
        for frames, speed in tqdm(results, f"features, variant {variant}", count, unit="clip"):
            file.write(frames.tobytes())
            lengths.append(len(frames))
            speeds.append(speed)
    os.replace(partial, folder / f"frames-{variant}.f16")
    index = folder / f"index-{variant}.partial.npz"
    np.savez(index, lengths=np.array(lengths), speeds=np.array(speeds), mels=mels)
    os.replace(index, folder / f"index-{variant}.npz")


def _open(folder: Path, variants: int) -> CachedFeatures:
    frames, starts, lengths, speeds = [], [], [], []
    for variant in range(variants + 1):
        with np.load(folder / f"index-{variant}.npz") as index:
            lengths.append(index["lengths"])
            speeds.append(index["speeds"])
            mels = int(index["mels"])
        starts.append(np.concatenate([[0], np.cumsum(lengths[-1])[:-1]]))
        flat = np.memmap(folder / f"frames-{variant}.f16", np.float16, "r")
        frames.append(flat.reshape(-1, mels))
    return CachedFeatures(tuple(frames), np.array(starts), np.array(lengths), np.array(speeds))
