"""ffmpeg as a child process, for the formats of phones and for streams of networks.

It decodes what libsndfile does not know. It is a large program in C that reads strangers' files,
so it runs apart from ours, may take only so much memory and time, opens no other file and, for a
file, no network.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import resource
import selectors
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import Float32Array

logger = logging.getLogger(__name__)

PROGRAM = "ffmpeg"
INSTALL = "sudo apt install ffmpeg"

# It takes 20 to 60 MB for sound of any format; pictures on a cover are not decoded.
MAX_BYTES = 512 << 20
# Decoding a day of AAC takes four minutes on the slowest Raspberry Pi.
MAX_PROCESSOR_S = 1_200
SILENT_S = 60.0  # without a word or a sample: it hangs
POLL_S = 0.1
READ_BYTES = 1 << 16
END_S = 5.0  # from the end of its output to its own

# Of files: nothing that leads to other files or hosts, as playlists, scripts and sessions do.
DEMUXERS = (
    *("aac", "ac3", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "eac3"),
    *("flac", "flv", "gsm", "loas", "matroska", "webm", "mov", "mp4", "mp3", "mpc", "mpc8"),
    *("mpeg", "mpegts", "ogg", "qcp", "rm", "tta", "voc", "w64", "wav", "wv", "xwma", "dsf"),
)

# Its output: a header of 24 bytes with rate and channels, then 32-bit floats, big-endian.
AU_HEADER_BYTES = 24
AU_MAGIC = b".snd"
AU_FLOAT = 6
SAMPLE_BYTES = 4
MAX_CHANNELS = 1_024
MAX_HEADER_BYTES = 1 << 16

FIRST_AUDIO = "0:a:0"  # of the source
NO_SOUND = "there is no sound in it"

# How it writes: "[mov,mp4 @ 0x55d0c8d0] [error] moov atom not found".
_MESSAGE = re.compile(r"(?:\[[^\]]* @ 0x[0-9a-f]+\] )?\[(\w+)\] (.*)")
_USER = re.compile(r"://[^\s/@]*@")
_NO_AUDIO = f"Stream map '{FIRST_AUDIO}' matches no streams"
_BAD = frozenset({"error", "fatal", "panic"})
_DURATION = re.compile(r"\s*Duration: (\d{1,9}):(\d\d):(\d\d(?:\.\d+)?)")


def find_ffmpeg() -> str | None:
    """Path of the program, if it is installed."""
    return shutil.which(PROGRAM)


class Ffmpeg:
    """Something decoded by a child process, at its own rate and with its own channels.

    Parameters
    ----------
    name : str
        What to call it in messages.
    source : sequence of str
        Options and the source, up to and with ``-i``.
    descriptors : sequence of int
        What the child keeps of our open files.
    max_processor_s : int or None
        How much time of a processor it may take.

    Attributes
    ----------
    rate_hz, channels : int
        Once `ready` has been true.
    complaint : str
        The last that it has found wrong; "" if nothing.
    duration_s : float or None
        How long the source is, if its header says so.
    silent_s : float
        For how long it has been waited for since it has last delivered something.

    Raises
    ------
    EdgelidError
        If it is not installed, or does not start.
    """

    rate_hz = 0
    channels = 0

    def __init__(
        self,
        name: str,
        source: Sequence[str],
        descriptors: Sequence[int] = (),
        max_processor_s: int | None = MAX_PROCESSOR_S,
    ) -> None:
        program = find_ffmpeg()
        if program is None:
            raise EdgelidError(f"{name!r} needs the program ffmpeg: {INSTALL}.")
        self.name = name
        self.complaint = ""
        self.duration_s: float | None = None
        self._data = bytearray()
        self._source = source[-1]  # which may hold a password
        self._words = b""
        self._is_estimate = False
        self._lines: deque[str] = deque(maxlen=20)
        self.silent_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        command = [
            *(program, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"),
            *("-threads", "1", *source, "-map", FIRST_AUDIO, "-vn", "-sn", "-dn"),
            *("-threads", "1", "-c:a", "pcm_f32be", "-flush_packets", "1", "-f", "au", "pipe:1"),
        ]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=descriptors,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                # Not of our terminal's group: Ctrl-C is ours to deal with.
                start_new_session=True,
            )
        except OSError as error:
            raise EdgelidError(f"ffmpeg does not start ({error.strerror}): {INSTALL}.") from error
        self._limit(max_processor_s)
        assert self._process.stdout is not None and self._process.stderr is not None
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)

    def ready(self, wait_s: float) -> bool:
        """Whether it has begun to deliver, so that rate and channels are known.

        Raises
        ------
        EdgelidError
            If it has ended without, or delivers what cannot be.
        """
        if self.rate_hz:
            return True
        self._wait(wait_s)
        if len(self._data) < AU_HEADER_BYTES:
            if not self._goes_on():
                raise EdgelidError(f"ffmpeg cannot read {self.name!r}{self.reason()}.")
            return False
        words = np.frombuffer(bytes(self._data[:AU_HEADER_BYTES]), ">u4")
        start, encoding, rate_hz, channels = (int(words[i]) for i in (1, 3, 4, 5))
        if (
            self._data[:4] != AU_MAGIC
            or encoding != AU_FLOAT
            or not AU_HEADER_BYTES <= start <= MAX_HEADER_BYTES
            or not 1 <= channels <= MAX_CHANNELS
        ):
            raise EdgelidError(f"ffmpeg makes no sound of {self.name!r} that is understood.")
        if len(self._data) < start:
            return False
        del self._data[:start]
        self.rate_hz, self.channels = rate_hz, channels
        return True

    def read(self, most_frames: int, wait_s: float) -> Float32Array | None:
        """What has come.

        Parameters
        ----------
        most_frames : int
        wait_s : float
            How long to wait for the first of it.

        Returns
        -------
        ndarray of float32, shape (n, channels), or None
            `n` is 0 if nothing came in time; None at the end.
        """
        frame_bytes = SAMPLE_BYTES * self.channels
        if len(self._data) < frame_bytes:
            self._wait(wait_s)
        frames = min(most_frames, len(self._data) // frame_bytes)
        if frames == 0 and not self._goes_on():
            return None
        data = bytes(self._data[: frames * frame_bytes])
        del self._data[: frames * frame_bytes]
        return np.frombuffer(data, ">f4").reshape(-1, self.channels).astype(np.float32)

    def end(self) -> int:
        """Wait for its end, after that of its output; returns the exit status."""
        assert self._process is not None
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def reason(self) -> str:
        """What it has found wrong, to put in the middle of a sentence."""
        return f" ({self.complaint})" if self.complaint else ""

    def close(self) -> None:
        """End it, whatever it does; a second call does nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
        self._selector.close()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()

    def _limit(self, max_processor_s: int | None) -> None:
        """Set limits from outside: what runs between fork and exec must not be Python."""
        assert self._process is not None
        limits = [(resource.RLIMIT_DATA, MAX_BYTES), (resource.RLIMIT_CORE, 0)]
        if max_processor_s is not None:
            limits.append((resource.RLIMIT_CPU, max_processor_s))
        for kind, limit in limits:
            try:
                resource.prlimit(self._process.pid, kind, (limit, limit))
            except ProcessLookupError:
                return
            except (OSError, ValueError) as error:  # a sandbox, or a lower limit of our own
                logger.debug("no limit for ffmpeg: %s", error)

    def _goes_on(self) -> bool:
        return bool(self._process) and bool(self._selector.get_map())

    def _wait(self, wait_s: float) -> None:
        """Take what there is of output and messages; wait for some, if there is none."""
        if not self._goes_on():
            return
        # At most what was to be waited: this process may have been stopped meanwhile. At most what
        # has passed, too: a message ends the wait at once.
        began_s = time.monotonic()
        found = self._selector.select(wait_s)
        self.silent_s += min(wait_s, time.monotonic() - began_s)
        for ready, _ in found:
            data = os.read(ready.fd, READ_BYTES)
            if not data:
                self._selector.unregister(ready.fileobj)
            elif self._process is not None and ready.fileobj is self._process.stdout:
                self._data += data
                self.silent_s = 0.0
            else:
                self._note(data)

    def _note(self, data: bytes) -> None:
        *lines, self._words = (self._words + data).split(b"\n")
        self._words = self._words[-READ_BYTES:]
        for line in lines:
            text = "".join(c if c.isprintable() else "?" for c in line.decode(errors="replace"))
            text = _USER.sub("://", text.replace(self._source, self.name))
            logger.debug("ffmpeg: %s", text)
            found = _MESSAGE.match(text)
            if found and found[1] in _BAD:
                words = found[2].strip().rstrip(".")[:200]
                self.complaint = self.complaint or (NO_SOUND if _NO_AUDIO in words else words)
            if found and (duration := _DURATION.match(found[2])) and not self._is_estimate:
                hours, minutes, seconds = duration.groups()
                self.duration_s = 3_600 * int(hours) + 60 * int(minutes) + float(seconds)
            self._is_estimate |= "Estimating duration from bitrate" in text


