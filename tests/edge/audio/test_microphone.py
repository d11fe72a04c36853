"""The microphone, with a PortAudio that is played by the test."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.audio import microphone
from edge.audio.capture import FORMATS, RING_S
from edge.audio.default_device import LOOK_S, Places
from edge.audio.level import Level
from edge.audio.microphone import MicrophoneSource
from edge.audio.sources import Gap, Sound
from edge.audio.wakeup import WAKE_S
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
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


def sounds(source: MicrophoneSource) -> list[Sound]:
    with source:
        return list(source.blocks())


def joined(parts: list[Sound]) -> list[Any]:
    """With the blocks between two gaps in one."""
    found: list[Any] = []
    for part in parts:
        if isinstance(part, np.ndarray) and found and isinstance(found[-1], np.ndarray):
            found[-1] = np.concatenate([found[-1], part])
        else:
            found.append(part)
    return found


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


@pytest.mark.parametrize("gain_db", [61, -61])
def test_an_impossible_gain(gain_db: float) -> None:
    with pytest.raises(EdgelidError, match="is not possible"):
        MicrophoneSource(gain_db=gain_db, sounddevice=FakeSounddevice([ARRAY], default=0))


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
    sounddevice = FakeSounddevice(
        [ARRAY], 0, lambda rate_hz, channels: (rate_hz, channels) == (48_000, 6)
    )
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
    ring_frames = round(RING_S * SAMPLE_RATE_HZ)
    lost = 12_345
    for start in range(0, ring_frames + lost, 800):
        clock.time_s += 0.05
        stream.deliver(ramp(start, min(start + 800, ring_frames + lost)))
    tone = np.sin(np.arange(800, dtype=np.float32) / 3)[:, np.newaxis] / 4
    # Fast enough for a minute, and then some.
    clock.while_asleep = [lambda: stream.deliver(tone)] * 1_300
    clock.while_asleep.append(source.stop)
    gap, *heard = sounds(source)
    assert gap == Gap(lost, "too slow")
    first = np.concatenate([part for part in heard if isinstance(part, np.ndarray)])
    np.testing.assert_array_equal(first[:ring_frames], ramp(lost, ring_frames + lost)[:, 0])
    assert source.dropped_samples == lost
    slow, recovered, _ = caplog.messages
    assert "too slow: the last 0.00 s of audio took it 10.80 s" in slow
    assert "fast enough again: 0.77 s of audio was left out" in recovered


def device(stream: FakeStream, first: int, count: int) -> list[Callable[[], None]]:
    """Blocks of 50 ms that come when they should, from a sample on."""
    starts = range(first, first + 800 * count, 800)
    return [lambda start=start: stream.deliver(ramp(start, start + 800)) for start in starts]  # type: ignore[misc]


def test_what_comes_in_parts_is_heard_at_once(clock: FakeClock) -> None:
    source, stream = open_usb(clock)
    assert stream.settings["blocksize"] == WAKE_S / 2 * SAMPLE_RATE_HZ
    clock.while_asleep = [*device(stream, 0, 73), source.stop]
    blocks: list[Any] = sounds(source)
    enough = 7 * 800  # the first parts of 50 ms that are as long as that
    assert {len(block) for block in blocks[:-1]} == {enough}
    # And what has come until it is stopped.
    np.testing.assert_array_equal(np.concatenate(blocks), ramp(0, 73 * 800)[:, 0])


def test_overruns_are_gaps_in_their_place(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb(clock)
    wait: list[Callable[[], object]] = [lambda: None]
    clock.while_asleep = [
        *device(stream, 0, 100),
        *wait * 6,  # 0.3 s
        lambda: stream.deliver(ramp(84_800, 85_600), overflow=True),
        *device(stream, 85_600, 50),
        source.stop,
    ]
    before, gap, after = joined(sounds(source))
    np.testing.assert_array_equal(before, ramp(0, 80_000)[:, 0])
    assert gap == Gap(4_800, "overrun")
    np.testing.assert_array_equal(after, ramp(84_800, 125_600)[:, 0])
    assert source.overflows == 1
    (message,) = caplog.messages
    assert "was lost, up to now 0.30 s (overrun)" in message


def test_what_is_late_is_not_lost(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    source, stream = open_usb(clock)
    late = device(stream, 8_000, 60)

    def burst() -> None:
        for deliver in late:
            deliver()

    wait: list[Callable[[], object]] = [lambda: None]
    clock.while_asleep = [*device(stream, 0, 10), *wait * 59, burst, *device(stream, 56_000, 50)]
    clock.while_asleep.append(source.stop)
    (heard,) = joined(sounds(source))
    np.testing.assert_array_equal(heard, ramp(0, 96_000)[:, 0])
    assert caplog.messages == []


def test_warnings_are_rare_and_the_last_is_complete(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb(clock)
    polls = round(10 * 60 / microphone.POLL_S)  # ten minutes
    clock.while_asleep = [lambda: stream.deliver(ramp(0, 1), overflow=True)] * polls
    clock.while_asleep.append(source.stop)
    list(sounds(source))
    assert 9 <= len(caplog.messages) <= 12
    assert source.overflows == polls
    last_s = float(caplog.messages[-1].split()[-3])
    assert last_s == pytest.approx(600, rel=0.01)


def test_stop_ends_a_silent_microphone(clock: FakeClock) -> None:
    source, _ = open_usb(clock)
    clock.while_asleep = [source.stop]
    with source:
        assert list(source.blocks()) == []


@pytest.mark.filterwarnings("error")
def test_samples_that_are_no_numbers_are_silence(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb(clock)
    frames = ramp(0, 1_600)
    bad = frames.copy()
    frames[[3, 7, 1_200]] = 0
    bad[[3, 7, 1_200], 0] = np.nan, np.inf, -np.inf
    clock.while_asleep = [
        lambda: stream.deliver(bad[:800]),
        lambda: stream.deliver(bad[800:]),
        source.stop,
    ]
    (heard,) = joined(sounds(source))
    np.testing.assert_array_equal(heard, frames[:, 0])
    (message,) = [text for text in caplog.messages if "no numbers" in text]
    assert message.startswith(f"{source.name!r} sends")


def test_one_channel_of_several(clock: FakeClock) -> None:
    sounddevice = FakeSounddevice([ARRAY], 0, lambda rate_hz, channels: channels == 6)
    source = MicrophoneSource(channel=4, sounddevice=sounddevice, clock=clock)
    frames = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 6)).astype(np.float32)
    clock.while_asleep = [lambda: sounddevice.stream.deliver(frames), source.stop]
    (heard,) = sounds(source)
    np.testing.assert_array_equal(heard, frames[:, 3])


@pytest.mark.parametrize(("gain_db", "factor"), [(-20, 0.1), (6, 10**0.3), (40, 100.0)])
def test_a_gain(clock: FakeClock, gain_db: float, factor: float) -> None:
    sounddevice = FakeSounddevice([SPEAKER, USB], default=1)
    source = MicrophoneSource(gain_db=gain_db, sounddevice=sounddevice, clock=clock)
    frames = np.random.default_rng(0).uniform(-0.5, 0.5, (800, 1)).astype(np.float32)
    clock.while_asleep = [lambda: sounddevice.stream.deliver(frames), source.stop]
    (heard,) = sounds(source)
    np.testing.assert_allclose(heard, np.clip(factor * frames[:, 0], -1, 1), rtol=1e-6)


def test_a_gain_mends_what_is_too_quiet_and_is_seen_by_the_warnings(clock: FakeClock) -> None:
    quiet = np.random.default_rng(0).uniform(-0.002, 0.002, (16_000, 1)).astype(np.float32)
    for gain_db, states in ((0, ["low"]), (30, []), (60, ["clipped"])):
        sounddevice = FakeSounddevice([SPEAKER, USB], default=1)
        source = MicrophoneSource(gain_db=gain_db, sounddevice=sounddevice, clock=clock)
        stream = sounddevice.stream
        clock.while_asleep = [lambda stream=stream: stream.deliver(quiet)] * 65  # type: ignore[misc]
        clock.while_asleep.append(source.stop)
        levels = [part for part in sounds(source) if isinstance(part, Level)]
        assert [level.state for level in levels] == states


@pytest.mark.parametrize("channel", [0, 7, -1])
def test_a_channel_that_there_is_not(channel: int) -> None:
    with pytest.raises(EdgelidError, match=f"has no channel {channel}: choose one of 1 to 6"):
        MicrophoneSource(channel=channel, sounddevice=FakeSounddevice([ARRAY], default=0))


# --- a device that goes and comes back ---------------------------------------------------------


def test_a_stall_is_survived(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Two seconds of sound, a device that says nothing more, and the same device opened again."""
    sounddevice = FakeSounddevice([SPEAKER, USB], default=1)
    source = MicrophoneSource("usb", sounddevice=sounddevice, clock=clock)
    first = sounddevice.stream
    clock.while_asleep = [*device(first, 0, 40)]
    parts: list[Any] = []
    with source:
        for part in source.blocks():
            parts.append(part)
            if isinstance(part, Gap) and not clock.while_asleep:
                again = device(sounddevice.stream, round(clock.time_s * SAMPLE_RATE_HZ), 210)
                clock.while_asleep = [*again, source.stop]
    assert first.calls == ["start", "abort", "close"]
    blocks = [part for part in parts if isinstance(part, np.ndarray)]
    gaps = [part for part in parts if isinstance(part, Gap)]
    assert {gap.reason for gap in gaps} == {"device stalled"}
    lost = sum(gap.samples for gap in gaps)
    heard = np.concatenate(blocks)
    np.testing.assert_array_equal(heard[:32_000], ramp(0, 32_000)[:, 0])
    # What is heard again is where the blocks and the gaps before it say.
    assert round(float(heard[32_000]) * 2**20) == 32_000 + lost
    assert "not heard any longer (device stalled)" in caplog.messages[0]
    assert "is heard again" in caplog.messages[-1]
    assert len(caplog.messages) == 3  # a ramp has an offset, and that is told too


