"""Sources of audio: what they have in common, files, and raw PCM streams.

Every source yields the same thing, 16 kHz mono in blocks, whatever it reads. The microphone has a
module of its own, `edge.audio.microphone`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import select
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np

from edge.audio.decoding import Recording, no_samples, words_of
from edge.audio.formats import SYNC_BYTES, kind_of, wanted_bytes
from edge.audio.gaps import Reason
from edge.audio.level import Level
from edge.audio.mixing import Ear, Mixer
from edge.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from edge.audio.wakeup import WAKE_S, PipePace
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.regular import other_kind

logger = logging.getLogger(__name__)

BLOCK_S = 0.1  # below what is heard at once, so that a source adds little delay of its own
MAX_BLOCK_VALUES = 1 << 18  # 1 MiB of float32, for files of hundreds of channels

STOP_POLL_S = 0.2  # how long `stop` can take while a stream is silent

# Above this, samples are no overshoot but were scaled wrongly (integers stored as floats).
PLAUSIBLE_PEAK = 4.0

PCM_BYTES = 2  # s16le
PCM_FULL_SCALE = 32_768.0

EVERYTHING = Ear()


@dataclass(frozen=True)
class Gap:
    """Audio that was lost, in its place among the blocks.

    Attributes
    ----------
    samples : int
        How much, at 16 kHz.
    reason : Reason
    """

    samples: int
    reason: Reason

    @property
    def duration_s(self) -> float:
        """The same in seconds."""
        return self.samples / SAMPLE_RATE_HZ


Sound = Float32Array | Gap | Level
AnySound = TypeVar("AnySound", bound=Sound)


def length_samples(sound: Sound) -> int:
    """How far the stream goes on by it, at 16 kHz."""
    if isinstance(sound, Gap):
        return sound.samples
    return 0 if isinstance(sound, Level) else len(sound)


class AudioSource(ABC):
    """A source of audio, used as a context manager.

    Attributes
    ----------
    name : str
        What to call it in messages.
    rate_hz : int
        Sampling rate of the source itself; `blocks` are at 16 kHz whatever it is.
    duration_s : float or None
        Length, if it is known beforehand.
    """

    name: str
    rate_hz: int
    duration_s: float | None = None
    _stopping: bool = False

    @abstractmethod
    def blocks(self) -> Iterator[Sound]:
        """Read the audio, once.

        Yields
        ------
        ndarray of float32, shape (n,), Gap or Level
            16 kHz mono in [-1, 1], never empty, of any length; where audio was lost, how much;
            and what the level has become, where it changes for the worse or the better. Gaps
            that follow one another are one.

        Raises
        ------
        EdgelidError
            If the source cannot be read any further.
        """

    @abstractmethod
    def close(self) -> None:
        """Release what the source holds; a second call does nothing."""

    def stop(self) -> None:
        """Make `blocks` end soon, and normally, as at the end of the audio.

        It may be called from a signal handler or another thread: it only sets a flag, as a lock
        could be held by the very code that a signal has interrupted.
        """
        self._stopping = True

    def samples(self) -> Iterator[Float32Array]:
        """Only the samples of `blocks`, once."""
        return (block for block in self.blocks() if isinstance(block, np.ndarray))

    @property
    def dropped_samples(self) -> int:
        """Samples at 16 kHz that this process was too slow to take, and are lost."""
        return 0

    @property
    def overflows(self) -> int:
        """How often the audio system reported that it had lost samples, number unknown."""
        return 0

    @property
    def backlog_s(self) -> float:
        """Audio that has come, and waits to be heard."""
        return 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class FileSource(AudioSource):
    """An audio file, in constant memory: of any format that libsndfile or ffmpeg reads.

    Parameters
    ----------
    path : str or path-like
        WAV, FLAC, Ogg Vorbis, Opus, MP3 and others, and the formats of phones if ffmpeg is
        installed; 1 to 384 kHz; any number of channels. Several recordings in one file, one
        behind the other, are one.
    ear : Ear
        How to listen to it.

    Attributes
    ----------
    channels : int
        Channels of the file, which `blocks` mixes.
    shortfall : str or None
        Behind `blocks`: what of the file was not read, as a sentence; None if nothing.

    Raises
    ------
    EdgelidError
        If it is no such file, or has no samples; from `blocks`, if nothing of it can be decoded
        or it holds samples that are not finite. What is truncated or damaged is read as far as it
        goes, with a warning.
    """

    def __init__(self, path: str | os.PathLike[str], ear: Ear = EVERYTHING) -> None:
        self.name = os.fspath(path)
        self.shortfall: str | None = None
        self._ear = ear
        with contextlib.ExitStack() as resources:
            file = resources.enter_context(_open_file(self.name))
            try:
                self.recording = Recording(file, self.name, lambda: self._stopping)
            except OSError as error:
                raise EdgelidError(
                    f"{self.name!r} cannot be read{_reason(error)}: copy it again."
                ) from error
            resources.callback(self.recording.close)
            self.rate_hz = self.recording.first.rate_hz
            self.channels = self.recording.first.channels
            check_rate(self.name, self.rate_hz)
            self.duration_s = self.recording.duration_s
            self._resources = resources.pop_all()

    def blocks(self) -> Iterator[Sound]:
        """Decode the file, as `AudioSource.blocks` says."""
        read_s = 0.0
        loud = False
        mixer: Mixer | None = None
        for part in self.recording.parts():
            check_rate(self.name, part.rate_hz)
            if mixer is not None and not mixer.takes(part.rate_hz, part.channels):
                yield from mixer.flush()
                mixer = None
            if mixer is None:
                mixer = Mixer(self.name, part.rate_hz, part.channels, self._ear)
            block_frames = min(round(part.rate_hz * BLOCK_S), MAX_BLOCK_VALUES // part.channels)
            while not self._stopping and len(frames := part.read(block_frames)):
                peak = self._checked_peak(frames, read_s, part.rate_hz)
                if peak > PLAUSIBLE_PEAK and not loud:
                    loud = True
                    logger.warning(
                        "%r has samples of %.4g times full scale, which are clipped: was it scaled "
                        "wrongly?",
                        self.name,
                        peak,
                    )
                read_s += len(frames) / part.rate_hz
                yield from mixer.process(frames)
            if self._stopping:
                break
        if mixer is not None:
            yield from mixer.flush(is_end=not self._stopping)
        if self._stopping:
            return
        if read_s == 0.0:
            raise self._nothing()
        if problems := self.recording.problems:
            more = f", and {len(problems) - 1} more" if problems[1:] else ""
            self.shortfall = (
                f"{self.name!r} is truncated or damaged: {read_s:.1f} s of it could be read "
                f"({problems[0]}{more})"
            )
            logger.warning("%s", self.shortfall)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._resources.close()

    def _checked_peak(self, frames: Float32Array, read_s: float, rate_hz: int) -> float:
        # The peak is finite if and only if every sample is: maximum and minimum hand NaN on.
        peak = float(max(frames.max(), -frames.min()))
        if not np.isfinite(peak):
            bad = int(np.argmin(np.isfinite(frames).all(axis=1)))
            raise EdgelidError(
                f"{self.name!r} holds samples that are no numbers (NaN or infinite), the first at "
                f"{read_s + bad / rate_hz:.3f} s: export it again, as 16-bit PCM."
            )
        return peak

    def _nothing(self) -> EdgelidError:
        if problems := self.recording.problems:
            return EdgelidError(
                f"{self.name!r} is damaged, and nothing of it can be decoded ({problems[0]}): copy "
                "or convert it again."
            )
        return no_samples(self.name)


class PcmSource(AudioSource):
    """Raw PCM from a byte stream: 16-bit little-endian (s16le), channels interleaved.

    Parameters
    ----------
    binary_stream : binary file
        Such as ``sys.stdin.buffer``; nothing may have been read from it yet. It stays open.
    rate_hz : int
        Sampling rate, 1 to 384 kHz.
    channels : int
        Number of interleaved channels.
    ear : Ear
        How to listen to it.

    Raises
    ------
    EdgelidError
        If the stream is a terminal; from `blocks`, if it carries a file with a header instead
        of raw samples, no samples at all, or cannot be read.
    """

    def __init__(
        self, binary_stream: BinaryIO, rate_hz: int, channels: int = 1, ear: Ear = EVERYTHING
    ) -> None:
        name = getattr(binary_stream, "name", None)
        self.name = name if isinstance(name, str) else "raw audio"
        check_rate(self.name, rate_hz)
        if channels < 1:
            raise EdgelidError(f"{self.name!r} needs at least 1 channel, not {channels}.")
        if binary_stream.isatty():
            raise EdgelidError(
                f"{self.name!r} is a terminal: pipe raw audio into it, "
                f"as in `arecord -t raw -f S16_LE -r {rate_hz} -c {channels} | ...`."
            )
        self.rate_hz = rate_hz
        self._channels = channels
        self._mixer = Mixer(self.name, rate_hz, channels, ear)
        # The unbuffered stream below returns what there is instead of waiting for a full block,
        # and waiting for it with `select` is only right where no buffer is in between.
        self._raw = getattr(binary_stream, "raw", binary_stream)
        self._descriptor = _descriptor(self._raw)

    def blocks(self) -> Iterator[Sound]:
        """Read the stream to its end, as `AudioSource.blocks` says."""
        for frames in self._frames():
            yield from self._mixer.process(frames)
        yield from self._mixer.flush(is_end=not self._stopping)

    def close(self) -> None:
        """Do nothing: the stream belongs to who opened it."""

    def _frames(self) -> Iterator[Float32Array]:
        frame_bytes = PCM_BYTES * self._channels
        chunks = self._without_header(self._chunks(frame_bytes))
        first = next(chunks, b"")
        while len(first) < frame_bytes and (more := next(chunks, b"")):
            first += more
        rest = yield from pcm_frames(itertools.chain([first], chunks), self._channels)
        if len(first) < frame_bytes and not self._stopping:
            raise EdgelidError(f"{self.name!r} ended without any audio: see what feeds it.")
        if rest and not self._stopping:
            logger.warning(
                "%r ended in the middle of a sample: the last %d bytes are ignored, and the "
                "format may not be 16-bit with %d channel(s)",
                self.name,
                len(rest),
                self._channels,
            )

    def _chunks(self, frame_bytes: int) -> Iterator[bytes]:
        # More than comes while it is left alone.
        block_bytes = frame_bytes * round(self.rate_hz * 2 * WAKE_S)
        block_bytes = min(block_bytes, PCM_BYTES * MAX_BLOCK_VALUES)
        pace: PipePace | None = None
        if self._descriptor is not None:
            pace = PipePace(self._descriptor, frame_bytes * self.rate_hz)
        while not self._stopping:
            if self._descriptor is not None and pace is not None:
                pace.rest()
                # A read could block for ever and keep `stop` from being noticed.
                ready, _, _ = select.select([self._descriptor], [], [], STOP_POLL_S)
                if not ready:
                    continue
            try:
                chunk = self._raw.read(block_bytes)
            except OSError as error:
                raise EdgelidError(
                    f"{self.name!r} cannot be read any further{_reason(error)}: see what feeds it."
                ) from error
            if chunk is None:  # not blocking, and someone else was faster
                continue
            if not chunk:
                return
            if pace is not None:
                pace.took(len(chunk), len(chunk) < block_bytes)
            yield chunk

    def _without_header(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Hand the chunks on, unless they begin as a file does."""
        start = b""
        for chunk in chunks:
            start += chunk
            if len(start) >= wanted_bytes(start):
                break
        if (kind := kind_of(start[:SYNC_BYTES])) is not None:
            raise EdgelidError(
                f"{self.name!r} carries {kind} instead of raw 16-bit samples: give the file by its "
                "name, or pipe raw audio (`arecord -t raw`, `ffmpeg ... -f s16le -`)."
            )
        if start:
            yield start
        yield from chunks


