"""Durations of audio files, from their headers where these can be relied on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from edge.audio.sources import UNKNOWN_LENGTH_FRAMES, import_soundfile
from edge.errors import EdgelidError
from edge.system.native_stderr import stderr_to_log

BLOCK_VALUES = 1 << 16
CHUNK_FILES = 4096  # so many are under way at most

ID3_BYTES = 10  # of its header, the last four of which hold its length, 7 bits each
# Names of the first frame that counts those which follow. It stands at most 36 bytes into it.
MP3_COUNTED = (b"Xing", b"Info")
MP3_FRAME_BYTES = 64


def measure(files: list[Path], workers: int, progress: tqdm[Any]) -> list[float | EdgelidError]:
    """Lengths of files, in their order.

    Parameters
    ----------
    files
        Of any format that libsndfile reads.
    workers
        Threads: libsndfile works without Python's lock.
    progress
        Takes one step a file.

    Returns
    -------
    list of float or EdgelidError
        Seconds, or why a file has no length.
    """
    found: list[float | EdgelidError] = []
    with stderr_to_log("libsndfile"), ThreadPoolExecutor(workers) as pool:
        for first in range(0, len(files), CHUNK_FILES):
            for length in pool.map(_length, files[first : first + CHUNK_FILES]):
                found.append(length)
                progress.update()
    return found


def length_s(path: Path) -> float:
    """Length of an audio file in seconds.

    Raises
    ------
    EdgelidError
        If there is no such file, or no audio in it; the message goes behind its name.
    """
    soundfile = import_soundfile()
    try:
        if not path.is_file():
            raise EdgelidError("no such file" if not path.exists() else "no file")
        # Without a buffer, as libsndfile goes on where the descriptor stands.
        with path.open("rb", buffering=0) as file:
            counted = _counts_its_frames(file)
            # By descriptor: from a name, libsndfile takes the format of what it does not know.
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                frames = sound.frames
                if frames >= UNKNOWN_LENGTH_FRAMES or (sound.format == "MP3" and not counted):
                    frames = _decoded_frames(sound)
                rate_hz = sound.samplerate
    except OSError as error:
        raise EdgelidError(f"cannot be read ({error.strerror})") from error
    except RuntimeError as error:  # soundfile's errors are of this kind
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise EdgelidError(f"no audio that libsndfile can read ({reason})") from error
    if frames <= 0:
        raise EdgelidError("holds no audio")
    return float(frames / rate_hz)


def _length(path: Path) -> float | EdgelidError:
    try:
        return length_s(path)
    except EdgelidError as error:
        return error


def _counts_its_frames(file: IO[bytes]) -> bool:
    """Whether an MP3 file says how long it is; the position is at the start again.

    If not, libsndfile guesses from its size and its first frame, wrong by a factor of several
    where the bit rate varies.
    """
    start = file.read(ID3_BYTES)
    skipped = 0
    if start.startswith(b"ID3") and len(start) == ID3_BYTES:
        skipped = ID3_BYTES + sum(byte << 7 * i for i, byte in enumerate(start[:5:-1]))
    file.seek(skipped)
    frame = file.read(MP3_FRAME_BYTES)
    file.seek(0)
    return any(name in frame for name in MP3_COUNTED)


def _decoded_frames(sound: Any) -> int:
    # soundfile would stop at the length that the header promises, and seek after each block.
    sound.seekable = lambda: False
    block = np.empty((max(1, BLOCK_VALUES // sound.channels), sound.channels), np.float32)
    frames = 0
    while read := len(sound.read(out=block)):
        frames += read
    return frames
