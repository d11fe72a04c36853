"""Sources of audio: what they have in common, files, and raw PCM streams.

Every source yields the same thing, 16 kHz mono in blocks, whatever it reads. The microphone has a
module of its own, `edge.audio.microphone`.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import select
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np

from edge.audio.level import Level
from edge.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ, resampled
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.native_stderr import stderr_to_log

logger = logging.getLogger(__name__)

BLOCK_S = 0.1  # below the 320 ms of a model step, so that a source adds little delay of its own
MAX_BLOCK_VALUES = 1 << 18  # 1 MiB of float32, for files of hundreds of channels

STOP_POLL_S = 0.2  # how long `stop` can take while a stream is silent

MALFORMED_PAGES = 10  # of an Ogg file, one after the other, before it counts as damaged
LOST_END_S = 0.1  # lossy formats may promise some samples more than decoders find

# Above this, samples are no overshoot but were scaled wrongly (integers stored as floats).
PLAUSIBLE_PEAK = 4.0

PCM_BYTES = 2  # s16le
PCM_FULL_SCALE = 32_768.0

# Recorders that write a WAV file to a pipe cannot know its length and promise 2 GiB or more.
UNKNOWN_LENGTH_BYTES = 0x7FFF0000
UNKNOWN_LENGTH_FRAMES = 1 << 62  # libsndfile's word for it is (1 << 63) - 1
TRUNCATED_AUDIO = re.compile(r"\b(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")

SIGNATURE_BYTES = 4
FILE_SIGNATURES = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg"}


@dataclass(frozen=True)
class Gap:
    """Audio that was lost, in its place among the blocks.

    Attributes
    ----------
    samples : int
        How much, at 16 kHz.
    reason : str
    """

    samples: int
    reason: str

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
    """An audio file of any format that libsndfile reads, in constant memory.

    Parameters
    ----------
    path : str or path-like
        WAV, FLAC, Ogg Vorbis, Opus, MP3 and others; 1 to 384 kHz; any number of channels.

    Attributes
    ----------
    channels : int
        Channels of the file, which `blocks` mixes.

    Raises
    ------
    EdgelidError
        If it is no such file, or has no samples; from `blocks`, if it cannot be decoded to its
        end or holds samples that are not finite. A file shorter than its header promises is
        read as far as it goes, with a warning.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.name = os.fspath(path)
        with contextlib.ExitStack() as resources:
            file = resources.enter_context(_open_file(self.name))
            self._sound = _open_sound(file, self.name)
            resources.callback(self._sound.close)
            self.rate_hz = int(self._sound.samplerate)
            self.channels = int(self._sound.channels)
            _check_rate(self.name, self.rate_hz)
            if self._sound.frames == 0:
                raise _no_samples(self.name)
            if self._sound.frames < UNKNOWN_LENGTH_FRAMES:
                self.duration_s = self._sound.frames / self.rate_hz
            _warn_if_truncated(self.name, self._sound.extra_info)
            self._resources = resources.pop_all()

    def blocks(self) -> Iterator[Float32Array]:
        """Decode the file, as `AudioSource.blocks` says."""
        return resampled(self._frames(), self.rate_hz, self.channels)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._resources.close()

    def _frames(self) -> Iterator[Float32Array]:
        block_frames = min(round(self.rate_hz * BLOCK_S), MAX_BLOCK_VALUES // self.channels)
        read_frames = 0
        loud = False
        while not self._stopping:
            frames = self._read(block_frames, read_frames)  # (n, channels)
            if len(frames) == 0:
                self._check_end(read_frames)
                return
            peak = self._checked_peak(frames, read_frames)
            if peak > PLAUSIBLE_PEAK and not loud:
                loud = True
                logger.warning(
                    "%r has samples of %.4g times full scale, which are clipped: was it scaled "
                    "wrongly?",
                    self.name,
                    peak,
                )
            read_frames += len(frames)
            yield frames

    def _read(self, block_frames: int, read_frames: int) -> Float32Array:
        frames = np.empty((block_frames, self.channels), np.float32)
        for _ in range(MALFORMED_PAGES):
            try:
                with stderr_to_log("libsndfile"):
                    read: Float32Array = self._sound.read(out=frames)
            except RuntimeError as error:  # soundfile's errors are of this kind
                failure = error
                if self._sound.format != "OGG":
                    break
                # libsndfile calls an Ogg file malformed at a page whose time stamp is off by some
                # samples, as ffmpeg writes them; what comes before and after is sound. Of other
                # formats, nothing tells whether it still decodes the right thing.
                position = self._sound.tell()
                logger.info("%r: %s at %.1f s", self.name, error, position / self.rate_hz)
                if position > read_frames:
                    return frames[: position - read_frames]
            else:
                return read
        raise EdgelidError(
            f"{self.name!r} is damaged and cannot be decoded after "
            f"{read_frames / self.rate_hz:.1f} s{_reason(failure)}: copy or convert it again."
        ) from failure

    def _checked_peak(self, frames: Float32Array, read_frames: int) -> float:
        # The peak is finite if and only if every sample is: maximum and minimum hand NaN on.
        peak = float(max(frames.max(), -frames.min()))
        if not np.isfinite(peak):
            bad = int(np.argmin(np.isfinite(frames).all(axis=1)))
            raise EdgelidError(
                f"{self.name!r} holds samples that are no numbers (NaN or infinite), the first at "
                f"{(read_frames + bad) / self.rate_hz:.3f} s: export it again, as 16-bit PCM."
            )
        return peak

    def _check_end(self, read_frames: int) -> None:
        if read_frames == 0:
            raise _no_samples(self.name)
        read_s = read_frames / self.rate_hz
        if self.duration_s is not None and read_s < self.duration_s - LOST_END_S:
            logger.warning(
                "%r is truncated or damaged: it ends after %.1f s of the %.1f s that it promises",
                self.name,
                read_s,
                self.duration_s,
            )


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

    Raises
    ------
    EdgelidError
        If the stream is a terminal; from `blocks`, if it carries a file with a header instead
        of raw samples, no samples at all, or cannot be read.
    """

    def __init__(self, binary_stream: BinaryIO, rate_hz: int, channels: int = 1) -> None:
        name = getattr(binary_stream, "name", None)
        self.name = name if isinstance(name, str) else "raw audio"
        _check_rate(self.name, rate_hz)
        if channels < 1:
            raise EdgelidError(f"{self.name!r} needs at least 1 channel, not {channels}.")
        if binary_stream.isatty():
            raise EdgelidError(
                f"{self.name!r} is a terminal: pipe raw audio into it, "
                f"as in `arecord -t raw -f S16_LE -r {rate_hz} -c {channels} | ...`."
            )
        self.rate_hz = rate_hz
        self._channels = channels
        # The unbuffered stream below returns what there is instead of waiting for a full block,
        # and waiting for it with `select` is only right where no buffer is in between.
        self._raw = getattr(binary_stream, "raw", binary_stream)
        self._descriptor = _descriptor(self._raw)

    def blocks(self) -> Iterator[Float32Array]:
        """Read the stream to its end, as `AudioSource.blocks` says."""
        return resampled(self._frames(), self.rate_hz, self._channels)

    def close(self) -> None:
        """Do nothing: the stream belongs to who opened it."""

    def _frames(self) -> Iterator[Float32Array]:
        frame_bytes = PCM_BYTES * self._channels
        rest = b""  # the beginning of a frame whose end has not come yet
        received_bytes = 0
        for chunk in self._without_header(self._chunks(frame_bytes)):
            received_bytes += len(chunk)
            data = rest + chunk
            whole_bytes = len(data) - len(data) % frame_bytes
            rest = data[whole_bytes:]
            if whole_bytes:
                samples = np.frombuffer(data, dtype="<i2", count=whole_bytes // PCM_BYTES)
                frames = samples.reshape(-1, self._channels)  # (n, channels)
                yield frames.astype(np.float32) / np.float32(PCM_FULL_SCALE)
        if received_bytes == 0 and not self._stopping:
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
        block_bytes = frame_bytes * round(self.rate_hz * BLOCK_S)
        while not self._stopping:
            if self._descriptor is not None:
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
            yield chunk

    def _without_header(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Hand the chunks on, unless they begin as a file does."""
        start = b""
        for chunk in chunks:
            start += chunk
            if len(start) >= SIGNATURE_BYTES:
                break
        if (kind := FILE_SIGNATURES.get(start[:SIGNATURE_BYTES])) is not None:
            raise EdgelidError(
                f"{self.name!r} carries a {kind} file instead of raw 16-bit samples: give the "
                "file by its name, or pipe raw audio (`arecord -t raw`, `ffmpeg ... -f s16le -`)."
            )
        if start:
            yield start
        yield from chunks


def paced(blocks: Iterable[AnySound]) -> Iterator[AnySound]:
    """Hand blocks on at the speed at which a microphone would deliver them.

    Every block is due when its last sample would have been heard, counted from the start, so
    that errors of single waits do not add up; after a delay the following blocks come at once.

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
        wait_s = start_s + samples / SAMPLE_RATE_HZ - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        yield block


def _open_file(name: str) -> BinaryIO:
    try:
        status = Path(name).stat()
        if stat.S_ISDIR(status.st_mode):
            raise EdgelidError(f"{name!r} is a folder: give an audio file in it.")
        if not stat.S_ISREG(status.st_mode):
            raise EdgelidError(f"{name!r} is no regular file: pipe it in as raw audio instead.")
        if status.st_size == 0:
            raise EdgelidError(f"{name!r} is empty (0 bytes): record or copy it again.")
        return Path(name).open("rb")
    except FileNotFoundError as error:
        raise EdgelidError(f"{name!r} does not exist: check the path.") from error
    except PermissionError as error:
        raise EdgelidError(f"{name!r} may not be read: ask its owner for permission.") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise EdgelidError(f"{name!r} cannot be opened{_reason(error)}.") from error


def _open_sound(file: BinaryIO, name: str) -> Any:
    soundfile = import_soundfile()
    try:
        # By descriptor: from a name, libsndfile takes the format of what it does not recognise,
        # and would decode a text called `x.vox` as sound.
        with stderr_to_log("libsndfile"):
            sound = soundfile.SoundFile(file.fileno(), closefd=False)
    except RuntimeError as error:  # soundfile's errors are of this kind
        raise EdgelidError(
            f"{name!r} is not audio that libsndfile {soundfile.__libsndfile_version__} can "
            f"read{_reason(error)}: convert it, as with `ffmpeg -i FILE FILE.wav`."
        ) from error
    # soundfile seeks after each read of a seekable file, to where it already is. That doubles
    # the time, and sets the decoder back in formats whose frames build on earlier ones.
    sound.seekable = lambda: False
    return sound


def import_soundfile() -> Any:
    """The package that reads and writes audio files.

    Raises
    ------
    EdgelidError
        If it or its library is missing.
    """
    try:
        return importlib.import_module("soundfile")
    except ImportError as error:
        raise EdgelidError(
            "audio files need the package soundfile, which cannot be imported: "
            'pip install "edgelid[edge]".'
        ) from error
    except OSError as error:
        raise EdgelidError(
            "audio files need the library libsndfile, which cannot be loaded: "
            "sudo apt install libsndfile1."
        ) from error


def _check_rate(name: str, rate_hz: int) -> None:
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise EdgelidError(
            f"{name!r} has a sampling rate of {rate_hz} Hz, and only {MIN_RATE_HZ} to "
            f"{MAX_RATE_HZ} Hz can be used: check the rate, or convert it to {SAMPLE_RATE_HZ} Hz."
        )


def _warn_if_truncated(name: str, header_log: str) -> None:
    """Warn if libsndfile noted that the file ends before its header says.

    It shortens the audio silently, and its log is the only trace. Of other formats than WAV,
    AIFF and AU the end of the reading tells.
    """
    found = TRUNCATED_AUDIO.search(header_log)
    if found is None:
        return
    promised_bytes, there_bytes = int(found[1]), int(found[2])
    if there_bytes < promised_bytes < UNKNOWN_LENGTH_BYTES:
        logger.warning(
            "%r is truncated: its header promises %d bytes of audio, and %d are there",
            name,
            promised_bytes,
            there_bytes,
        )


def _no_samples(name: str) -> EdgelidError:
    return EdgelidError(f"{name!r} holds no audio (0 samples): record or copy it again.")


def _reason(error: Exception) -> str:
    """Words of the library below, to put in the middle of a sentence."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    text = " ".join(str(text).split()).rstrip(".")
    return f" ({text})" if text else ""


def _descriptor(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError):  # a stream in memory
        return None
