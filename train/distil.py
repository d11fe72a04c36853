"""A teacher's frame embeddings as targets for the student's: see :mod:`train.teacher`.

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

from edge.errors import EdgelidError
from edge.frontend import Float32Array
from train.manifest import Clip

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
    def load(cls, path: Path, clips: Sequence[Clip]) -> Teacher:
        """Read what ``python -m train.teacher`` wrote.

        Raises
        ------
        EdgelidError
            If it cannot be read, or lacks a clip.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                paths = {str(p): i for i, p in enumerate(archive["paths"])}
                offsets, frames = archive["offsets"], archive["frames"]
                # Principal components, with their variances.
                scale = archive["scale"] * archive["gain"]
            rows = np.array([paths[clip.path] for clip in clips])
        except (OSError, ValueError, EOFError) as error:
            raise EdgelidError(f"cannot read the teacher's embeddings {path}") from error
        except KeyError as error:
            raise EdgelidError(
                f"{path} lacks {error}: run python -m train.teacher again"
            ) from error
        return cls(_cluster(frames, scale), offsets[rows], offsets[rows + 1] - offsets[rows])

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


def _cluster(frames: np.ndarray, scale: Float32Array) -> np.ndarray:
    """K-means over (total, dimensions) int8 embeddings; the unit of each, (total,) uint16."""
    from sklearn.cluster import MiniBatchKMeans

    sample = frames[:: max(1, len(frames) // FITTED_FRAMES)] * scale
    means = MiniBatchKMeans(UNITS, batch_size=4096, n_init=1, random_state=0).fit(sample)
    chunks = (frames[i : i + 65_536] * scale for i in range(0, len(frames), 65_536))
    return np.concatenate([means.predict(chunk) for chunk in chunks]).astype(np.uint16)
