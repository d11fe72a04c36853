"""The microphone, with a PortAudio that is played by the test."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge import microphone
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.microphone import MicrophoneSource, Ring, list_devices


class FakeStream:
    """Stands for sounddevice.RawInputStream; the test calls `deliver` in PortAudio's place."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.calls: list[str] = []

    def start(self) -> None:
        self.calls.append("start")

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


class FakeTime:
    """Time that passes when someone sleeps; each sleep is a chance to deliver something."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.while_asleep: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s
        if self.while_asleep:
            self.while_asleep.pop(0)()


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    monkeypatch.setattr(microphone, "time", clock)
    return clock


USB = ("USB PnP Sound Device: Audio (hw:1,0)", 1, 44_100.0)
ARRAY = ("ReSpeaker 4 Mic Array: USB Audio (hw:2,0)", 6, 48_000.0)
SPEAKER = ("bcm2835 Headphones: - (hw:0,0)", 0, 44_100.0)


def ramp(start: int, stop: int) -> Float32Array:
    """Frames of one channel that tell their own number, shape (n, 1), exact in float32."""
    return np.arange(start, stop, dtype=np.float32)[:, np.newaxis] / np.float32(2**20)


def open_usb(**settings: Any) -> tuple[MicrophoneSource, FakeStream]:
    sounddevice = FakeSounddevice([SPEAKER, USB], default=1, **settings)
    return MicrophoneSource(None, sounddevice=sounddevice), sounddevice.stream


# --- the devices -----------------------------------------------------------------------------


def test_list_devices() -> None:
    devices = list_devices(FakeSounddevice([SPEAKER, USB, ARRAY], default=2))
    assert [(device.index, device.name, device.is_default) for device in devices] == [
        (1, USB[0], False),
        (2, ARRAY[0], True),
    ]
    assert devices[1].host_api == "ALSA"
    assert devices[1].max_input_channels == 6
    assert devices[1].default_rate_hz == 48_000


def test_no_device_lists_nothing() -> None:
    assert list_devices(FakeSounddevice([SPEAKER])) == []


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 1),
        (2, 2),
        ("2", 2),
        (ARRAY[0], 2),
        (ARRAY[0].upper(), 2),
        ("respeaker", 2),
        ("usb pnp", 1),
        ("mic hw:2", 2),
        ("hw:1,0", 1),
    ],
)
def test_choosing_a_device(wanted: str | int | None, index: int) -> None:
    sounddevice = FakeSounddevice([SPEAKER, USB, ARRAY], default=1)
    source = MicrophoneSource(wanted, sounddevice=sounddevice)
    assert sounddevice.stream.settings["device"] == index
    assert source.name == sounddevice.devices[index][0]


def test_an_exact_name_wins_over_longer_ones() -> None:
    sounddevice = FakeSounddevice([("pulse monitor", 1, 48_000.0), ("pulse", 1, 48_000.0)])
    MicrophoneSource("pulse", sounddevice=sounddevice)
    assert sounddevice.stream.settings["device"] == 1


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("bluetooth", "no microphone is called 'bluetooth'"),
        ("hw:2 respeaker", "no microphone is called"),  # the words in another order
        (7, "no microphone with the number 7"),
        ("7", "no microphone with the number 7"),
        (-1, "no microphone with the number -1"),
        (0, "no microphone with the number 0"),  # it only plays
        ("usb", "more than one microphone is called 'usb'"),
        (None, "no default microphone"),
    ],
)
def test_a_device_that_cannot_be_chosen(wanted: str | int | None, words: str) -> None:
    sounddevice = FakeSounddevice([SPEAKER, USB, ARRAY], default=-1)
    with pytest.raises(EdgelidError) as caught:
        MicrophoneSource(wanted, sounddevice=sounddevice)
    message = str(caught.value)
    assert words in message
    assert f"1 {USB[0]!r}, 2 {ARRAY[0]!r}" in message
    assert SPEAKER[0] not in message


def test_an_ambiguous_name_lists_what_it_could_mean() -> None:
    sounddevice = FakeSounddevice([USB, ("webcam", 1, 48_000.0), ARRAY])
    with pytest.raises(EdgelidError) as caught:
        MicrophoneSource("usb", sounddevice=sounddevice)
    assert "webcam" not in str(caught.value)
    assert ARRAY[0] in str(caught.value)


def test_no_microphone_at_all() -> None:
    with pytest.raises(EdgelidError, match="there is no microphone: plug one in"):
        MicrophoneSource(None, sounddevice=FakeSounddevice([SPEAKER]))


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
    assert sounddevice.tried == [(16_000, 1), (48_000, 1), (48_000, 6)]
    assert source.rate_hz == 48_000


def test_a_device_that_does_not_open() -> None:
    sounddevice = FakeSounddevice([USB], 0, lambda rate_hz, channels: False)
    with pytest.raises(EdgelidError) as caught:
        MicrophoneSource(sounddevice=sounddevice)
    assert repr(USB[0]) in str(caught.value)
    assert "Invalid sample rate" in str(caught.value)
    assert sounddevice.tried == [(16_000, 1), (44_100, 1)]  # nothing twice


def test_what_portaudio_prints_goes_to_the_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    open_usb(opens=lambda rate_hz, channels: rate_hz == 44_100)
    os.write(2, b"and this is ours\n")
    assert capfd.readouterr().err == "and this is ours\n"
    assert any("SetApproximateSampleRate" in message for message in caplog.messages)


def test_recording_lasts_as_long_as_the_with_block() -> None:
    source, stream = open_usb()
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


def test_all_that_is_delivered_arrives_in_order(fake_time: FakeTime) -> None:
    source, stream = open_usb()
    edges = [0, 800, 801, 801, 5_000, 20_000]
    fake_time.while_asleep = [
        lambda start=start, stop=stop: stream.deliver(ramp(start, stop))  # type: ignore[misc]
        for start, stop in itertools.pairwise(edges)
    ]
    fake_time.while_asleep.append(source.stop)
    with source:
        blocks = list(source.blocks())
    assert all(block.dtype == np.float32 and block.ndim == 1 and block.size for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), ramp(0, 20_000)[:, 0])
    assert source.dropped_samples == 0
    assert source.overflows == 0


def test_another_rate_and_more_channels_become_16_khz_mono(fake_time: FakeTime) -> None:
    sounddevice = FakeSounddevice([ARRAY], 0, lambda rate_hz, channels: channels == 6)
    source = MicrophoneSource(sounddevice=sounddevice)
    time_s = np.arange(96_000) / 48_000
    levels = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])  # mean 0.35
    frames = np.sin(2 * np.pi * 440 * time_s)[:, np.newaxis] * levels  # (n, 6)
    for start in range(0, 96_000, 9_600):
        part = frames[start : start + 9_600]
        fake_time.while_asleep.append(lambda part=part: sounddevice.stream.deliver(part))  # type: ignore[misc]
    fake_time.while_asleep.append(source.stop)
    with source:
        heard = np.concatenate(list(source.blocks()))
    assert len(heard) == 2 * SAMPLE_RATE_HZ
    middle = heard[8_000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    assert np.abs(middle).max() == pytest.approx(0.35, rel=1e-3)


def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_told(
    fake_time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb()
    ring_frames = round(microphone.RING_S * SAMPLE_RATE_HZ)
    lost = 12_345
    for start in range(0, ring_frames + lost, 800):
        stream.deliver(ramp(start, min(start + 800, ring_frames + lost)))
    fake_time.while_asleep = [source.stop]
    with source:
        heard = np.concatenate(list(source.blocks()))
    np.testing.assert_array_equal(heard, ramp(lost, ring_frames + lost)[:, 0])
    assert source.dropped_samples == lost
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "0.77 s" in record.getMessage()


def test_losses_are_counted_at_16_khz(fake_time: FakeTime) -> None:
    source, stream = open_usb(opens=lambda rate_hz, channels: rate_hz == 44_100)
    stream.deliver(np.zeros((441_000 + 4_410, 1), np.float32))  # 0.1 s more than the ring holds
    assert source.dropped_samples == 1_600


def test_overflows_of_portaudio_are_counted(
    fake_time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb()
    fake_time.while_asleep = [
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
    fake_time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    source, stream = open_usb()
    polls = round(10 * 60 / microphone.POLL_S)  # ten minutes
    fake_time.while_asleep = [lambda: stream.deliver(ramp(0, 1), overflow=True)] * polls
    fake_time.while_asleep.append(source.stop)
    with source:
        list(source.blocks())
    assert 9 <= len(caplog.messages) <= 12
    assert f"{polls} overflow" in caplog.messages[-1]


def test_stop_ends_a_silent_microphone(fake_time: FakeTime) -> None:
    source, _ = open_usb()
    fake_time.while_asleep = [source.stop]
    with source:
        assert list(source.blocks()) == []


# --- a microphone that goes dumb ------------------------------------------------------------


def test_a_microphone_that_never_delivers(fake_time: FakeTime) -> None:
    source, _ = open_usb()
    with source, pytest.raises(EdgelidError, match="has delivered nothing for 5 s") as caught:
        list(source.blocks())
    assert repr(USB[0]) in str(caught.value)
    assert fake_time.now_s == pytest.approx(microphone.STALL_S, abs=2 * microphone.POLL_S)


def test_a_microphone_that_stops_delivering(fake_time: FakeTime) -> None:
    source, stream = open_usb()
    fake_time.while_asleep = [lambda: stream.deliver(ramp(0, 100))] * 3
    heard = 0
    with source, pytest.raises(EdgelidError, match="delivered nothing"):
        for block in source.blocks():
            heard += len(block)
    assert heard == 300
    expected_s = microphone.STALL_S + 3 * microphone.POLL_S
    assert fake_time.now_s == pytest.approx(expected_s, abs=2 * microphone.POLL_S)


def test_pauses_shorter_than_that_are_no_reason(fake_time: FakeTime) -> None:
    source, stream = open_usb()
    pause: list[Callable[[], None]] = [lambda: None] * round(4.5 / microphone.POLL_S)
    delivery: list[Callable[[], None]] = [lambda: stream.deliver(ramp(0, 100))]
    fake_time.while_asleep = [*(pause + delivery) * 3, source.stop]
    with source:
        assert sum(map(len, source.blocks())) == 300


def test_neither_a_slow_reader_nor_a_suspended_process_is_a_stall(fake_time: FakeTime) -> None:
    source, stream = open_usb()

    def be_suspended() -> None:
        fake_time.now_s += 3_600.0

    fake_time.while_asleep = [
        lambda: stream.deliver(ramp(0, 100)),
        be_suspended,
        lambda: stream.deliver(ramp(100, 200)),
        source.stop,
    ]
    heard = 0
    with source:
        for block in source.blocks():
            heard += len(block)
            be_suspended()
    assert heard == 200


def test_a_stall_with_a_real_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphone, "STALL_S", 0.05)
    monkeypatch.setattr(microphone, "POLL_S", 0.01)
    source, _ = open_usb()
    with source, pytest.raises(EdgelidError, match="delivered nothing"):
        list(source.blocks())


# --- the ring --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_ring_keeps_the_newest_frames(seed: int) -> None:
    """Against a list, over random reads and writes, also of more than the ring holds."""
    rng = np.random.default_rng(seed)
    capacity, channels = int(rng.integers(1, 20)), int(rng.integers(1, 4))
    ring = Ring(capacity, channels)
    expected = np.zeros((0, channels), np.float32)
    dropped = 0
    for _ in range(300):
        if rng.random() < 0.7:
            frames = rng.random((int(rng.integers(0, 2 * capacity)), channels), np.float32)
            ring.write(frames)
            expected = np.concatenate([expected, frames])
            dropped += max(0, len(expected) - capacity)
            expected = expected[-capacity:]
        else:
            np.testing.assert_array_equal(ring.read(), expected)
            expected = expected[:0]
        assert ring.dropped_frames == dropped


def test_ring_between_two_threads() -> None:
    """Whatever the threads do when: every frame is read once, in order, or counted as dropped."""
    ring = Ring(1_000, 1)
    total = 300_000
    done = threading.Event()

    def write() -> None:
        for start in range(0, total, 150):
            ring.write(ramp(start, start + 150))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    numbers: list[Float32Array] = []
    while True:
        last_round = done.is_set()
        numbers.append(ring.read()[:, 0] * 2**20)
        if last_round:
            break
    writer.join()
    heard = np.concatenate(numbers)
    assert len(heard) + ring.dropped_frames == total
    assert (np.diff(heard) > 0).all()
    assert heard[-1] == total - 1
    for part in numbers:
        assert (np.diff(part) == 1).all()  # what is dropped is dropped between reads


# --- what is missing -------------------------------------------------------------------------


def test_a_missing_sounddevice_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    for use in (MicrophoneSource, list_devices):
        with pytest.raises(EdgelidError, match=r'pip install "edgelid\[edge\]"'):
            use()


def import_error(preparation: str) -> str:
    """What `list_devices` says in a new process in which sounddevice cannot be imported."""
    script = f"""
{preparation}
from edge.errors import EdgelidError
from edge.microphone import list_devices
try:
    list_devices()
except EdgelidError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_a_missing_portaudio_is_a_sentence() -> None:
    pytest.importorskip("_sounddevice", reason="needs the package sounddevice")
    # The way sounddevice looks for the library, on a machine that does not have it.
    message = import_error("import ctypes.util; ctypes.util.find_library = lambda name: None")
    assert "sudo apt install libportaudio2" in message


def test_a_portaudio_that_does_not_start_is_a_sentence(tmp_path: Path) -> None:
    # What importing sounddevice does when PortAudio's initialisation fails.
    (tmp_path / "sounddevice.py").write_text("""
class PortAudioError(Exception):
    pass

raise PortAudioError("Error initializing PortAudio: Unanticipated host error")
""")
    message = import_error(f"import sys; sys.path.insert(0, {str(tmp_path)!r})")
    assert "the audio system cannot be used (Error initializing PortAudio" in message
