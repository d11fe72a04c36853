"""Files of frames: each holds those of some consecutive clips, and can be read at any place.

A shard is an ArrayRecord file with one record a clip, and an index beside it that is written
last: a shard that has an index is complete. Which bytes are in both depends on nothing but the
clips, so it does not matter who made them, nor how often that was interrupted.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from edge.errors import EdgelidError
from edge.system.atomic import atomic_file, write_atomically

CLIPS = 1024  # of a shard: what an interruption loses at most, for every process
ENDING = ".array_record"
# A group is what has to be read, and would have to be unpacked, for one record.
WRITER_OPTIONS = "group_size:1,uncompressed"
READER_OPTIONS = "readahead_buffer_size:0"
# Opening one takes a fraction of a millisecond, and processes may have few descriptors.
MOST_OPEN = 128


@dataclass(frozen=True)
class Frames:
    """What became of one clip.

    Attributes
    ----------
    frames : ndarray, shape (frames, mels), float16
        None of them where there is a fault.
    speed : float
        That the clip was played at.
    fault : str
        Why it could not be read; empty where it could.
    """

    frames: np.ndarray
    speed: float = 1.0
    fault: str = ""


@dataclass(frozen=True)
class Index:
    """What a shard holds.

    Attributes
    ----------
    size : int
        Of the shard, in bytes.
    lengths : list of int
        Frames of each clip.
    speeds : list of float
    faults : dict of str to str
        Why clips could not be read, by their number in the shard.
    """

    size: int
    lengths: list[int]
    speeds: list[float]
    faults: dict[str, str]


def write_shard(file: Path, clips: Iterable[Frames]) -> Index:
    """Write a shard and its index.

    Raises
    ------
    EdgelidError
        If they cannot be written.
    """
    lengths, speeds, faults = [], [], {}
    with atomic_file(file) as partial:
        # It takes a name, no open file; and says in no exception of its own what went wrong.
        try:
            writer = ArrayRecordWriter(partial.name, WRITER_OPTIONS)
            for number, clip in enumerate(clips):
                writer.write(clip.frames.tobytes())
                lengths.append(len(clip.frames))
                speeds.append(clip.speed)
                if clip.fault:
                    faults[str(number)] = clip.fault
            writer.close()
        except RuntimeError as error:
            raise EdgelidError(f"cannot write {file}: {error}") from error
    index = Index(file.stat().st_size, lengths, speeds, faults)
    write_atomically(_index_file(file), json.dumps(vars(index)).encode())
    return index


def read_index(file: Path) -> Index | None:
    """What is in a shard, or None if it is not there, to the last byte."""
    try:
        index = Index(**json.loads(_index_file(file).read_bytes()))
        return index if file.stat().st_size == index.size else None
    except (OSError, ValueError, TypeError):
        return None


def _index_file(file: Path) -> Path:
    return file.with_suffix(".json")


@dataclass(frozen=True)
class Shards:
    """Complete shards, to read from.

    It can be sent to other processes: each opens the files itself, when it needs them.

    Attributes
    ----------
    files : tuple of Path
    mels : int
    """

    files: tuple[Path, ...]
    mels: int
    _open: OrderedDict[int, Any] = field(default_factory=OrderedDict, compare=False, repr=False)
    _lock: Any = field(default_factory=threading.Lock, compare=False, repr=False)

    def __reduce__(self) -> tuple[type[Shards], tuple[tuple[Path, ...], int]]:
        return Shards, (self.files, self.mels)

    def read(self, shard: int, number: int) -> np.ndarray:
        """Frames of the clip with that number in a shard, (frames, mels), float16.

        Raises
        ------
        EdgelidError
            If the file has gone or was damaged since.
        """
        try:
            (record,) = self._reader(shard).read([number])
        except (RuntimeError, ValueError, IndexError) as error:
            raise EdgelidError(
                f"cannot read {self.files[shard]} any more: prepare the features again"
            ) from error
        return np.frombuffer(record, np.float16).reshape(-1, self.mels)

    def _reader(self, shard: int) -> Any:
        with self._lock:
            reader = self._open.pop(shard, None)
            if reader is None:
                reader = ArrayRecordReader(str(self.files[shard]), READER_OPTIONS)
            self._open[shard] = reader  # the newest is last
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return reader
