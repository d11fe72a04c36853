"""Listing of the devices that can record, as PortAudio knows them."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.system.install import how_to_install
from edge.system.native_stderr import stderr_to_log

# What is tried after 16 kHz and the rate that a device prefers.
COMMON_RATES_HZ = (48_000, 44_100)


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


def list_devices(sounddevice: Any = None) -> list[InputDevice]:
    """List the devices that can record.

    PortAudio looks for devices once in a process; what is plugged in later is not seen.

    Parameters
    ----------
    sounddevice : module, optional
        What speaks to PortAudio; the module of this name unless a test gives another.

    Returns
    -------
    list of InputDevice
        In the order of their numbers; empty if there is none.

    Raises
    ------
    EdgelidError
        If sounddevice or PortAudio is missing.
    """
    sounddevice = sounddevice or import_sounddevice()
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


def settings(device: InputDevice, channel: int | None) -> Iterator[tuple[int, int]]:
    """Rates and numbers of channels to try on a device, the best first.

    Parameters
    ----------
    device : InputDevice
    channel : int or None
        The one that is wanted, from 1 on; None for the mean of all.
    """
    some = (1, 2) if channel is None else (channel,)
    most = device.max_input_channels
    rates_hz = dict.fromkeys((SAMPLE_RATE_HZ, device.default_rate_hz, *COMMON_RATES_HZ))
    for channels in dict.fromkeys(min(count, most) for count in (*some, most)):
        for rate_hz in rates_hz:
            yield rate_hz, channels


def what_opens(device: InputDevice, sounddevice: Any = None) -> dict[int, list[int]]:
    """Rates at which a device opens just now, each with numbers of channels.

    Parameters
    ----------
    device : InputDevice
    sounddevice : module, optional
        As for `list_devices`.
    """
    sounddevice = sounddevice or import_sounddevice()
    opens: dict[int, list[int]] = {}
    for rate_hz in dict.fromkeys((SAMPLE_RATE_HZ, 44_100, 48_000, device.default_rate_hz)):
        for channels in dict.fromkeys((1, min(2, device.max_input_channels))):
            try:
                with stderr_to_log("PortAudio"):
                    sounddevice.check_input_settings(
                        device=device.index,
                        channels=channels,
                        dtype="float32",
                        samplerate=rate_hz,
                    )
            except sounddevice.PortAudioError:
                continue
            opens.setdefault(rate_hz, []).append(channels)
    return opens


def check_channel(device: InputDevice, channel: int | None) -> None:
    """Find out whether a device has a channel, counted from 1 on; None is the mean of all.

    Raises
    ------
    EdgelidError
        If it does not.
    """
    most = device.max_input_channels
    if channel is not None and not 1 <= channel <= most:
        raise EdgelidError(f"{device.name!r} has no channel {channel}: choose one of 1 to {most}.")


def find_device(wanted: str | int | None, devices: Sequence[InputDevice]) -> InputDevice:
    """The device that someone means.

    Parameters
    ----------
    wanted : str, int or None
        Number or name of the device, or words of its name in their order (capitals or not);
        None for the default device.
    devices : sequence of InputDevice

    Raises
    ------
    EdgelidError
        If it is none of them, or could be several.
    """
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


def find_again(
    wanted: str | int | None, before: InputDevice, devices: Sequence[InputDevice]
) -> InputDevice:
    """A device that is lost, once it is there again, perhaps as another number or elsewhere.

    Parameters
    ----------
    wanted : str, int or None
        As for `find_device`: whatever is the default now, or suits the name, will do.
    before : InputDevice
    devices : sequence of InputDevice

    Raises
    ------
    EdgelidError
        If there is none.
    """
    if wanted is not None:
        for name in (str, _without_address):
            for device in devices:
                if name(device.name) == name(before.name) and device.host_api == before.host_api:
                    return device
    is_number = isinstance(wanted, int) or (wanted is not None and wanted.strip().isdecimal())
    return find_device(before.name if is_number else wanted, devices)


def _without_address(name: str) -> str:
    return re.sub(r"\(hw:\d+,\d+\)$", "", name)


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


def does_not_open(name: str, error: Exception) -> EdgelidError:
    """What to tell of a device that PortAudio has refused."""
    return EdgelidError(
        f"the microphone {name!r} does not open ({' '.join(str(error).split())}): end other "
        "programs that use it, or choose another that `edgelid devices` lists."
    )


def import_sounddevice() -> Any:
    """The module that speaks to PortAudio.

    Raises
    ------
    EdgelidError
        If sounddevice or PortAudio is missing, or PortAudio does not start.
    """
    try:
        with stderr_to_log("PortAudio"):
            return importlib.import_module("sounddevice")
    except ImportError as error:
        raise EdgelidError(
            "recording needs the package sounddevice, which cannot be imported: " + how_to_install()
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
