"""The microphone, through PortAudio.

PortAudio calls back from a thread of its own, at times it chooses, and loses audio if the answer
takes too long. The callback therefore only copies into a ring of fixed size; everything else
happens in the thread that reads `MicrophoneSource.blocks`. What is lost all the same is counted.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.native import stderr_to_log
from edge.resample import resampled
from edge.sources import AudioSource

logger = logging.getLogger(__name__)

RING_S = 10.0  # longer than any hiccup of the rest that is worth living through
LATENCY_S = 0.2  # PortAudio's buffer: twenty callbacks a second, and that long may Python be busy
POLL_S = 0.05  # how often the reader looks for new samples
STALL_S = 5.0  # a sound server takes up to 2 s to deliver its first samples
WARNING_INTERVAL_S = 60.0  # a Pi that is too slow must not fill its card with warnings


@dataclass(frozen=True)
class InputDevice:
    """A device that can record.

    Attributes
    ----------
    index : int
        PortAudio's number of it; it can change when something is plugged in.
    name : str
        PortAudio's name of it.
    host_api : str
        The audio system behind it, such as ``ALSA``.
    max_input_channels : int
        The most channels it can record.
    default_rate_hz : int
        The sampling rate it prefers.
    is_default : bool
        Whether it is the one that is used if none is chosen.
    """

    index: int
    name: str
    host_api: str
    max_input_channels: int
    default_rate_hz: int
    is_default: bool


class MicrophoneSource(AudioSource):
    """A microphone, recorded from the ``with`` statement on.

    Parameters
    ----------
    device : str, int or None
        Number or name of the device, or words of its name in their order (capitals or not);
        None for the default device.
    sounddevice : module, optional
        What speaks to PortAudio; the module of this name unless a test gives another.

    Raises
    ------
    EdgelidError
        If there is no such device, or it does not open; from `blocks`, if it delivers nothing
        for 5 s.
    """

    def __init__(self, device: str | int | None = None, *, sounddevice: Any = None) -> None:
        self._sounddevice = sounddevice or _import_sounddevice()
        chosen = _find_device(device, list_devices(self._sounddevice))
        self.name = chosen.name
        self._overflows = 0
        self._reported_losses = (0, 0)
        self._last_warning_s = -WARNING_INTERVAL_S
        self._stream = self._open(chosen)
        self._closed = False

    @property
    def dropped_samples(self) -> int:
        """Samples at 16 kHz that came while the ring was full."""
        return round(self._ring.dropped_frames * SAMPLE_RATE_HZ / self.rate_hz)

    @property
    def overflows(self) -> int:
        """How often PortAudio reported that it had lost samples, number unknown."""
        return self._overflows

    def __enter__(self) -> Self:
        try:
            with stderr_to_log("PortAudio"):
                self._stream.start()
        except self._sounddevice.PortAudioError as error:
            self.close()
            raise _does_not_open(self.name, error) from error
        return self

    def close(self) -> None:
        """End the recording; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        # Aborting first: stopping would wait for buffers that a dead device never fills, and
        # older PortAudios hang if a running stream is closed.
        self._stream.abort()
        self._stream.close()

    def blocks(self) -> Iterator[Float32Array]:
        """Record until `stop`, as `AudioSource.blocks` says."""
        try:
            yield from resampled(self._frames(), self.rate_hz, self._channels)
        finally:
            self._warn_of_losses(at_once=True)

    def _open(self, device: InputDevice) -> Any:
        """Open a stream at 16 kHz mono, or at the nearest to it that the device can do."""
        settings = [
            (SAMPLE_RATE_HZ, 1),
            (device.default_rate_hz, 1),
            (device.default_rate_hz, device.max_input_channels),
        ]
        for rate_hz, channels in dict.fromkeys(settings):
            self.rate_hz, self._channels = rate_hz, channels
            self._ring = Ring(round(RING_S * rate_hz), channels)
            try:
                with stderr_to_log("PortAudio"):
                    stream = self._sounddevice.RawInputStream(
                        device=device.index,
                        samplerate=rate_hz,
                        channels=channels,
                        dtype="float32",
                        latency=LATENCY_S,
                        callback=self._callback,
                    )
            except self._sounddevice.PortAudioError as error:
                logger.debug("%r at %d Hz, %d channel(s): %s", self.name, rate_hz, channels, error)
                failure = error
            else:
                logger.info("%r opened at %d Hz, %d channel(s)", self.name, rate_hz, channels)
                return stream
        raise _does_not_open(self.name, failure) from failure

    def _callback(self, data: Any, frames: int, when: object, status: Any) -> None:
        """Take samples from PortAudio: in its thread, so nothing but counting and copying."""
        if status.input_overflow:
            self._overflows += 1
        self._ring.write(np.frombuffer(data, np.float32).reshape(-1, self._channels))

    def _frames(self) -> Iterator[Float32Array]:
        # Waiting is counted in polls, not by the clock: a process that was suspended must not
        # take the time it slept for a silence of the microphone.
        waited_s = 0.0
        while not self._stopping:
            frames = self._ring.read()  # (n, channels)
            self._warn_of_losses()
            if len(frames):
                waited_s = 0.0
                yield frames
            elif waited_s >= STALL_S:
                raise EdgelidError(
                    f"the microphone {self.name!r} has delivered nothing for {STALL_S:.0f} s: "
                    "check that it is plugged in, and start again."
                )
            else:
                time.sleep(POLL_S)
                waited_s += POLL_S

    def _warn_of_losses(self, at_once: bool = False) -> None:
        losses = (self.dropped_samples, self._overflows)
        now_s = time.monotonic()
        too_soon = now_s - self._last_warning_s < WARNING_INTERVAL_S and not at_once
        if losses == self._reported_losses or too_soon:
            return
        logger.warning(
            "audio of %r was lost, up to now %.2f s as this program was too slow to take it, "
            "and an unknown time in %d overflow(s) of the audio system",
            self.name,
            self.dropped_samples / SAMPLE_RATE_HZ,
            self._overflows,
        )
        self._reported_losses = losses
        self._last_warning_s = now_s


