"""The microphone as a source: it goes on for weeks, and comes back to its device after any fault.

At the start a device that is missing, or does not open, is an error. Later it is a fault to
survive, as are devices that fall silent without a word, overruns of the audio system, a machine
that was suspended, and one that is too slow to listen. What was lost is told in its place.

Whoever wants the default device hears what is the default now; one that was chosen is never left
for another.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final, Self, TypeVar

from edge.audio.capture import Capture
from edge.audio.clock import Clock
from edge.audio.default_device import DefaultWatch, Places, usual_places
from edge.audio.devices import (
    check_channel,
    find_again,
    find_device,
    import_sounddevice,
    list_devices,
)
from edge.audio.gap_log import Losses
from edge.audio.gaps import Missing, Reason
from edge.audio.level import HINTS, LevelMeter
from edge.audio.mixing import Checked, Ear, amplified
from edge.audio.resample import Resampler
from edge.audio.sources import AudioSource, Gap, Sound
from edge.audio.timeouts import Unanswered, patiently
from edge.audio.wakeup import WakeUp
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.system.native_stderr import stderr_to_log

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

POLL_S = 0.05  # how often a device that is to come back is looked at
QUIET_S = 0.5  # without audio, before PortAudio is asked whether it has ended the stream
STALL_S = 5.0  # a sound server takes up to 2 s to deliver its first samples
RETRY_S = (0.5, 1.0, 2.0, 5.0)  # listing the devices is work: not too often
STEADY_S = 10.0  # a device that has delivered for so long is there again
PART_S = 1.0  # of a gap that lasts: as often is it told that it goes on
LATEST_S = 2.0  # so far back can the first audio reach that comes after it
HANG_S = 30.0  # PortAudios have been seen to hang for ever on devices that are gone
LEAVE_S = 0.2  # how long `stop` waits for PortAudio

LOST: Final = "device lost"
STALLED: Final = "device stalled"
CHANGED: Final = "devices changed"  # and with them perhaps which is the default


class MicrophoneSource(AudioSource):
    """A microphone, recorded from the ``with`` statement on.

    Parameters
    ----------
    device : str, int or None
        As for :func:`edge.audio.devices.find_device`.
    channel : int or None
        The one to listen to, from 1 on; None for the mean of all.
    gain_db : float or None
        See `Ear`.
    sounddevice : module, optional
        What speaks to PortAudio; the module of this name unless a test gives another.
    clock : Clock, optional
    places : Places, optional
        Where to see that the default device may be another one.

    Raises
    ------
    EdgelidError
        If there is no such device, or it does not open; from `blocks`, if PortAudio itself hangs.
    """

    def __init__(
        self,
        device: str | int | None = None,
        channel: int | None = None,
        gain_db: float | None = None,
        *,
        sounddevice: Any = None,
        clock: Clock | None = None,
        places: Places | None = None,
    ) -> None:
        self._clock = clock or Clock()
        self._places = places or usual_places()
        self._news = WakeUp()
        # Before the list of devices is made: what changes from now on may not be in it.
        self._watch = DefaultWatch(self._clock, self._places)
        self._sounddevice = sounddevice or import_sounddevice()
        self._wanted = device
        self._channel = channel
        self._gain_db = Ear(channel, gain_db).gain_db
        self._device = find_device(device, list_devices(self._sounddevice))
        self._earlier_overruns = 0
        self._losses = Losses(self._device.name, self._clock)
        with stderr_to_log("PortAudio"):
            self._capture: Capture | None = self._open()
        self._end_s = self._clock.now_s()  # of what was heard last
        self._meter = self._new_meter()
        self._is_lost = False
        self._checked = Checked()
        self._failures = 0

    @property
    def dropped_samples(self) -> int:
        """Samples at 16 kHz that came while the ring was full."""
        return round(self._losses.too_slow_s * SAMPLE_RATE_HZ)

    @property
    def overflows(self) -> int:
        """How often PortAudio reported that it had lost samples."""
        capture = self._capture  # which the thread that listens may be about to replace
        return self._earlier_overruns + (capture.overruns if capture else 0)

    @property
    def backlog_s(self) -> float:
        """Audio that waits to be heard."""
        capture = self._capture
        return capture.backlog_s if capture else 0.0

    def __enter__(self) -> Self:
        if self._capture is not None:
            try:
                with stderr_to_log("PortAudio"):
                    self._capture.start()
            except EdgelidError:
                self._capture = None
                raise
            self._end_s = self._clock.now_s()
        return self

    def description(self) -> str:
        """What is heard, for people."""
        capture = self._capture
        if capture is None:
            return repr(self.name)
        heard = f"{capture.channels} channel{'s' if capture.channels > 1 else ''}"
        if self._channel is not None:
            heard = f"channel {self._channel}"
        return f"the microphone {self.name!r} ({self.rate_hz} Hz, {heard})"

    def close(self) -> None:
        """End the recording; a second call does nothing."""
        capture, self._capture = self._capture, None
        if capture is None:
            return
        self._earlier_overruns += capture.overruns
        self._stopping = True
        with contextlib.suppress(Unanswered):
            self._ask_portaudio(capture.close)

    def stop(self) -> None:
        """As `AudioSource.stop`."""
        super().stop()
        self._news.set()

    def blocks(self) -> Iterator[Sound]:
        """Record until `stop`, as `AudioSource.blocks` says."""
        try:
            while self._goes_on():
                reason = yield from self._record()
                if reason is not None:
                    yield from self._recover(reason)
        finally:
            self._losses.warn(at_once=True)

    def _new_meter(self) -> LevelMeter:
        return LevelMeter(self.rate_hz, automatic_gain=self._gain_db is None)

    def _goes_on(self) -> bool:
        return not self._stopping

    def _open(self) -> Capture:
        check_channel(self._device, self._channel)
        capture = Capture(self._sounddevice, self._device, self._channel, self._clock, self._news)
        self.name, self.rate_hz = capture.name, capture.rate_hz
        return capture

    # --- as long as all is well ---------------------------------------------------------------

    def _record(self) -> Generator[Sound, None, Reason | None]:
        """Record until the end, or until the device is lost; returns why it is."""
        capture = self._capture
        if capture is None:
            return None
        sound = _Sound(capture, self._channel)
        # Waiting is counted in waits, not by the clock: a process that was stopped must not take
        # the time for a silence of the microphone.
        waited_s = 0.0
        reason: Reason | None = None
        ends = False
        while not ends and reason is None:
            ends = not self._goes_on()  # what has come until then is heard
            if waited_s >= STALL_S:
                reason = STALLED
            elif waited_s and not capture.active:
                reason = LOST
            elif self._wanted is None and self._watch.is_due(self._device.name):
                reason = CHANGED
            some = False
            for part in capture.read(to_the_end=reason is not None):
                some = True
                yield from self._told(part, sound)
            self._losses.warn()
            if some:
                waited_s = 0.0
                if self._is_lost:
                    self._see_if_steady(capture)
            if not ends and reason is None and not self._clock.wait(self._news, QUIET_S):
                waited_s += QUIET_S
        yield from sound.end()
        if capture.start_s == capture.start_s:  # it has delivered something: else NaN
            self._end_s = capture.end_s
        return reason

    def _told(self, part: Float32Array | Missing, sound: _Sound) -> Iterator[Sound]:
        if isinstance(part, Missing):
            self._losses.add(part)
            yield from sound.end()
            if samples := round(part.duration_s * SAMPLE_RATE_HZ):
                yield Gap(samples, part.reason)
            return
        self._losses.take(part.shape[0] / self.rate_hz)
        part = amplified(self._checked.of(part, self.name), self._gain_db)
        yield from sound.blocks(part)
        if (level := self._meter.update(sound.chosen(part))) is not None:
            words = (self.name, HINTS[level.state], level.peak_db, level.offset)
            logger.warning("%r: %s (peak %.0f dB, offset %.3f)", *words)
            yield level

    def _see_if_steady(self, capture: Capture) -> None:
        if capture.end_s - capture.start_s >= STEADY_S:
            self._is_lost, self._failures = False, 0
            logger.warning("%r is heard again", self.name)

    # --- when it is not -----------------------------------------------------------------------

    def _recover(self, reason: Reason) -> Iterator[Sound]:
        """Wait for the device to come back, for as long as it takes."""
        if reason != CHANGED:
            self._tell_lost(reason)
        told_samples = 0

        def gap(until_s: float) -> Iterator[Gap]:
            nonlocal told_samples
            samples = round((until_s - self._end_s) * SAMPLE_RATE_HZ) - told_samples
            if samples > 0:
                told_samples += samples
                yield Gap(samples, reason)

        def so_far() -> Iterator[Gap]:
            until_s = self._clock.now_s() - LATEST_S
            if until_s - self._end_s - told_samples / SAMPLE_RATE_HZ >= PART_S:
                yield from gap(until_s)

        while self._goes_on():
            if self._failures:
                retry_s = RETRY_S[min(self._failures, len(RETRY_S)) - 1]
                for _ in range(round(retry_s / POLL_S)):
                    if not self._goes_on():
                        break
                    self._clock.sleep(POLL_S)
                    yield from so_far()
            self._failures += 1
            if not self._goes_on():
                continue
            if not self._reopened():
                self._tell_lost(reason)
                continue
            assert self._capture is not None
            for _ in range(round(STALL_S / POLL_S)):
                if not self._goes_on():
                    break
                self._clock.sleep(POLL_S)
                # Looking first: the audio may have come long ago, if the machine was suspended.
                start_s = self._capture.first_heard_s()
                if start_s is not None:
                    yield from gap(start_s)
                    self._meter = self._new_meter()
                    if not self._is_lost:
                        self._failures = 0
                        logger.warning("%s: listening to %r, now the default", reason, self.name)
                    return
                yield from so_far()
            else:
                self._tell_lost(reason)
        yield from gap(self._clock.now_s())

    def _tell_lost(self, reason: Reason) -> None:
        if not self._is_lost:
            self._is_lost = True
            logger.warning("%r is not heard any longer (%s): waiting for it", self.name, reason)

    def _reopened(self) -> bool:
        """Look for the device and open it; whether that has succeeded."""
        old, self._capture = self._capture, None
        self._earlier_overruns += old.overruns if old else 0

        def reopen() -> Capture:
            if old is not None:
                old.close()
            self._watch = DefaultWatch(self._clock, self._places)
            self._list_again()
            self._device = find_again(self._wanted, self._device, list_devices(self._sounddevice))
            capture = self._open()
            capture.start()
            return capture

        try:
            self._capture = self._ask_portaudio(reopen)
        except (EdgelidError, self._sounddevice.PortAudioError, OSError) as error:
            logger.info("%r: %s", self.name, error)
        except Unanswered:
            if self._goes_on():
                raise EdgelidError(
                    f"PortAudio hangs since {self.name!r} was lost: start again."
                ) from None
        return self._capture is not None

    def _list_again(self) -> None:
        """Have PortAudio look for devices again; only possible while none is open."""
        with contextlib.suppress(self._sounddevice.PortAudioError):
            self._sounddevice._terminate()
        self._sounddevice._initialize()

    def _ask_portaudio(self, call: Callable[[], Result]) -> Result:
        """Make a call that may hang.

        Raises
        ------
        Unanswered
            If it does, or the end is wanted before.
        """

        def enough(polls: int) -> bool:
            return polls * POLL_S >= (LEAVE_S if self._stopping else HANG_S)

        try:
            with stderr_to_log("PortAudio"):
                return patiently(call, enough)
        except Unanswered:
            # At the end of the process it would hang again.
            if (at_exit := getattr(self._sounddevice, "_exit_handler", None)) is not None:
                atexit.unregister(at_exit)
            raise


class _Sound:
    """Frames of a capture to 16 kHz mono, from one gap to the next."""

    def __init__(self, capture: Capture, channel: int | None) -> None:
        self._rate_hz = capture.rate_hz
        self._channel = channel
        self._channels = capture.channels if channel is None else 1
        self._resampler: Resampler | None = None

    def chosen(self, frames: Float32Array) -> Float32Array:
        """The channels that are listened to, shape (n, channels)."""
        return frames if self._channel is None else frames[:, self._channel - 1 : self._channel]

    def blocks(self, frames: Float32Array) -> Iterator[Float32Array]:
        """What frames, shape (n, channels), complete."""
        if self._resampler is None:
            self._resampler = Resampler(self._rate_hz, self._channels)
        if len(block := self._resampler.process(self.chosen(frames))):
            yield block

    def end(self) -> Iterator[Float32Array]:
        """What the resampler still holds: no filter reaches across a gap."""
        resampler, self._resampler = self._resampler, None
        if resampler is not None and len(block := resampler.flush()):
            yield block
