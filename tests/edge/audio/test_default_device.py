"""When the default device is looked up anew, and when not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge.audio.default_device import LOOK_S, DefaultWatch, Places
from tests.edge.fake_sounddevice import FakeClock


class Machine:
    """Files as ALSA and sound servers have them, and who watches them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FakeClock()
        for name in ("snd", "alsa"):
            (folder / name).mkdir()
        self.device("pcmC0D0c")
        places = Places(
            settings=(folder / "asound.conf", folder / "alsa"),
            servers=(folder / "native",),
            devices=folder / "snd",
        )
        self.watch = DefaultWatch(self.clock, places)

    def device(self, name: str) -> None:
        (self.folder / "snd" / name).touch()

    def remove(self, name: str) -> None:
        (self.folder / "snd" / name).unlink()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def looks(self, name: str, count: int = 5) -> list[bool]:
        """What comes of asking about a device, after times that are long enough for a look."""
        answers = []
        for _ in range(count):
            self.clock.sleep(LOOK_S)
            answers.append(self.watch.is_due(name))
        return answers


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


Change = Callable[[Machine], None]


@pytest.mark.parametrize("name", ["hw:0,0", "default"])
@pytest.mark.parametrize(
    "change",
    [
        lambda machine: machine.write("asound.conf", "pcm.!default"),
        lambda machine: machine.write("alsa/50-mine.conf", ""),
        lambda machine: machine.write("native", ""),
    ],
)
def test_what_makes_another_default(machine: Machine, name: str, change: Change) -> None:
    assert machine.looks(name) == [False] * 5
    change(machine)
    # Seen, then found to last, and then no news any longer.
    assert machine.looks(name) == [False, True, False, False, False]


def test_a_device_more(machine: Machine) -> None:
    machine.device("pcmC1D0c")
    assert machine.looks("hw:0,0") == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        # ALSA's default names its own device.
        ("default", lambda machine: machine.device("pcmC1D0c")),
        ("hw:0,0", lambda machine: machine.device("pcmC1D0p")),  # it only plays
        ("hw:0,0", lambda machine: machine.device("controlC1")),
        ("hw:0,0", lambda machine: machine.remove("pcmC0D0c")),
        ("hw:0,0", lambda machine: machine.write("alsa.conf", "")),
    ],
)
def test_what_does_not(machine: Machine, name: str, change: Change) -> None:
    change(machine)
    assert machine.looks(name) == [False] * 5


def test_a_device_whose_rights_change(machine: Machine) -> None:
    (machine.folder / "snd/pcmC0D0c").chmod(0o600)
    assert True in machine.looks("hw:0,0")


def test_what_still_changes_is_waited_for(machine: Machine) -> None:
    for n in range(1, 6):
        machine.write("asound.conf", "x" * n)
        assert machine.looks("default", 1) == [False]
    assert machine.looks("default", 1) == [True]


def test_between_looks_nothing_is_looked_at(machine: Machine) -> None:
    machine.write("asound.conf", "x")
    for _ in range(10):
        machine.clock.sleep(LOOK_S / 20)
        assert not machine.watch.is_due("default")
    assert machine.looks("default", 2) == [False, True]


def test_a_machine_without_any_of_it(tmp_path: Path) -> None:
    clock = FakeClock()
    nowhere = tmp_path / "nowhere"
    watch = DefaultWatch(clock, Places((nowhere,), (nowhere,), nowhere))
    clock.sleep(LOOK_S)
    assert not watch.is_due("default")
