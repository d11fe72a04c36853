"""One recording of a device through PortAudio, from opening to closing.

PortAudio calls back from a thread of its own, at times it chooses, and loses audio if the answer
takes too long. The callback therefore only copies into a ring of fixed size and notes the time;
everything else happens in the thread that reads.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from edge.audio.clock import Clock
from edge.audio.devices import InputDevice, does_not_open, settings
from edge.audio.gaps import Arrivals, Missing
from edge.audio.ring import Ring
from edge.audio.wakeup import WAKE_S, WakeUp
from edge.frontend import Float32Array

logger = logging.getLogger(__name__)

RING_S = 10.0  # longer than any hiccup of the rest that is worth living through
# Of a callback: short enough that a delay by one of them is no loss (`gaps.LATE_S`).
BLOCK_S = WAKE_S / 2
LATENCY_S = 2 * BLOCK_S  # PortAudio's buffer: for one of them may Python be busy
ARRIVALS = 8_192  # more than come in the time of the ring

TOO_SLOW: Final = "too slow"

# PortAudio converts whatever the device has to float, where it can.
FORMATS = ("float32", "int16", "int32", "int24")


class Capture:
    """A device, opened at 16 kHz mono or the nearest to it that it can do.

    Parameters
    ----------
    sounddevice : module
        What speaks to PortAudio.
    device : InputDevice
    channel : int or None
        The one to listen to, from 1 on; None for the mean of all.
    clock : Clock
    news : WakeUp
        Set whenever `WAKE_S` of audio can be read.

    Attributes
    ----------
    name : str
    rate_hz, channels : int
        Of what `read` gives.
    overruns : int
        How often PortAudio has reported that something is missing.

    Raises
    ------
    EdgelidError
        If it does not open.
    """

    def __init__(
        self,
        sounddevice: Any,
        device: InputDevice,
        channel: int | None,
        clock: Clock,
        news: WakeUp,
    ) -> None:
        self._sounddevice = sounddevice
        self._clock = clock
        self._news = news
        self.name = device.name
        self.overruns = 0
        self._position = 0  # frames that have been read, or were lost before that
        self._stream = self._open(device, channel)

    @property
    def active(self) -> bool:
        """Whether PortAudio still means to deliver anything."""
        try:
            return bool(self._stream.active)
        except self._sounddevice.PortAudioError:
            return False

    @property
    def start_s(self) -> float:
        """When its first sample was recorded; NaN before that has come."""
        return self._arrivals.start_s

    @property
    def end_s(self) -> float:
        """When its last sample was recorded."""
        return self._arrivals.end_s

    @property
    def backlog_s(self) -> float:
        """How much has been recorded and not read yet."""
        return self._ring.waiting / self.rate_hz

    def first_heard_s(self) -> float | None:
        """When its first sample was recorded; None before that has come."""
        if not self._noted:
            return None
        position, now_s, _, _ = self._noted[0]
        return now_s - position / self.rate_hz if position else None

    def start(self) -> None:
        """Begin.

        Raises
        ------
        EdgelidError
            If PortAudio refuses; nothing is open then.
        """
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as error:
            self.close()
            raise does_not_open(self.name, error) from error

    def close(self) -> None:
        """End; what PortAudio says of devices that are gone is of no interest."""
        # Aborting first: stopping would wait for buffers that a dead device never fills, and
        # older PortAudios hang if a running stream is closed.
        for end in (self._stream.abort, self._stream.close):
            try:
                end()
            except self._sounddevice.PortAudioError as error:
                logger.debug("%r: %s", self.name, error)
        # The stream knows the callback, and by it the ring: two that hold each other stay for
        # longer than a device that comes and goes should have them.
        self._stream = None

    def read(self, to_the_end: bool = False) -> Iterator[Float32Array | Missing]:
        """Take what has come, and what is missing in it, in order.

        Parameters
        ----------
        to_the_end : bool
            Nothing more will come: what could turn out to be late is lost.

        Yields
        ------
        ndarray of float32, shape (n, channels), or Missing
            Never empty.
        """
        while self._noted:
            self._arrivals.update(*self._noted.popleft())
        if to_the_end:
            self._arrivals.settle()
        first, frames = self._ring.read(self._arrivals.sure_frames)
        if first > self._position:
            lost_s = (first - self._position) / self.rate_hz
            yield Missing(first, lost_s, TOO_SLOW)
        self._position = first + len(frames)
        for missing in self._arrivals.take(self._position):
            before = max(0, missing.position_frames - first)
            if before:
                yield frames[:before]
            yield missing
            frames, first = frames[before:], first + before
        if len(frames):
            yield frames

    def _open(self, device: InputDevice, channel: int | None) -> Any:
        failures: list[Exception] = []
        for kind in FORMATS:
            for rate_hz, channels in settings(device, channel):
                try:
                    return self._stream_of(device, rate_hz, channels, kind)
                except self._sounddevice.PortAudioError as error:
                    logger.debug(
                        "%r at %d Hz, %d channel(s), %s: %s",
                        *(self.name, rate_hz, channels, kind, error),
                    )
                    failures.append(error)
        try:
            raise does_not_open(self.name, failures[0]) from failures[0]
        finally:
            failures.clear()  # they hold this frame, which would hold them

    def _stream_of(self, device: InputDevice, rate_hz: int, channels: int, kind: str) -> Any:
        self.rate_hz, self.channels, self._kind = rate_hz, channels, kind
        self._ring = Ring(round(RING_S * rate_hz), channels)
        self._enough_frames = round(WAKE_S * rate_hz)
        self._arrivals = Arrivals(rate_hz)
        self._noted: deque[tuple[int, float, float, bool]] = deque(maxlen=ARRIVALS)
        stream = self._sounddevice.RawInputStream(
            device=device.index,
            samplerate=rate_hz,
            channels=channels,
            dtype=kind,
            blocksize=round(BLOCK_S * rate_hz),
            latency=LATENCY_S,
            callback=self._callback,
        )
        logger.info("%r opened at %d Hz, %d channel(s), %s", self.name, rate_hz, channels, kind)
        return stream

    def _callback(self, data: Any, frames: int, when: object, status: Any) -> None:
        """Take samples from PortAudio: in its thread, so nothing but counting and copying."""
        overrun = bool(status.input_overflow)
        self.overruns += overrun
        samples = decoded(data, self._kind).reshape(-1, self.channels)
        position = self._ring.write(samples)
        self._noted.append((position, self._clock.now_s(), self._clock.slept_s(), overrun))
        if position - self._position >= self._enough_frames:
            self._news.set()


def decoded(data: Any, kind: str) -> Float32Array:
    """Samples of one of PortAudio's formats, full scale at 1, shape (n,)."""
    if kind == "float32":
        return np.frombuffer(data, np.float32)
    if kind == "int24":
        packed = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(packed), 4), np.uint8)
        wide[:, 1:] = packed  # little-endian, as all that this runs on
        integers, full_scale = wide.view(np.int32)[:, 0], 2.0**31
    else:
        integers = np.frombuffer(data, np.dtype(kind))
        full_scale = 2.0 ** (8 * integers.itemsize - 1)
    return (integers / full_scale).astype(np.float32)