def test_a_device_that_stays_away_is_waited_for(
    clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """For hours, with one line of log, and a gap that is told as it grows."""
    sounddevice = FakeSounddevice([SPEAKER, USB], default=1)
    source = MicrophoneSource("usb", sounddevice=sounddevice, clock=clock)
    clock.while_asleep = [*device(sounddevice.stream, 0, 40)]
    told = 0
    with source:
        for part in source.blocks():
            if isinstance(part, Gap):
                sounddevice.devices = [SPEAKER]
                told += part.samples
                assert 32_000 + told <= clock.time_s * SAMPLE_RATE_HZ
                if clock.time_s > 7_200:
                    source.stop()
    assert 32_000 + told == round(clock.time_s * SAMPLE_RATE_HZ)
    assert len(caplog.messages) == 1


def follow(
    wanted: str | None, clock: FakeClock, folder: Path, then: list[tuple[str, int, float]]
) -> tuple[FakeSounddevice, list[Any]]:
    """Two seconds of a device, which goes on when there are others and ALSA's settings change."""
    sounddevice = FakeSounddevice([SPEAKER, USB], default=1)
    places = Places((folder / "asoundrc",), (), folder / "snd")
    source = MicrophoneSource(wanted, sounddevice=sounddevice, clock=clock, places=places)

    def change() -> None:
        sounddevice.devices = then
        sounddevice.default.device = (len(then) - 1, -1)
        (folder / "asoundrc").write_text("changed")

    def deliver() -> None:
        now = round(clock.time_s * SAMPLE_RATE_HZ)
        if sounddevice.stream.calls == ["start"]:
            sounddevice.stream.deliver(ramp(now - 800, now))

    clock.while_asleep = [*[deliver] * 40, change, *[deliver] * 400, source.stop]
    heard = [part for part in sounds(source) if not isinstance(part, Level)]
    return sounddevice, joined(heard)


def test_the_default_device_is_followed(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    webcam = ("webcam", 1, 16_000.0)
    sounddevice, parts = follow(None, clock, tmp_path, [SPEAKER, USB, webcam])
    assert sounddevice.stream.settings["device"] == 2
    before, gap, after = parts
    assert gap.reason == "devices changed"
    assert gap.duration_s < 0.2
    assert 2.0 < len(before) / SAMPLE_RATE_HZ < 2.0 + 3 * LOOK_S
    # What is heard then is where the gap says.
    assert round(float(after[0]) * 2**20) == len(before) + gap.samples
    assert [message for message in caplog.messages if "offset" not in message] == [
        "devices changed: listening to 'webcam', now the default"
    ]


@pytest.mark.parametrize("wanted", ["usb", "1", USB[0]])
def test_a_device_that_was_chosen_is_not_left(
    wanted: str, clock: FakeClock, tmp_path: Path
) -> None:
    sounddevice, parts = follow(wanted, clock, tmp_path, [SPEAKER, USB, ("webcam", 1, 16_000.0)])
    assert sounddevice.stream.settings["device"] == 1
    assert not any(isinstance(part, Gap) for part in parts)


def test_a_default_device_without_the_channel_is_not_taken(
    clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sounddevice = FakeSounddevice([ARRAY], 0, lambda rate_hz, channels: channels in (1, 4))
    source = MicrophoneSource(
        *(None, 4),
        sounddevice=sounddevice,
        clock=clock,
        places=Places((tmp_path / "asoundrc",), (), tmp_path / "snd"),
    )

    def change() -> None:
        sounddevice.devices = [USB]
        (tmp_path / "asoundrc").write_text("changed")

    clock.while_asleep = [change, *[lambda: None] * 400, source.stop]
    assert {part.reason for part in sounds(source) if isinstance(part, Gap)} == {"devices changed"}
    (message,) = caplog.messages
    assert "not heard any longer (devices changed): waiting" in message


def test_a_device_that_hangs_ends_in_a_sentence(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "HANG_S", 0.1)
    sounddevice = FakeSounddevice([USB], default=0)
    source = MicrophoneSource(sounddevice=sounddevice, clock=clock)
    ended = threading.Event()
    monkeypatch.setattr(sounddevice.stream, "abort", ended.wait)
    with pytest.raises(EdgelidError, match="PortAudio hangs since"):
        sounds(source)
    ended.set()


@pytest.mark.parametrize("state", ["heard", "lost", "hanging"])
def test_stop_ends_it_at_once(
    state: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in polls of 50 ms, of which half a second has ten."""
    sounddevice = FakeSounddevice([USB], default=0)
    source = MicrophoneSource(sounddevice=sounddevice, clock=clock)
    ended = threading.Event()
    polls = itertools.count()
    if state == "hanging":
        monkeypatch.setattr(sounddevice.stream, "abort", lambda: (source.stop(), ended.wait()))
        patiently = microphone.patiently
        monkeypatch.setattr(
            *(microphone, "patiently"),
            lambda call, enough: patiently(call, lambda asked: bool(next(polls)) and enough(asked)),
        )
    elif state == "lost":
        sounddevice.devices = []
        clock.while_asleep = [*[lambda: None] * 250, source.stop]
    else:
        clock.while_asleep = [*device(sounddevice.stream, 0, 5), source.stop]
    begun_s = 250 * microphone.POLL_S if state == "lost" else 0.0
    list(sounds(source))
    ended.set()
    if state == "hanging":
        assert next(polls) < 10
    else:
        assert clock.time_s - begun_s < 0.5
