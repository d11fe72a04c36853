"""The feature cache: every clip decoded, augmented and turned into log-mel frames, once.

A cache is a folder of shards (`train.features.shards`). Each is named after all that its contents
depend on, so corpora can grow and lose files: what has not changed is not computed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from edge.frontend import FRAMES_PER_SECOND, Float32Array, FrontEnd, FrontEndConfig, front_end_hash
from train.corpus.cuts import read_audio
from train.corpus.manifest import file_sizes, refuse_missing
from train.features.augmentation import augment_waveform, draw_speed
from train.features.filterbank import mel_filterbank
from train.features.shards import CLIPS, ENDING, Frames, Index, Shards, read_index, write_shard
from train.features.ticks import shown, ticking
from train.folder import make_folder
from train.parallel.cluster import spread
from train.parallel.pool import mapped
from train.parallel.progress import bar

log = logging.getLogger(__name__)

VERSION = 1  # of the cache's layout and of the waveform augmentation behind it
NAMED_FAULTS = 20  # bad files that a message names


@dataclass(frozen=True)
class CachedFeatures:
    """Log-mel frames of many clips.

    It can be sent to other processes, which read the same files.

    Attributes
    ----------
    files : Shards
    shards : ndarray, shape (variants, clips), int32
        The shard that each variant of a clip is in.
    numbers : ndarray, shape (clips,), int32
        Number of a clip in its shards.
    lengths : ndarray, shape (variants, clips), int32
        In frames; zero where a clip is too short, or could not be read.
    speeds : ndarray, shape (variants, clips)
        Playing speed of each variant of a clip.
    """

    files: Shards
    shards: np.ndarray
    numbers: np.ndarray
    lengths: np.ndarray
    speeds: np.ndarray

    @property
    def variants(self) -> int:
        """How many variants of each clip there are, the clean one included."""
        return len(self.lengths)

    def clip(self, index: int, variant: int) -> np.ndarray:
        """Frames of one clip, (frames, mels), float16."""
        return self.files.read(int(self.shards[variant, index]), int(self.numbers[index]))

    def take(self, indices: Sequence[int] | np.ndarray) -> CachedFeatures:
        """Some of the clips, in the order given."""
        chosen = np.asarray(indices, np.int64)
        return CachedFeatures(
            self.files,
            self.shards[:, chosen],
            self.numbers[chosen],
            self.lengths[:, chosen],
            self.speeds[:, chosen],
        )

    @classmethod
    def join(cls, parts: Sequence[CachedFeatures]) -> CachedFeatures:
        """The clips of several corpora, one corpus after the other."""
        if len({part.variants for part in parts}) > 1:
            raise ValueError("the parts have different numbers of variants")
        files = tuple(file for part in parts for file in part.files.files)
        firsts = np.cumsum([0, *(len(part.files.files) for part in parts)])
        return cls(
            Shards(files, parts[0].files.mels),
            np.concatenate(
                [p.shards + np.int32(n) for p, n in zip(parts, firsts, strict=False)], axis=1
            ),
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.lengths for part in parts], axis=1),
            np.concatenate([part.speeds for part in parts], axis=1),
        )


def seed_of(*parts: object) -> np.random.Generator:
    """Random generator that depends on the given values and on nothing else."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@dataclass(frozen=True)
class Job:
    """A shard to make.

    Attributes
    ----------
    file : Path
    directory : Path
        That `paths` are relative to.
    paths : list of str
        Of the clips.
    variant : int
    """

    file: Path
    directory: Path
    paths: list[str]
    variant: int