def of_file(name: str, descriptor: int, part: tuple[int, int] | None = None) -> Ffmpeg:
    """Decode an open file, which keeps its place.

    Parameters
    ----------
    name : str
        What to call it in messages.
    descriptor : int
    part : (int, int), optional
        Only the bytes from the first to before the second.

    Raises
    ------
    EdgelidError
        If it cannot be.
    """
    # A name of its own in /proc: no name of ours can be taken for an option or a protocol.
    path, protocols = f"file:/proc/self/fd/{descriptor}", "file"
    if part is not None:
        path, protocols = f"subfile,,start,{part[0]},end,{part[1]},,:{path}", "file,subfile"
    source = [
        *("-protocol_whitelist", protocols, "-format_whitelist", ",".join(DEMUXERS)),
        *("-i", path),
    ]
    return Ffmpeg(name, source, [descriptor])


def wait_ready(child: Ffmpeg, enough: Callable[[], bool], silent_s: float = SILENT_S) -> bool:
    """Wait until a child delivers; false if it was enough before.

    Raises
    ------
    EdgelidError
        If it cannot, or says nothing for `silent_s`.
    """
    while not child.ready(POLL_S):
        if enough():
            return False
        if child.silent_s > silent_s:
            raise EdgelidError(f"ffmpeg has made nothing of {child.name!r} for {silent_s:g} s.")
    return True
