"""One opening of a device: its formats."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.audio.capture import FORMATS, Capture, decoded
from edge.audio.devices import list_devices
from edge.audio.wakeup import WakeUp
from tests.edge.fake_sounddevice import ARRAY, FakeClock, FakeSounddevice

SAMPLES = np.array([0.0, 0.5, -0.5, -1.0, 0.25, -0.125], np.float32)


def encoded(kind: str) -> bytes:
    """As PortAudio has them."""
    if kind == "float32":
        return SAMPLES.tobytes()
    bits = int(kind.removeprefix("int"))
    integers = [int(sample * 2 ** (bits - 1)) for sample in SAMPLES.tolist()]
    return b"".join(i.to_bytes(bits // 8, "little", signed=True) for i in integers)


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str) -> None:
    samples = decoded(bytearray(encoded(kind)), kind)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, SAMPLES)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_device_that_has_one_format_only(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sounddevice = FakeSounddevice([ARRAY])
    opens = sounddevice.RawInputStream

    def in_one_format(**settings: Any) -> Any:
        if settings["dtype"] != kind:
            raise sounddevice.PortAudioError("Sample format not supported")
        return opens(**settings)

    monkeypatch.setattr(sounddevice, "RawInputStream", in_one_format)
    (device,) = list_devices(sounddevice)
    clock = FakeClock()
    capture = Capture(sounddevice, device, 2, clock, WakeUp())
    assert (capture.rate_hz, capture.channels) == (16_000, 2)
    clock.time_s = 1.0
    status = SimpleNamespace(input_overflow=False)
    sounddevice.stream.settings["callback"](bytearray(encoded(kind)), 3, None, status)
    (frames,) = capture.read()
    np.testing.assert_array_equal(frames, SAMPLES.reshape(3, 2))
    assert capture.start_s == pytest.approx(1.0 - 3 / 16_000)
