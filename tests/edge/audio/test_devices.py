"""Which devices there are, which is meant, and what they can do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.audio.devices import find_again, find_device, list_devices, settings, what_opens
from edge.audio.microphone import MicrophoneSource
from edge.errors import EdgelidError
from tests.edge.fake_sounddevice import ARRAY, SPEAKER, USB, FakeSounddevice

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
    devices = list_devices(FakeSounddevice([SPEAKER, USB, ARRAY], default=1))
    assert find_device(wanted, devices).index == index


def test_an_exact_name_wins_over_longer_ones() -> None:
    devices = [("pulse monitor", 1, 48_000.0), ("pulse", 1, 48_000.0)]
    assert find_device("pulse", list_devices(FakeSounddevice(devices))).index == 1


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
    devices = list_devices(FakeSounddevice([SPEAKER, USB, ARRAY], default=-1))
    with pytest.raises(EdgelidError) as caught:
        find_device(wanted, devices)
    message = str(caught.value)
    assert words in message
    assert f"1 {USB[0]!r}, 2 {ARRAY[0]!r}" in message
    assert SPEAKER[0] not in message


def test_an_ambiguous_name_lists_what_it_could_mean() -> None:
    devices = list_devices(FakeSounddevice([USB, ("webcam", 1, 48_000.0), ARRAY]))
    with pytest.raises(EdgelidError) as caught:
        find_device("usb", devices)
    assert "webcam" not in str(caught.value)
    assert ARRAY[0] in str(caught.value)


def test_no_microphone_at_all() -> None:
    with pytest.raises(EdgelidError, match="there is no microphone: plug one in"):
        find_device(None, list_devices(FakeSounddevice([SPEAKER])))


def test_a_device_that_comes_back_elsewhere() -> None:
    (before,) = list_devices(FakeSounddevice([USB]))
    elsewhere = USB[0].replace("hw:1", "hw:3")
    others = [SPEAKER, ("webcam", 1, 48_000.0), (elsewhere, 1, 44_100.0)]
    now = list_devices(FakeSounddevice(others, default=1))
    for wanted in ("usb", 1, "1", USB[0]):
        assert find_again(wanted, before, now).name == elsewhere
    assert find_again(None, before, now).name == "webcam"  # which is the default


def test_another_device_will_do_only_if_it_suits() -> None:
    (before,) = list_devices(FakeSounddevice([USB]))
    now = list_devices(FakeSounddevice([SPEAKER, ARRAY]))
    assert find_again("usb", before, now).name == ARRAY[0]
    # A number means the device that had it.
    for wanted in (1, "1", "PnP"):
        with pytest.raises(EdgelidError, match="no microphone is called"):
            find_again(wanted, before, now)


def test_the_order_in_which_settings_are_tried() -> None:
    (device,) = list_devices(FakeSounddevice([ARRAY]))
    rates_hz = (16_000, 48_000, 44_100)
    assert [*settings(device, None)] == [(rate, n) for n in (1, 2, 6) for rate in rates_hz]
    assert [*settings(device, 3)] == [(rate, n) for n in (3, 6) for rate in rates_hz]
    (device,) = list_devices(FakeSounddevice([USB]))
    assert [*settings(device, None)] == [(16_000, 1), (44_100, 1), (48_000, 1)]


def test_what_opens() -> None:
    sounddevice = FakeSounddevice(
        [ARRAY], opens=lambda rate_hz, channels: rate_hz > 16_000 and channels == 2
    )
    (device,) = list_devices(sounddevice)
    assert what_opens(device, sounddevice) == {44_100: [2], 48_000: [2]}


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
from edge.audio.devices import list_devices
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
