"""Ring buffer for audio on its way from PortAudio's thread to the one that listens."""

from __future__ import annotations

import threading

import numpy as np

from edge.frontend import Float32Array


class Ring:
    """Frames on their way from one thread to another, in memory of fixed size.

    What comes when it is full takes the place of the oldest frames. The lock is held for one
    copy. Positions count the frames that were written before.

    Parameters
    ----------
    capacity_frames : int
        The most it holds.
    channels : int
        Samples in a frame.
    """

    def __init__(self, capacity_frames: int, channels: int) -> None:
        self._frames = np.zeros((capacity_frames, channels), np.float32)
        self._lock = threading.Lock()
        self._written = 0
        self._read = 0

    @property
    def waiting(self) -> int:
        """Frames that have not been read yet."""
        with self._lock:
            return self._written - self._read

    def write(self, frames: Float32Array) -> int:
        """Append frames, shape (n, channels); returns the position behind them."""
        capacity = len(self._frames)
        kept = frames[-capacity:]
        with self._lock:
            self._written += len(frames)
            start = (self._written - len(kept)) % capacity
            before_end = min(len(kept), capacity - start)
            self._frames[start : start + before_end] = kept[:before_end]
            self._frames[: len(kept) - before_end] = kept[before_end:]
            self._read = max(self._read, self._written - capacity)
            return self._written

    def read(self, until: int) -> tuple[int, Float32Array]:
        """Take the frames before a position.

        Parameters
        ----------
        until : int

        Returns
        -------
        int
            Position of the first of them; what lies between the last read and it is lost.
        ndarray of float32, shape (n, channels)
            From none to all that there are.
        """
        capacity = len(self._frames)
        with self._lock:
            first = self._read
            count = max(0, min(until, self._written) - first)
            start = first % capacity
            before_end = self._frames[start : min(start + count, capacity)]
            frames = np.concatenate([before_end, self._frames[: count - len(before_end)]])
            self._read += count
        return first, frames
