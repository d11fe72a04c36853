"""Network streams, RTSP and HTTP, through ffmpeg: a microphone that is somewhere else.

As at a microphone, a stream that is not there at the start is an error, and one that is lost later
is a fault to survive: it is connected to again for as long as it takes, and what was lost
meanwhile is told in its place, on the clock of this device. A file that a server has, whose length
is known, is read once to its end.
"""

from __future__ import annotations

import logging
import math
import re
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from edge.audio.clock import Clock
from edge.audio.ffmpeg import Ffmpeg, wait_ready
from edge.audio.mixing import Checked, Ear, Mixer
from edge.audio.sources import BLOCK_S, MAX_BLOCK_VALUES, AudioSource, Gap, Sound, check_rate
from edge.audio.timeouts import POLL_S as ANSWER_POLL_S
from edge.audio.timeouts import Unanswered, patiently
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array

logger = logging.getLogger(__name__)

SCHEMES = ("rtsp", "rtsps", "http", "https")
# What each may open in turn: a playlist of a server must not lead to files of this device.
PROTOCOLS = {
    "rtsp": "rtsp,rtp,srtp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,srtp,udp,tcp,tls",
    "http": "http,https,tcp,tls,crypto,httpproxy",
    "https": "http,https,tcp,tls,crypto,httpproxy",
}

PLAYLISTS = (".m3u8", ".m3u", ".mpd", ".pls")  # whose own length says nothing

POLL_S = 0.1
CONNECT_S = 20.0  # to the first audio; radios and cameras take some seconds
ASK_S = 10.0  # how long to wait for a server's next word on the length of what it has
ANSWER_S = 20.0  # and for all of them together
STALL_S = 8.0  # without audio: the connection may be gone without a word. The page calls 10 s stuck
RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0)
STEADY_S = 10.0  # a stream that has come for so long is there again
BURST_S = 0.3  # what comes faster than time passes, at first, has waited at the other end
LATEST_S = 4.0  # so far back can that reach
PART_S = 1.0  # of a gap that lasts: as often is it told that it goes on
RTSP_OPTIONS = ("-rtsp_transport", "tcp")  # no holes of lost packets, and through firewalls
# To find out what a stream is, no more of it than is needed; that much later is it heard.
PROBE = ("-analyzeduration", "1000000", "-probesize", "32768")

LOST: Final = "connection lost"
STALLED: Final = "connection stalled"


def is_url(text: str) -> bool:
    """Whether an input is a stream of a network.

    Raises
    ------
    EdgelidError
        If it is of another kind than those that can be followed.
    """
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if found is None:
        return False
    if found[1].lower() not in SCHEMES:
        raise EdgelidError(f"{found[0]} cannot be followed: give rtsp(s)://, http(s):// or a file.")
    return True


