"""The microphone, with a PortAudio that is played by the test."""

from __future__ import annotations

import itertools
import logging
import os
from typing import Any

import numpy as np
import pytest

from edge import microphone
from edge.capture import FORMATS
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.microphone import MicrophoneSource
from tests.edge.fake_sounddevice import (
    ARRAY,
    SPEAKER,
    USB,
    FakeClock,
    FakeSounddevice,
    FakeStream,
    ramp,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def open_usb(clock: FakeClock, **settings: Any) -> tuple[MicrophoneSource, FakeStream]:
    sounddevice = FakeSounddevice([SPEAKER, USB], default=1, **settings)
    source = MicrophoneSource(None, sounddevice=sounddevice, clock=clock)
    return source, sounddevice.stream


# --- opening ---------------------------------------------------------------------------------


def test_16_khz_mono_is_tried_first() -> None:
    sounddevice = FakeSounddevice([ARRAY], default=0)
    source = MicrophoneSource(sounddevice=sounddevice)
    assert sounddevice.tried == [(16_000, 1)]
    assert source.rate_hz == 16_000
    assert source.duration_s is None


def test_then_the_rate_and_at_last_the_channels_of_the_device() -> None:
    sounddevice = FakeSounddevice([ARRAY], 0, lambda rate_hz, channels: channels == 6)
    source = MicrophoneSource(sounddevice=sounddevice)
    assert sounddevice.tried[-3:] == [(48_000, 2), (44_100, 2), (16_000, 6)]
    assert source.rate_hz == 16_000


def test_a_device_that_does_not_open() -> None:
    sounddevice = FakeSounddevice([USB], 0, lambda rate_hz, channels: False)
    with pytest.raises(EdgelidError) as caught:
        MicrophoneSource(sounddevice=sounddevice)
    assert repr(USB[0]) in str(caught.value)
    assert "Invalid sample rate" in str(caught.value)
    rates_hz = (16_000, 44_100, 48_000)
    assert sounddevice.tried == [(rate_hz, 1) for rate_hz in rates_hz] * len(FORMATS)


def test_what_portaudio_prints_goes_to_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    open_usb(FakeClock(), opens=lambda rate_hz, channels: rate_hz == 44_100)
    os.write(2, b"and this is ours\n")
    assert capfd.readouterr().err == "and this is ours\n"
    assert any("SetApproximateSampleRate" in message for message in caplog.messages)


def test_recording_lasts_as_long_as_the_with_block() -> None:
    source, stream = open_usb(FakeClock())
    assert stream.calls == []
    with source:
        assert stream.calls == ["start"]
    source.close()
    assert stream.calls == ["start", "abort", "close"]


def test_a_stream_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    sounddevice = FakeSounddevice([USB], default=0)
    source = MicrophoneSource(sounddevice=sounddevice)

    def fail() -> None:
        raise sounddevice.PortAudioError("Unanticipated host error")

    monkeypatch.setattr(sounddevice.stream, "start", fail)
    with pytest.raises(EdgelidError, match=r"does not open \(Unanticipated"), source:
        pass
    assert sounddevice.stream.calls == ["abort", "close"]


# --- recording -------------------------------------------------------------------------------


def test_all_that_is_delivered_arrives_in_order(clock: FakeClock) -> None:
    source, stream = open_usb(clock)
    edges = [0, 800, 801, 801, 5_000, 20_000]
    clock.while_asleep = [
        lambda start=start, stop=stop: stream.deliver(ramp(start, stop))  # type: ignore[misc]
        for start, stop in itertools.pairwise(edges)
    ]
    clock.while_asleep.append(source.stop)
    with source:
        blocks = list(source.blocks())
    assert all(block.dtype == np.float32 and block.ndim == 1 and block.size for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), ramp(0, 20_000)[:, 0])
    assert source.dropped_samples == 0
    assert source.overflows == 0


def test_another_rate_and_more_channels_become_16_khz_mono(clock: FakeClock) -> None:
    sounddevice = FakeSounddevice([ARRAY], 0, lambda rate_hz, channels: channels == 6)
    source = MicrophoneSource(sounddevice=sounddevice, clock=clock)
    time_s = np.arange(96_000) / 48_000
    levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])  # mean 0.35
    frames = np.sin(2 * np.pi * 440 * time_s)[:, np.newaxis] * levels  # (n, 6)
    for start in range(0, 96_000, 9_600):
        part = frames[start : start + 9_600]
        clock.while_asleep.append(lambda part=part: sounddevice.stream.deliver(part))  # type: ignore[misc]
    clock.while_asleep.append(source.stop)
    with source:
        heard = np.concatenate(list(source.blocks()))
    assert len(heard) == 2 * SAMPLE_RATE_HZ
    middle = heard[8_000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    assert np.abs(middle).max() == pytest.approx(0.35, rel=1e-3)


def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb(clock)
    ring_frames = round(microphone.RING_S * SAMPLE_RATE_HZ)
    lost = 12_345
    for start in range(0, ring_frames + lost, 800):
        stream.deliver(ramp(start, min(start + 800, ring_frames + lost)))
    clock.while_asleep = [source.stop]
    with source:
        heard = np.concatenate(list(source.blocks()))
    np.testing.assert_array_equal(heard, ramp(lost, ring_frames + lost)[:, 0])
    assert source.dropped_samples == lost
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "0.77 s" in record.getMessage()


def test_losses_are_counted_at_16_khz(clock: FakeClock) -> None:
    source, stream = open_usb(clock, opens=lambda rate_hz, channels: rate_hz == 44_100)
    stream.deliver(np.zeros((441_000 + 4_410, 1), np.float32))  # 0.1 s more than the ring holds
    assert source.dropped_samples == 1_600


def test_overflows_of_portaudio_are_counted(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb(clock)
    clock.while_asleep = [
        lambda: stream.deliver(ramp(0, 10), overflow=True),
        lambda: stream.deliver(ramp(10, 20)),
        lambda: stream.deliver(ramp(20, 30), overflow=True),
        source.stop,
    ]
    with source:
        heard = np.concatenate(list(source.blocks()))
    assert len(heard) == 30
    assert source.overflows == 2
    # One at once, one when the recording ends: the second came too soon after the first.
    assert ["1 overflow" in message for message in caplog.messages] == [True, False]
    assert "2 overflow" in caplog.messages[-1]


def test_warnings_are_rare_and_the_last_is_complete(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb(clock)
    polls = round(10 * 60 / microphone.POLL_S)  # ten minutes
    clock.while_asleep = [lambda: stream.deliver(ramp(0, 1), overflow=True)] * polls
    clock.while_asleep.append(source.stop)
    with source:
        list(source.blocks())
    assert 9 <= len(caplog.messages) <= 12
    assert f"{polls} overflow" in caplog.messages[-1]


def test_stop_ends_a_silent_microphone(clock: FakeClock) -> None:
    source, _ = open_usb(clock)
    clock.while_asleep = [source.stop]
    with source:
        assert list(source.blocks()) == []
