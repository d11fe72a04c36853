"""Decoding of audio files, by one door: libsndfile for what it knows, ffmpeg for the rest.

A file may hold several recordings, one behind the other: all of them are read. What ends before
it should is read as far as it goes, whatever its format, and says so once at its end.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from edge.audio.containers import UNKNOWN_BYTES
from edge.audio.ffmpeg import (
    INSTALL,
    POLL_S,
    SILENT_S,
    Ffmpeg,
    find_ffmpeg,
    of_file,
    wait_ready,
)
from edge.audio.formats import SYNC_BYTES, kind_amid_frames, kind_of
from edge.audio.section import Section, Window
from edge.audio.sections import sections
from edge.errors import EdgelidError
from edge.frontend import Float32Array
from edge.system.install import how_to_install
from edge.system.native_stderr import stderr_to_log

logger = logging.getLogger(__name__)

MAX_REFUSED = 50  # parts of a file in a row that ffmpeg is started for, each time for nothing
MALFORMED_PAGES = 10  # of an Ogg file, one after the other, before it counts as damaged
ESTIMATE = 0.02  # lengths in the headers of containers are rough
MISSING_END = "its end is missing"
LOST_END_S = 0.1  # lossy formats may promise some samples more than decoders find

UNKNOWN_LENGTH_FRAMES = 1 << 62  # libsndfile's word for it is (1 << 63) - 1
TRUNCATED_AUDIO = re.compile(
    r"\b(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)"
)


# Which libsndfile should know: what it refuses of them is mostly damaged.
SOUND_KINDS = frozenset(("WAV", "RF64", "W64", "FLAC", "Ogg", "MP3", "AIFF", "CAF", "AU"))


class Unreadable(Exception):
    """What is not decoded, in words for the middle of a sentence."""


class Part(ABC):
    """A recording in a file.

    Attributes
    ----------
    rate_hz, channels : int
    duration_s : float or None
        What its header promises, if it does.
    end : str
        Once it has been read: why there is less of it than there should be, or "".
    """

    rate_hz: int
    channels: int
    duration_s: float | None = None
    end: str = ""

    @abstractmethod
    def read(self, most_frames: int) -> Float32Array:
        """The next frames, shape (n, channels); none at the end."""

    @abstractmethod
    def close(self) -> None:
        """Release what it holds; a second call does nothing."""


class SoundPart(Part):
    """What libsndfile decodes.

    Parameters
    ----------
    file : BinaryIO
        The file.
    section : Section
        Which stretch of it.
    is_whole : bool
        Whether that is all of it, as it is.
    """

    def __init__(self, file: BinaryIO, section: Section, is_whole: bool = False) -> None:
        with stderr_to_log("libsndfile"):
            self.sound = open_sound(file, section, is_whole)
        self.rate_hz = int(self.sound.samplerate)
        self.channels = int(self.sound.channels)
        self._frames = 0
        self._cut = section.cut
        self._promised_s: float | None = None
        if self.sound.frames < UNKNOWN_LENGTH_FRAMES and not section.is_guessed:
            self.duration_s = self._promised_s = self.sound.frames / self.rate_hz
            self._promised_s *= _promised_share(self.sound.extra_info)

    @property
    def is_empty(self) -> bool:
        """Whether it is known to have no samples."""
        return bool(self.sound.frames == 0)

    def read(self, most_frames: int) -> Float32Array:
        frames = np.empty((most_frames, self.channels), np.float32)
        failure = ""
        for _ in range(MALFORMED_PAGES):
            try:
                with stderr_to_log("libsndfile"):
                    read: Float32Array = self.sound.read(out=frames)
            except RuntimeError as error:
                failure = words_of(error)
                if self.sound.format != "OGG":
                    break
                # libsndfile calls an Ogg file malformed at a page whose time stamp is off by some
                # samples, as ffmpeg writes them; what comes before and after is sound. Of other
                # formats, nothing tells whether it still decodes the right thing.
                position = self.sound.tell()
                logger.info("%s at %.1f s", error, position / self.rate_hz)
                if position > self._frames:
                    read = frames[: position - self._frames]
                    failure = ""
                    break
            else:
                failure = ""
                break
        if failure:
            self.end = failure + self._promise()
            return frames[:0]
        self._frames += len(read)
        if len(read) == 0:
            self._check_end()
        return read

    def close(self) -> None:
        self.sound.close()

    def _check_end(self) -> None:
        failure = getattr(self.sound.name, "failure", None)  # of a `Window`
        if failure is not None:
            self.end = words_of(failure) + self._promise()
        elif promise := self._promise():
            self.end = promise.removeprefix("; ")
        elif self._cut:
            self.end = MISSING_END

    def _promise(self) -> str:
        read_s = self._frames / self.rate_hz
        if self._promised_s is None or read_s >= self._promised_s - LOST_END_S:
            return ""
        return f"; it promises {self._promised_s:.1f} s"


class ChildPart(Part):
    """What ffmpeg decodes.

    Parameters
    ----------
    child : Ffmpeg
        Ready.
    enough : callable
        Whether nobody waits for it any longer.
    is_cut : bool
        Whether its end is known to be missing.
    """

    def __init__(self, child: Ffmpeg, enough: Callable[[], bool], is_cut: bool = False) -> None:
        self._child = child
        self._enough = enough
        self._is_cut = is_cut
        self.rate_hz, self.channels = child.rate_hz, child.channels
        self._frames = 0

    def read(self, most_frames: int) -> Float32Array:
        while not self._enough():
            frames = self._child.read(most_frames, POLL_S)
            if frames is None:
                self.end = self._shortfall(self._child.end())
                break
            self._frames += len(frames)
            if len(frames):
                return frames
            if self._child.silent_s > SILENT_S:
                self.end = f"ffmpeg has made nothing more of it for {SILENT_S:g} s"
                break
        return np.empty((0, self.channels), np.float32)

    def close(self) -> None:
        self._child.close()

    def _shortfall(self, status: int) -> str:
        promised_s = self._child.duration_s
        if self._child.complaint:
            return self._child.complaint
        if status:
            return f"ffmpeg ended with status {status}"
        if promised_s and self._frames / self.rate_hz < (1 - ESTIMATE) * promised_s - LOST_END_S:
            return f"it promises {promised_s:.1f} s"
        return MISSING_END if self._is_cut else ""


class Recording:
    """An audio file of any format.

    Parameters
    ----------
    file : BinaryIO
        Open; closed by who has opened it.
    name : str
        What to call it in messages.
    enough : callable
        Whether to stop waiting.

    Attributes
    ----------
    first : Part
        The first recording in it, open.
    duration_s : float or None
        Length of all, if it is known beforehand.
    problems : list of str
        What was left out, in words for the middle of a sentence; complete behind `parts`.

    Raises
    ------
    EdgelidError
        If nothing decodes it.
    OSError
        If it cannot be read.
    """

    def __init__(self, file: BinaryIO, name: str, enough: Callable[[], bool]) -> None:
        self._file = file
        self._name = name
        self._enough = enough
        self.problems: list[str] = []
        self._sections = sections(file.fileno())
        self._opened = 0  # how many of several have been tried
        self._refused = 0  # by ffmpeg, since something was last opened
        self.first: Part = self._open_first()
        self.duration_s = self.first.duration_s if len(self._sections) == 1 else None

    def parts(self) -> Iterator[Part]:
        """Each recording in it, to be read to its end before the next is asked for."""
        yield self.first
        self._note(self.first.end)
        self.first.close()
        for part in self._remaining():
            self.first = part
            yield part
            self._note(part.end)
            part.close()
        if left_bytes := self._sections[-1].left_bytes:
            self._note(f"{left_bytes} bytes behind its end are nothing that is known")

    def close(self) -> None:
        """Release what it holds, but not the file; a second call does nothing."""
        self.first.close()

    def _note(self, problem: str) -> None:
        if problem:
            self.problems.append(problem)

    def _open_first(self) -> Part:
        section = self._sections[0]
        if len(self._sections) > 1:
            for part in self._remaining():
                return part
            # Then all of it is something else.
            self._sections = [Section(0, os.fstat(self._file.fileno()).st_size)]
            self.problems.clear()
            section = self._sections[0]
        self._opened = 1
        try:
            part = SoundPart(self._file, section, section.is_plain)
        except Unreadable as error:
            return open_child(self._file, self._name, str(error), self._enough, section)
        if part.is_empty:
            part.close()
            raise no_samples(self._name)
        return part

    def _remaining(self) -> Iterator[Part]:
        """Those of several that have not been opened yet, and can be."""
        while self._opened < len(self._sections):
            if self._refused == MAX_REFUSED:
                self._note(f"{len(self._sections) - self._opened} parts behind it were not tried")
                self._opened = len(self._sections)
                return
            section = self._sections[self._opened]
            self._opened += 1
            try:
                yield self._open(section)
            except _Unopened as error:
                size = section.end - section.start
                place = f"part {self._opened} of {len(self._sections)}, of {size} bytes"
                self._note(f"{place}: {error}")

    def _open(self, section: Section) -> Part:
        """One of several."""
        part: Part
        try:
            part = SoundPart(self._file, section)
        except Unreadable as error:
            if find_ffmpeg() is None:
                raise _Unopened(f"{error}; ffmpeg may know it: {INSTALL}") from error
            try:
                part = open_child(self._file, self._name, str(error), self._enough, section)
            except EdgelidError:
                self._refused += 1
                raise _Unopened(str(error)) from error
            except OSError as failure:
                raise _Unopened(words_of(failure)) from failure
        self._refused = 0
        return part


class _Unopened(Exception):
    """A part of a file that nothing decodes."""


class NeedsFfmpeg(EdgelidError):
    """A file that ffmpeg could decode, if it were installed.

    Attributes
    ----------
    name : str
        Of the file.
    kind : str
        What people call the format.
    """

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(f"{name!r} is {kind}, which needs the program ffmpeg: {INSTALL}.")
        self.name = name
        self.kind = kind

    def together(self, count: int) -> EdgelidError:
        """The one error of so many files, of which this is the first."""
        if count == 1:
            return self
        return EdgelidError(
            f"{count} files were not read, as they need the program ffmpeg ({self.name!r}, "
            f"{self.kind}, and {count - 1} more): {INSTALL}."
        )


def open_sound(file: BinaryIO, section: Section, is_whole: bool) -> Any:
    """Open a section of a file, or all of it, with libsndfile, which may print to standard error.

    Raises
    ------
    Unreadable
        If that does not know it.
    EdgelidError
        If there is no libsndfile.
    """
    soundfile = import_soundfile()
    # By descriptor: from a name, libsndfile takes the format of what it does not recognise, and
    # would decode a text called `x.vox` as sound. It goes on where the descriptor stands.
    source = file.fileno() if is_whole else Window(file.fileno(), section)
    try:
        sound = soundfile.SoundFile(source, closefd=False)
    except RuntimeError as error:  # soundfile's errors are of this kind
        raise Unreadable(words_of(error)) from error
    # soundfile seeks after each read of a seekable file, to where it already is. That doubles
    # the time, and sets the decoder back in formats whose frames build on earlier ones.
    sound.seekable = lambda: False
    return sound


def open_child(
    file: BinaryIO,
    name: str,
    refusal: str,
    enough: Callable[[], bool],
    section: Section | None = None,
) -> ChildPart:
    """Have ffmpeg decode an open file.

    Parameters
    ----------
    file : BinaryIO
    name : str
        What to call it in messages.
    refusal : str
        Why libsndfile does not.
    enough : callable
        Whether to stop waiting.
    section : Section, optional
        Which stretch of it.

    Raises
    ------
    EdgelidError
        If it cannot either, or is not installed; `NeedsFfmpeg` if that is all that is missing.
    OSError
        If the file cannot be read.
    """
    whole = Section(0, os.fstat(file.fileno()).st_size)
    section = section or whole
    start = os.pread(file.fileno(), SYNC_BYTES, section.start)
    kind = kind_of(start) or kind_amid_frames(start)
    has_ffmpeg = find_ffmpeg() is not None
    version = import_soundfile().__libsndfile_version__
    reason = f" ({refusal})" if refusal else ""
    if kind is None or (kind in SOUND_KINDS and not has_ffmpeg):
        way_out = "check whether it is audio, or convert it, as with `ffmpeg -i FILE FILE.wav`"
        if kind in SOUND_KINDS:
            way_out = f"ffmpeg may: {INSTALL}"
        raise EdgelidError(
            f"{name!r} is not audio that libsndfile {version} can read{reason}: {way_out}."
        )
    if not has_ffmpeg:
        raise NeedsFfmpeg(name, kind)
    is_part = (section.start, section.end) != (whole.start, whole.end)
    part = (section.start, section.end) if is_part else None
    child = of_file(name, file.fileno(), part)
    try:
        if wait_ready(child, enough):
            return ChildPart(child, enough, section.cut)
    except EdgelidError as error:
        child.close()
        raise EdgelidError(
            f"{name!r} is not audio that libsndfile {version}{reason} or ffmpeg{child.reason()} "
            "can read: record or copy it again."
        ) from error
    except BaseException:
        child.close()
        raise
    child.close()
    raise EdgelidError(f"{name!r} was not read: it was to end before.")


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
            "audio files need the package soundfile, which cannot be imported: " + how_to_install()
        ) from error
    except OSError as error:
        raise EdgelidError(
            "audio files need the library libsndfile, which cannot be loaded: "
            "sudo apt install libsndfile1."
        ) from error


def no_samples(name: str) -> EdgelidError:
    """The error of a file without a sample."""
    return EdgelidError(f"{name!r} holds no audio (0 samples): record or copy it again.")


def words_of(error: Exception) -> str:
    """Words of the library below, without a full stop."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(".").removeprefix("Error : ")


def _promised_share(header_log: str) -> float:
    """How many times longer a file should be than it is, as libsndfile noted in its log.

    It shortens the audio silently, and its log is the only trace. Of other formats than WAV,
    AIFF and AU the end of the reading tells.
    """
    found = TRUNCATED_AUDIO.search(header_log)
    if found is None:
        return 1.0
    promised_bytes, there_bytes = int(found[1]), int(found[2])
    if there_bytes < promised_bytes < UNKNOWN_BYTES:
        return promised_bytes / there_bytes if there_bytes else 1.0
    return 1.0