def shown_url(url: str) -> str:
    """A URL for messages, without user and password, nor what a query may hold of them.

    Raises
    ------
    EdgelidError
        If it is none.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise EdgelidError("the input is no URL: give one like rtsp://HOST/PATH.") from error
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        # Which may be the beginning of a password, cut off at one of these: it is not shown.
        raise EdgelidError(
            "the port of the input is not possible: give one from 1 to 65535, and write #, / and ? "
            "of a password as %23, %2F and %3F."
        )
    if not host or not url.isprintable():
        raise EdgelidError("the input has no host: give a URL like rtsp://HOST/PATH.")
    place = f"[{host}]" if ":" in host else host
    place += f":{port}" if port else ""
    return urlunsplit((parts.scheme.lower(), place, parts.path, "", ""))


def _has_length(url: str, goes_on: Callable[[], bool]) -> bool:
    """Whether a server has a file of some length there, and not a stream.

    ffmpeg does not say: for many formats it knows how long they last only from their end.

    Parameters
    ----------
    url : str
    goes_on : callable
        Whether to wait any longer; for more than `ANSWER_S`, nobody does.
    """

    def enough(polls: int) -> bool:
        return not goes_on() or polls * ANSWER_POLL_S >= ANSWER_S

    try:
        return patiently(lambda: _tells_length(url), enough)
    except Unanswered:
        return False


def _tells_length(url: str) -> bool:
    """The same, for as long as the server takes."""
    parts = urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or parts.path.endswith(PLAYLISTS):
        return False
    # These bring TLS and e-mail along: some MB, which files and microphones do without.
    import urllib.request
    from http.client import HTTPException

    place = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(urlunsplit((*parts[:1], place, *parts[2:4], "")))
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # To this host alone: others would be told the password where it redirects to them.
        login = f"Basic {b64encode(user.encode()).decode()}"
        request.add_unredirected_header("Authorization", login)
    try:
        with urllib.request.urlopen(request, timeout=ASK_S) as response:
            return response.headers.get("Content-Length") is not None
    except (OSError, ValueError, HTTPException) as error:
        logger.debug("%s: %s", shown_url(url), error)
        return False


class NetworkSource(AudioSource):
    """A stream of a network, connected from the start.

    Parameters
    ----------
    url : str
        Of one of `SCHEMES`; user and password may be in it, and are told to nobody else.
    ear : Ear
        How to listen to it.
    clock : Clock, optional

    Raises
    ------
    EdgelidError
        If it cannot be connected to, or ffmpeg is not installed.
    """

    def __init__(self, url: str, ear: Ear, *, clock: Clock | None = None) -> None:
        self.name = shown_url(url)
        # Schemes are the same in capitals, to everyone but ffmpeg.
        scheme, rest = url.split(":", 1)
        self._url = f"{scheme.lower()}:{rest}"
        self._ear = ear
        self._clock = clock or Clock()
        self._is_lost = False
        self._failures = 0
        self._checked = Checked()
        self._waited: list[Float32Array] = []  # frames that came in a burst
        self._child: Ffmpeg | None = self._connect()
        try:
            wait_ready(self._child, lambda: not self._goes_on(), CONNECT_S)
            self._check(self._child)
        except BaseException:
            self.close()
            raise
        self.rate_hz = self._child.rate_hz
        self.duration_s = self._child.duration_s
        self._ends = self.duration_s is not None or _has_length(url, self._goes_on)
        self._heard_s = self._clock.now_s()  # when audio has come last

    def close(self) -> None:
        """End the connection; a second call does nothing."""
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def blocks(self) -> Iterator[Sound]:
        """Listen until `stop`, or the end of what has one, as `AudioSource.blocks` says."""
        while self._goes_on() and self._child is not None:
            reason = yield from self._listen(self._child)
            if not self._goes_on():
                return
            if self._ends:
                if reason is not None:
                    logger.warning("%r was read in part: %s", self.name, reason)
                return
            self._tell_lost(reason or LOST)
            yield from self._recover(reason or LOST)

    def _goes_on(self) -> bool:
        return not self._stopping

    def _connect(self) -> Ffmpeg:
        scheme = self.name.partition("://")[0]
        options = RTSP_OPTIONS if scheme.startswith("rtsp") else ()
        source = [*("-protocol_whitelist", PROTOCOLS[scheme]), *options, *PROBE, "-i", self._url]
        return Ffmpeg(self.name, source, max_processor_s=None)

    def _check(self, child: Ffmpeg) -> None:
        check_rate(self.name, child.rate_hz)
        Mixer(self.name, child.rate_hz, child.channels, self._ear)

    def _listen(self, child: Ffmpeg) -> Generator[Sound, None, str | None]:
        """Hear one connection; returns why it has ended, or None if that is in order."""
        mixer = Mixer(self.name, child.rate_hz, child.channels, self._ear)
        most_frames = max(
            1, min(round(child.rate_hz * BLOCK_S), MAX_BLOCK_VALUES // child.channels)
        )
        heard_frames = 0
        reason: str | None = None
        while self._goes_on():
            frames = self._waited.pop(0) if self._waited else child.read(most_frames, POLL_S)
            if frames is None:
                status = child.end()
                reason = child.complaint or (
                    f"ffmpeg ended with status {status}" if status else None
                )
                break
            if len(frames):
                self._heard_s = self._clock.now_s()
                heard_frames += len(frames)
                yield from mixer.process(self._checked.of(frames, self.name))
                if self._is_lost and heard_frames >= STEADY_S * child.rate_hz:
                    self._is_lost, self._failures = False, 0
                    logger.warning("%r is heard again", self.name)
            elif child.silent_s >= STALL_S:
                reason = STALLED
                break
        self._waited.clear()
        yield from mixer.flush(is_end=self._ends and self._goes_on())
        child.close()
        return reason

    def _recover(self, reason: str) -> Iterator[Sound]:
        """Connect again, for as long as it takes."""
        told_samples = 0

        def gap(least_s: float = 0.0, until_s: float = math.inf) -> Iterator[Gap]:
            nonlocal told_samples
            lost_s = min(until_s, self._clock.now_s()) - self._heard_s
            samples = round(lost_s * SAMPLE_RATE_HZ) - told_samples
            if samples > 0 and samples >= least_s * SAMPLE_RATE_HZ:
                told_samples += samples
                yield Gap(samples, STALLED if reason == STALLED else LOST)

        def so_far() -> Iterator[Gap]:
            return gap(PART_S, self._clock.now_s() - LATEST_S)

        while self._goes_on():
            for _ in range(round(RETRY_S[min(self._failures, len(RETRY_S) - 1)] / POLL_S)):
                if not self._goes_on():
                    break
                self._clock.sleep(POLL_S)
                yield from so_far()
            self._failures += 1
            if not self._goes_on():
                break
            try:
                self._child = self._connect()
                while self._goes_on() and self._child.silent_s < CONNECT_S:
                    if self._child.ready(POLL_S):
                        self._check(self._child)
                        start_s = self._clock.now_s() - self._take_burst(self._child)
                        yield from gap(until_s=start_s)
                        return
                    yield from so_far()
            except EdgelidError as error:
                logger.info("%s", error)
            self.close()
        yield from gap()

    def _take_burst(self, child: Ffmpeg) -> float:
        """Take what has waited for the connection; returns its length in seconds."""
        most_frames = MAX_BLOCK_VALUES // child.channels
        frames: Float32Array | None = None
        until_s = self._clock.now_s() + BURST_S
        taken_frames = 0
        while self._clock.now_s() < until_s and taken_frames < LATEST_S * child.rate_hz:
            frames = child.read(most_frames, POLL_S)
            if frames is None:
                break
            if len(frames):
                self._waited.append(frames)
                taken_frames += len(frames)
        return taken_frames / child.rate_hz

    def _tell_lost(self, reason: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            logger.warning("%r is not heard any longer (%s): waiting for it", self.name, reason)
