"""A PortAudio that is played by the test."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge.audio.clock import Clock
from edge.audio.wakeup import WakeUp
from edge.frontend import Float32Array

USB = ("USB PnP Sound Device: Audio (hw:1,0)", 1, 44_100.0)
ARRAY = ("ReSpeaker 4 Mic Array: USB Audio (hw:2,0)", 6, 48_000.0)
SPEAKER = ("bcm2835 Headphones: - (hw:0,0)", 0, 44_100.0)


def ramp(start: int, stop: int) -> Float32Array:
    """Frames of one channel that tell their own number, shape (n, 1), exact in float32."""
    return np.arange(start, stop, dtype=np.float32)[:, np.newaxis] / np.float32(2**20)


class FakeStream:
    """Stands for sounddevice.RawInputStream; the test calls `deliver` in PortAudio's place."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.calls: list[str] = []
        self.active = False

    def start(self) -> None:
        self.calls.append("start")
        self.active = True

    def abort(self) -> None:
        self.calls.append("abort")

    def close(self) -> None:
        self.calls.append("close")

    def deliver(self, frames: Float32Array, overflow: bool = False) -> None:
        """Call the callback as PortAudio does: with memory that is not valid any longer."""
        buffer = bytearray(np.ascontiguousarray(frames, np.float32).tobytes())
        status = SimpleNamespace(input_overflow=overflow)
        self.settings["callback"](buffer, len(frames), None, status)
        buffer[:] = b"\xff" * len(buffer)


class FakeSounddevice:
    """Stands for the module sounddevice.

    Parameters
    ----------
    devices
        Name, input channels and default rate of each device.
    default
        Number of the default input device, -1 for none.
    opens
        Whether a device opens at a rate with a number of channels.
    """

    class PortAudioError(Exception):
        pass

    def __init__(
        self,
        devices: list[tuple[str, int, float]],
        default: int = -1,
        opens: Callable[[int, int], bool] = lambda rate_hz, channels: True,
    ) -> None:
        self.devices = devices
        self.default = SimpleNamespace(device=(default, -1))
        self.opens = opens
        self.tried: list[tuple[int, int]] = []
        self.stream: FakeStream

    def _terminate(self) -> None:
        self.tried.clear()

    def _initialize(self) -> None:
        pass

    def check_input_settings(self, **settings: Any) -> None:
        if not self.opens(settings["samplerate"], settings["channels"]):
            raise self.PortAudioError("Invalid sample rate", -9997)

    def query_devices(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "hostapi": 0, "max_input_channels": channels, "default_samplerate": rate}
            for name, channels, rate in self.devices
        ]

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA"}]

    def RawInputStream(self, **settings: Any) -> FakeStream:
        self.tried.append((settings["samplerate"], settings["channels"]))
        if not self.opens(*self.tried[-1]):
            os.write(2, b"Expression 'SetApproximateSampleRate' failed in 'pa_linux_alsa.c'\n")
            raise self.PortAudioError("Error opening RawInputStream: Invalid sample rate", -9997)
        self.stream = FakeStream(settings)
        return self.stream


STEP_S = 0.05


class SteppedClock(Clock):
    """Time that passes in steps while someone waits."""

    def wait(self, news: WakeUp, most_s: float) -> bool:
        for _ in range(round(most_s / STEP_S)):
            self.sleep(STEP_S)
            if news.wait(0.0):
                return True
        return False


class FakeClock(SteppedClock):
    """Time that passes when someone sleeps; each sleep is a chance to deliver something."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self.while_asleep: list[Callable[[], object]] = []

    def now_s(self) -> float:
        return self.time_s

    def slept_s(self) -> float:
        return 0.0

    def sleep(self, duration_s: float) -> None:
        self.time_s += duration_s
        if self.while_asleep:
            self.while_asleep.pop(0)()