class Ring:
    """Frames on their way from one thread to another, in memory of fixed size.

    What comes when it is full takes the place of the oldest frames, which are counted. The lock
    is held for one copy.

    Parameters
    ----------
    capacity_frames : int
        The most it holds.
    channels : int
        Samples in a frame.

    Attributes
    ----------
    dropped_frames : int
        Frames that were written and never read.
    """

    def __init__(self, capacity_frames: int, channels: int) -> None:
        self._frames = np.zeros((capacity_frames, channels), np.float32)
        self._lock = threading.Lock()
        self._written = 0  # frames since the beginning, as are those below
        self._read = 0
        self.dropped_frames = 0

    def write(self, frames: Float32Array) -> None:
        """Append frames, shape (n, channels)."""
        capacity = len(self._frames)
        kept = frames[-capacity:]
        with self._lock:
            self._written += len(frames)
            start = (self._written - len(kept)) % capacity
            before_end = min(len(kept), capacity - start)
            self._frames[start : start + before_end] = kept[:before_end]
            self._frames[: len(kept) - before_end] = kept[before_end:]
            lost = max(0, self._written - self._read - capacity)
            self._read += lost
            self.dropped_frames += lost

    def read(self) -> Float32Array:
        """Take all frames there are, shape (n, channels), n from 0 to the capacity."""
        capacity = len(self._frames)
        with self._lock:
            start = self._read % capacity
            count = self._written - self._read
            before_end = self._frames[start : start + count]
            frames = np.concatenate([before_end, self._frames[: count - len(before_end)]])
            self._read = self._written
        return frames


def list_devices(sounddevice: Any = None) -> list[InputDevice]:
    """List the devices that can record.

    PortAudio looks for devices once in a process; what is plugged in later is not seen.

    Parameters
    ----------
    sounddevice : module, optional
        As for `MicrophoneSource`.

    Returns
    -------
    list of InputDevice
        In the order of their numbers; empty if there is none.

    Raises
    ------
    EdgelidError
        If sounddevice or PortAudio is missing.
    """
    sounddevice = sounddevice or _import_sounddevice()
    host_apis = sounddevice.query_hostapis()
    default_index = sounddevice.default.device[0]
    return [
        InputDevice(
            index=index,
            name=info["name"],
            host_api=host_apis[info["hostapi"]]["name"],
            max_input_channels=info["max_input_channels"],
            default_rate_hz=round(info["default_samplerate"]),
            is_default=index == default_index,
        )
        for index, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]


def _find_device(wanted: str | int | None, devices: Sequence[InputDevice]) -> InputDevice:
    if not devices:
        raise EdgelidError(
            "there is no microphone: plug one in, see if `arecord -l` shows it, and that you are "
            "in the group `audio`."
        )
    if isinstance(wanted, str) and wanted.strip().isdecimal():
        wanted = int(wanted)
    if wanted is None:
        matches = [device for device in devices if device.is_default]
        question = "there is no default microphone"
    elif isinstance(wanted, int):
        matches = [device for device in devices if device.index == wanted]
        question = f"there is no microphone with the number {wanted}"
    else:
        matches = _named(wanted, devices)
        question = f"{'more than one' if matches else 'no'} microphone is called {wanted!r}"
    if len(matches) != 1:
        available = ", ".join(f"{device.index} {device.name!r}" for device in matches or devices)
        raise EdgelidError(f"{question}: choose one of {available}.")
    return matches[0]


def _named(wanted: str, devices: Sequence[InputDevice]) -> list[InputDevice]:
    """Devices of exactly this name or, if there is none, whose names have these words in order."""
    exact = [device for device in devices if device.name.lower() == wanted.strip().lower()]
    return exact or [device for device in devices if _has_words(device, wanted.lower().split())]


def _has_words(device: InputDevice, words: Sequence[str]) -> bool:
    rest = f"{device.name}, {device.host_api}".lower()
    for word in words:
        _, found, rest = rest.partition(word)
        if not found:
            return False
    return True


def _does_not_open(name: str, error: Exception) -> EdgelidError:
    return EdgelidError(
        f"the microphone {name!r} does not open ({' '.join(str(error).split())}): end other "
        "programs that use it, or choose another that `edgelid devices` lists."
    )


def _import_sounddevice() -> Any:
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise EdgelidError(
            "recording needs the package sounddevice, which cannot be imported: "
            'pip install "edgelid[edge]".'
        ) from error
    except OSError as error:
        raise EdgelidError(
            "recording needs the library PortAudio, which cannot be loaded: "
            "sudo apt install libportaudio2."
        ) from error
    except Exception as error:
        # PortAudio may be there and not start. That error's class is sounddevice's own, and out
        # of reach, as the import has failed.
        if type(error).__name__ != "PortAudioError":
            raise
        raise EdgelidError(f"the audio system cannot be used ({error}): restart it.") from error
