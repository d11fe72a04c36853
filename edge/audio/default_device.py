"""Cheap detection that the default microphone may have become another one.

PortAudio's list of devices is made once, and anew only while no stream is open. Another process
cannot be asked either: to PortAudio, a device that is in use has nothing to record, and the
default is then another. Watched is therefore what the default follows from: which is ALSA's
``default``, if that records, and else the first device that does. A sound server moves the
streams of its clients itself.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

from edge.audio.clock import Clock

# A look takes some microseconds; what has changed counts once two looks agree, as the rights to
# a device that has been plugged in come after it, and programs write their files in parts.
LOOK_S = 2.0

ALSA_DEFAULT = "default"


@dataclass(frozen=True)
class Places:
    """Where to look.

    Attributes
    ----------
    settings : tuple of Path
        Files and folders that say what ALSA's ``default`` is.
    servers : tuple of Path
        Sockets of sound servers: once there is one, it becomes ``default``.
    devices : Path
        Folder of ALSA's devices.
    """

    settings: tuple[Path, ...]
    servers: tuple[Path, ...]
    devices: Path


def usual_places() -> Places:
    """Those of this user on this machine."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` raises where there is none
    own = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    run = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    system = Path("/etc/asound.conf"), Path("/etc/alsa/conf.d")
    return Places(
        settings=(*system, home / ".asoundrc", own / "alsa/asoundrc"),
        servers=(run / "pulse/native", run / "pipewire-0"),
        devices=Path("/dev/snd"),
    )


@dataclass(frozen=True)
class _Seen:
    settings: tuple[Hashable, ...]
    servers: frozenset[Path]
    recorders: frozenset[Hashable]


class DefaultWatch:
    """Compares with what there was when it was made.

    Parameters
    ----------
    clock : Clock
    places : Places
    """

    def __init__(self, clock: Clock, places: Places) -> None:
        self._clock = clock
        self._places = places
        self._first = self._last = self._look()
        self._last_look_s = clock.now_s()

    def is_due(self, name: str) -> bool:
        """Whether to look up the default device anew; cheap enough to ask at any time.

        Parameters
        ----------
        name : str
            Of the device that was the default.
        """
        now_s = self._clock.now_s()
        if now_s - self._last_look_s < LOOK_S:
            return False
        self._last_look_s = now_s
        before, self._last = self._last, self._look()
        if before != self._last:
            return False
        first, self._first = self._first, self._last
        # A device more makes no difference to ALSA's `default`: that names its own. A device or
        # server that is gone has ended its streams itself.
        more_devices = name != ALSA_DEFAULT and not self._last.recorders <= first.recorders
        more_servers = not self._last.servers <= first.servers
        return more_devices or more_servers or self._last.settings != first.settings

    def _look(self) -> _Seen:
        places = self._places
        return _Seen(
            settings=tuple(_version(os.fspath(path)) for path in places.settings),
            servers=frozenset(path for path in places.servers if _version(os.fspath(path))),
            recorders=_recorders(os.fspath(places.devices)),
        )


def _recorders(folder: str) -> frozenset[Hashable]:
    """Devices that record, ``pcmC1D0c`` and such, with the time of the last change of rights."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.startswith("pcm") and e.name.endswith("c")]
    except OSError:
        return frozenset()
    return frozenset((name, _version(f"{folder}/{name}")) for name in names)


def _version(path: str) -> Hashable:
    """Something that changes when a file does; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_ctime_ns