@dataclass(frozen=True)
class Extractor:
    """Makes shards, wherever it runs.

    Attributes
    ----------
    front_end : FrontEnd
    rooms : list of ndarray
        Room impulse responses.
    ticks : Path or None
        Where to count clips: see `train.features.ticks`.
    """

    front_end: FrontEnd
    rooms: list[Float32Array]
    ticks: Path | None = None

    def __call__(self, job: Job) -> Index:
        """Make one; returns what is in it.

        Raises
        ------
        EdgelidError
            If it cannot be written.
        """
        with ticking(self.ticks) as tick:

            def clips() -> Iterator[Frames]:
                for path in job.paths:
                    yield self._frames(job.directory / path, path, job.variant)
                    tick()

            return write_shard(job.file, clips())

    def _frames(self, path: Path, key: str, variant: int) -> Frames:
        try:
            samples, speed = read_audio(path), 1.0
        except EdgelidError as error:
            return Frames(np.empty((0, self.front_end.config.mels), np.float16), fault=str(error))
        if variant:
            rng = seed_of(VERSION, key, variant)
            speed = draw_speed(rng)
            samples = augment_waveform(samples, speed, self.rooms, rng)
        return Frames(self.front_end.log_mel(samples).astype(np.float16), speed)


def _made(
    extract: Extractor, jobs: Sequence[Job], workers: int, cluster: str | None
) -> Generator[tuple[int, Index], None, None]:
    """Make shards; each with the number of its job."""
    if cluster is not None:
        yield from spread(extract, jobs, cluster)
    else:
        yield from enumerate(mapped(extract, jobs, min(workers, len(jobs)), chunk_jobs=1))


def prepare(
    directory: Path,
    paths: Sequence[str] | pl.Series,
    cache_root: Path,
    config: FrontEndConfig,
    variants: int,
    rooms: Sequence[Path],
    workers: int,
    *,
    skip_bad: bool = False,
    cluster: str | None = None,
) -> CachedFeatures:
    """Compute the features of all files, or find them in the cache.

    Parameters
    ----------
    directory : Path
        That `paths` are relative to.
    paths : sequence or Series of str
    cache_root : Path
        Folder for caches.
    config : FrontEndConfig
    variants : int
        Augmented variants besides the clean one.
    rooms : sequence of Path
        Room impulse responses; needed where `variants` is not zero.
    workers : int
        Processes.
    skip_bad : bool
        Leave out files that cannot be read, and say which.
    cluster : str, optional
        Address of a Ray cluster that does it instead.

    Returns
    -------
    CachedFeatures
        In the order of `paths`. Those left out have no frames.

    Raises
    ------
    EdgelidError
        If a file is missing or cannot be decoded, or the cache cannot be written. What was
        computed stays, and is not computed again.
    """
    sizes = file_sizes(paths, directory)
    if not skip_bad:
        refuse_missing(paths, sizes, directory)
    filterbank = mel_filterbank(config)
    folder = cache_root / _key(VERSION, front_end_hash(config, filterbank))
    jobs = _jobs(folder, directory, paths, sizes, variants, rooms)
    found = _found(jobs, skip_bad)
    if None in found:
        with _locked(folder):
            found = _found(jobs, skip_bad)  # another process may have been at it
            if None in found:
                heard = [read_audio(room) for room in rooms]
                _make(Extractor(FrontEnd(config, filterbank), heard), jobs, found, workers, cluster)
    indices = [index for index in found if index is not None]  # none is missing any more
    _tell_faults(jobs, indices, skip_bad)
    return _joined(jobs, indices, config.mels, variants)


