"""Durations of audio files, from their headers where these can be relied on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from edge.audio.decoding import (
    UNKNOWN_LENGTH_FRAMES,
    NeedsFfmpeg,
    Unreadable,
    open_child,
    open_sound,
    words_of,
)
from edge.audio.ffmpeg import INSTALL
from edge.audio.section import Section
from edge.audio.sections import sections
from edge.errors import EdgelidError
from edge.system.native_stderr import stderr_to_log

BLOCK_VALUES = 1 << 16
CHUNK_FILES = 4096  # so many are under way at most


def measure(files: list[Path], workers: int, progress: tqdm[Any]) -> list[float | EdgelidError]:
    """Lengths of files, in their order.

    Parameters
    ----------
    files
        Of any format that libsndfile or ffmpeg reads.
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
    try:
        if not path.is_file():
            raise EdgelidError("no such file" if not path.exists() else "no file")
        with path.open("rb") as file:
            parts = sections(file.fileno())
            is_whole = len(parts) == 1 and parts[0].is_plain
            length = sum(_section_s(file, part, is_whole) for part in parts)
    except OSError as error:
        raise EdgelidError(f"cannot be read ({error.strerror})") from error
    except RuntimeError as error:  # soundfile's errors are of this kind
        raise EdgelidError(f"no audio that libsndfile can read ({words_of(error)})") from error
    if length <= 0:
        raise EdgelidError("holds no audio")
    return length


def _length(path: Path) -> float | EdgelidError:
    try:
        return length_s(path)
    except EdgelidError as error:
        return error


def _section_s(file: BinaryIO, section: Section, is_whole: bool) -> float:
    """Length of a recording in a file, in seconds, as libsndfile has it, or else ffmpeg."""
    try:
        opened = open_sound(file, section, is_whole)
    except Unreadable as error:
        return _decoded_s(file, section, str(error))
    with opened as sound:
        frames = sound.frames
        if frames >= UNKNOWN_LENGTH_FRAMES or section.is_guessed:
            frames = _decoded_frames(sound)
        return float(frames / sound.samplerate)


def _decoded_s(file: BinaryIO, section: Section, refusal: str) -> float:
    """Length of what libsndfile refuses and ffmpeg decodes, in seconds."""
    try:
        part = open_child(file, "it", refusal, lambda: False, section)
    except NeedsFfmpeg as error:
        raise EdgelidError(f"{error.kind}, which needs ffmpeg: {INSTALL}") from error
    except EdgelidError as error:
        raise EdgelidError(f"no audio that libsndfile can read ({refusal})") from error
    try:
        frames = 0
        while read := len(part.read(BLOCK_VALUES)):
            frames += read
        return frames / part.rate_hz
    finally:
        part.close()


def _decoded_frames(sound: Any) -> int:
    block = np.empty((max(1, BLOCK_VALUES // sound.channels), sound.channels), np.float32)
    frames = 0
    while read := len(sound.read(out=block)):
        frames += read
    return frames
