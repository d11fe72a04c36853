"""Distillation: a teacher's frame embeddings as targets for the student's.

A recogniser that has heard half a million hours knows phonetics; the few hours of speech that a
small corpus holds do not teach them. The teacher's embeddings, clustered, are units of sound that
no speaker and no room owns (Hsu et al. 2021, HuBERT). The trunk's embeddings are asked to name,
linearly, the unit that the teacher hears in the clean recording, while they hear the augmented one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from edge.system.regular import check_regular
from train.fit.teacher import check_version, frames_of
from train.model.unreadable import UNREADABLE

FRAMES_PER_TEACHER_FRAME = 4  # 40 ms of the teacher against 10 ms of the front end
UNITS = 256
FITTED_FRAMES = 200_000  # a sample of this size already fixes so few clusters


@dataclass(frozen=True)
class Origin:
    """Where the frames of a stretch of joined clips come from.

    Attributes
    ----------
    clips : ndarray, shape (frames,), int64
        Index of the clip, -1 between clips.
    times : ndarray, shape (frames,), float64
        Frame of the clean clip.
    """

    clips: np.ndarray
    times: np.ndarray

    @classmethod
    def nothing(cls, frames: int) -> Origin:
        """Of frames that come from no clip."""
        return cls(np.full(frames, -1), np.zeros(frames))


@dataclass(frozen=True)
class Teacher:
    """Units that a teacher hears in a list of clips.

    Attributes
    ----------
    units : ndarray, shape (total teacher frames,), uint16
        Cluster of each embedding, below ``UNITS``.
    starts, lengths : ndarray, shape (clips,)
        Where a clip's units are.
    """

    units: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def load(cls, paths: Sequence[Path], rows: pl.DataFrame) -> Teacher:
        """Read what ``python -m train.fit.teacher`` wrote.

        Parameters
        ----------
        paths : sequence of Path
            One a corpus. The first defines the units; the others must share its projection
            (``--like``).
        rows : DataFrame
            Clips, the rows of a manifest.

        Raises
        ------
        EdgelidError
            If one cannot be read or was made by an older version, they do not belong together, a
            clip is missing, or the first has too few frames to find units in.
        """
        archives = [_Archive.read(path) for path in paths]
        if any(not np.array_equal(a.scale, archives[0].scale) for a in archives):
            raise EdgelidError(
                f"{paths[0]} and the other teachers' embeddings have different projections: make "
                f"the others with python -m train.fit.teacher --like {paths[0]}"
            )
        firsts = np.cumsum([0, *(len(a.frames) for a in archives)])
        known = pl.concat(
            pl.DataFrame(
                {
                    "path": archive.paths,
                    "start": first + archive.offsets[:-1],
                    "length": np.diff(archive.offsets),
                }
            )
            for first, archive in zip(firsts, archives, strict=False)
        ).unique("path", keep="last")
        heard = rows.select("path").join(known, "path", "left", maintain_order="left")
        # A clip that is shorter than a frame has none.
        short = frames_of(rows["seconds"].to_numpy()) == 0
        unknown = np.flatnonzero(heard["start"].is_null().to_numpy() & ~short)
        if len(unknown):
            raise EdgelidError(
                f"no teacher's embeddings of {heard['path'][int(unknown[0])]!r} in "
                f"{', '.join(map(str, paths))}: run python -m train.fit.teacher again"
            )
        starts, lengths = (
            np.where(short, 0, heard[name].fill_null(0).to_numpy()) for name in ("start", "length")
        )
        if len(archives[0].frames) < UNITS:
            raise EdgelidError(f"{paths[0]} has fewer than {UNITS} frames: it needs more speech")
        frames = [archive.frames for archive in archives]
        return cls(_cluster(frames, archives[0].scale), starts, lengths)

    def take(self, indices: np.ndarray) -> Teacher:
        """Of some of the clips, in the order given."""
        return Teacher(self.units, self.starts[indices], self.lengths[indices])

    def targets(self, origin: Origin, centres: np.ndarray) -> tuple[np.ndarray, Float32Array]:
        """Units that the teacher hears at some frames of a stretch.

        Parameters
        ----------
        origin : Origin
        centres : ndarray, shape (n,)
            Frames of the stretch; negative before its beginning.

        Returns
        -------
        targets : ndarray, shape (n,), int32
        known : ndarray, shape (n,), float32
            One where there is a target, else zero.
        """
        clips = origin.clips[np.maximum(centres, 0)]
        times = origin.times[np.maximum(centres, 0)]
        known = (centres >= 0) & (clips >= 0) & (self.lengths[clips] > 0)
        index = np.minimum(times // FRAMES_PER_TEACHER_FRAME, self.lengths[clips] - 1)
        rows = np.where(known, self.starts[clips] + index, 0).astype(np.int64)
        return self.units[rows].astype(np.int32), known.astype(np.float32)


@dataclass(frozen=True)
class _Archive:
    """The file of one corpus.

    Attributes
    ----------
    paths : Series of str
    offsets : ndarray, shape (clips + 1,)
        Where each clip's frames begin.
    frames : ndarray, shape (total, dimensions), int8
    scale : ndarray, shape (dimensions,)
        Makes principal components of them, with their variances.
    """

    paths: pl.Series
    offsets: np.ndarray
    frames: np.ndarray
    scale: Float32Array

    @classmethod
    def read(cls, path: Path) -> _Archive:
        try:
            check_regular(path)  # a pipe would be waited for
            with np.load(path, allow_pickle=False) as archive:
                scale = archive["scale"] * archive["gain"]
                paths = pl.Series(archive["paths"], dtype=pl.String)
                found = cls(paths, archive["offsets"], archive["frames"], scale)
                check_version(archive, path)
                return found
        except UNREADABLE as error:
            raise EdgelidError(f"cannot read the teacher's embeddings {path}") from error


def _cluster(parts: Sequence[np.ndarray], scale: Float32Array) -> np.ndarray:
    """K-means over the first of (total, dimensions) int8 embeddings; units of all, uint16."""
    from sklearn.cluster import MiniBatchKMeans

    sample = parts[0][:: max(1, len(parts[0]) // FITTED_FRAMES)] * scale
    means = MiniBatchKMeans(UNITS, batch_size=4096, n_init=1, random_state=0).fit(sample)
    chunks = (
        frames[i : i + 65_536] * scale for frames in parts for i in range(0, len(frames), 65_536)
    )
    return np.concatenate([means.predict(chunk) for chunk in chunks]).astype(np.uint16)