def pcm_frames(chunks: Iterable[bytes], channels: int) -> Generator[Float32Array, None, bytes]:
    """Frames of raw 16-bit PCM, little-endian and interleaved, however it was cut.

    Parameters
    ----------
    chunks : iterable of bytes
    channels : int

    Yields
    ------
    ndarray, shape (n, channels), float32
        With full scale at 1.

    Returns
    -------
    bytes
        The beginning of a frame whose end has not come.
    """
    frame_bytes = PCM_BYTES * channels
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        whole_bytes = len(data) - len(data) % frame_bytes
        rest = data[whole_bytes:]
        if whole_bytes:
            samples = np.frombuffer(data, dtype="<i2", count=whole_bytes // PCM_BYTES)
            frames = samples.reshape(-1, channels)
            yield frames.astype(np.float32) / np.float32(PCM_FULL_SCALE)
    return rest


def paced(blocks: Iterable[AnySound]) -> Iterator[AnySound]:
    """Hand blocks on at the speed, and as seldom, as a microphone would deliver them.

    Every block is due when its last sample would have been heard and the next `WAKE_S` are full,
    counted from the start, so that errors of single waits do not add up; after a delay the
    following blocks come at once.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (n,), Gap or Level
        As `AudioSource.blocks` gives them.

    Yields
    ------
    ndarray of float32, shape (n,), Gap or Level
        The same.
    """
    start_s = time.monotonic()
    samples = 0
    for block in blocks:
        samples += length_samples(block)
        wait_s = start_s + due_s(samples) - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        yield block


def due_s(samples: int) -> float:
    """When `paced` hands on what so many samples of a stream end with, from its start on."""
    return math.ceil(samples / round(WAKE_S * SAMPLE_RATE_HZ)) * WAKE_S


def _open_file(name: str) -> BinaryIO:
    try:
        status = Path(name).stat()
        if (kind := other_kind(status)) is not None:
            hint = (
                "give an audio file in it"
                if stat.S_ISDIR(status.st_mode)
                else "copy it to a file, or follow it with `edgelid listen --input -`"
            )
            raise EdgelidError(f"{name!r} is {kind}: {hint}.")
        if status.st_size == 0:
            raise EdgelidError(f"{name!r} is empty (0 bytes): record or copy it again.")
        return Path(name).open("rb")
    except FileNotFoundError as error:
        raise EdgelidError(f"{name!r} does not exist: check the path.") from error
    except PermissionError as error:
        raise EdgelidError(f"{name!r} may not be read: ask its owner for permission.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise EdgelidError(f"{name!r} cannot be opened{_reason(error)}.") from error


def check_rate(name: str, rate_hz: int) -> None:
    """Find out whether a sampling rate can be used.

    Raises
    ------
    EdgelidError
        If it cannot.
    """
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise EdgelidError(
            f"{name!r} has a sampling rate of {rate_hz} Hz, and only {MIN_RATE_HZ} to "
            f"{MAX_RATE_HZ} Hz can be used: check the rate, or convert it to {SAMPLE_RATE_HZ} Hz."
        )


def _reason(error: Exception) -> str:
    """Words of the library below, to put in the middle of a sentence."""
    text = words_of(error)
    return f" ({text})" if text else ""


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError):  # a stream in memory
        return None