def _key(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _jobs(
    folder: Path,
    directory: Path,
    paths: Sequence[str] | pl.Series,
    sizes: np.ndarray,
    variants: int,
    rooms: Sequence[Path],
) -> list[Job]:
    """All shards of all variants, whether they are there or not."""
    try:
        heard = [hashlib.sha256(room.read_bytes()).hexdigest() for room in rooms]
    except OSError as error:
        raise EdgelidError(f"cannot read {error.filename}: {error.strerror}") from error
    jobs = []
    for variant in range(variants + 1):
        for start in range(0, len(paths), CLIPS):
            part = list(paths[start : start + CLIPS])
            # Sizes stand in for the contents: to hash a corpus would take as long as to decode it.
            seen = sizes[start : start + CLIPS].tolist()
            name = _key(variant, heard if variant else None, part, seen)
            jobs.append(Job(folder / f"{name}{ENDING}", directory, part, variant))
    return jobs


def _found(jobs: Sequence[Job], skip_bad: bool) -> list[Index | None]:
    """What is there, for each job; None where there is work to do."""
    indices = [read_index(job.file) for job in jobs]
    # Bad files may have been mended, unless nobody asks for them.
    return [i if i and (skip_bad or not i.faults) else None for i in indices]


def _make(
    extract: Extractor,
    jobs: Sequence[Job],
    found: list[Index | None],
    workers: int,
    cluster: str | None,
) -> None:
    """Make what is missing in `found`, and put it there."""
    missing = [number for number, index in enumerate(found) if index is None]
    hours, begun = 0.0, time.monotonic()
    # Of a cluster's machines, the shards are counted that have come.
    ticks = jobs[0].file.parent / f".clips-{os.getpid()}.partial" if cluster is None else None
    extract = dataclasses.replace(extract, ticks=ticks)
    made = _made(extract, [jobs[number] for number in missing], workers, cluster)
    total = sum(len(jobs[number].paths) for number in missing)
    with (
        contextlib.closing(made),
        bar(None, "features", total, unit="clip") as progress,
        shown(ticks, progress) if ticks else contextlib.nullcontext(),
    ):
        for turn, index in made:
            found[missing[turn]] = index
            heard = np.dot(index.lengths, index.speeds) / FRAMES_PER_SECOND
            hours += float(heard) / 3600
            minutes = (time.monotonic() - begun) / 60
            progress.set_postfix_str(f"{hours / minutes:.1f} h of audio/min", refresh=False)
            if ticks is None:
                progress.update(len(index.lengths))


def _joined(
    jobs: Sequence[Job], indices: Sequence[Index], mels: int, variants: int
) -> CachedFeatures:
    """The shards of all jobs as one, with the clips in the order of the jobs.

    Raises
    ------
    EdgelidError
        If there are no features in any.
    """
    lengths = np.concatenate([index.lengths for index in indices]).astype(np.int32)
    if not lengths.any():
        raise EdgelidError("no file is long enough for a frame of features")
    each = np.array([len(job.paths) for job in jobs])
    clips = int(each.sum()) // (variants + 1)
    shape = (variants + 1, clips)
    return CachedFeatures(
        Shards(tuple(job.file for job in jobs), mels),
        np.repeat(np.arange(len(jobs), dtype=np.int32), each).reshape(shape),
        np.arange(clips, dtype=np.int32) % CLIPS,
        lengths.reshape(shape),
        np.concatenate([index.speeds for index in indices]).reshape(shape),
    )


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make the cache's folder, and wait for other processes that write there.

    Raises
    ------
    EdgelidError
        If it cannot be made.
    """
    make_folder(folder, "cache")
    with open(folder / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that prepares features in %s", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            log.debug("the file system of %s has no locks", folder)
        try:
            yield
        finally:
            for partial in folder.glob(".*.partial"):  # of processes that were killed
                partial.unlink(missing_ok=True)


def _tell_faults(jobs: Sequence[Job], indices: Sequence[Index], skip_bad: bool) -> None:
    """Name the files that could not be read; they are an error, or a warning."""
    faults = {
        str(job.directory / job.paths[int(number)]): reason
        for job, index in zip(jobs, indices, strict=True)
        for number, reason in index.faults.items()
    }
    if not faults:
        return
    named = list(faults.values())[:NAMED_FAULTS]
    rest = f"\n  and {len(faults) - len(named)} more" if len(faults) > len(named) else ""
    listed = "".join(f"\n  {reason}" for reason in named) + rest
    if skip_bad:
        log.warning("left out, as they cannot be read (files: %d):%s", len(faults), listed)
        return
    if len(faults) > 1:
        log.error("these cannot be read (files: %d):%s", len(faults), listed)
    raise EdgelidError(
        f"some audio cannot be read (files: {len(faults)}): mend it, or give --skip-bad; "
        f"the first: {named[0]}"
    )
