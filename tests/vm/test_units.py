"""The units of `edgelid service install` under a systemd that runs a machine with a microphone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.edge.service.test_unit import MAX_EXPOSURE
from tests.vm.guest import ENVIRONMENT, POLL_S, SHARE, TIMEOUT_S, USER, Guest

pytestmark = pytest.mark.vm

Figure = Callable[[str], None]

EDGELID = f"{ENVIRONMENT}/bin/edgelid"
SAMPLE = Path(__file__).parents[2] / "edge/samples/languages.json"
# What is played there is heard by ALSA's default microphone.
PLAY = f"aplay -q -D plughw:Loopback,1,0 {SHARE}/sample.wav"
JUMP = "+1 hour"
OVER_S = 3.0  # between what the stream says of its length and what systemd says


class Unit:
    """The service of the guest, or of its user.

    Parameters
    ----------
    machine : Guest
    scope : str
    """

    def __init__(self, machine: Guest, scope: str) -> None:
        self.machine, self.scope = machine, scope
        home = f"/home/{USER}"
        self._as = f"cd {home} && runuser -u {USER} -- env XDG_RUNTIME_DIR=/run/user/1000 "
        self.config, self.state = f"{home}/edgelid.toml", f"{home}/state"
        self.file = f"{home}/.config/systemd/user/edgelid.service"
        if scope == "system":
            self._as, self.config, self.state = "", "/etc/edgelid.toml", "/var/lib/edgelid"
            self.file = "/etc/systemd/system/edgelid.service"
        self.log = f"{self.state}/events.jsonl"

    def run(self, command: str, status: int | None = 0) -> str:
        return self.machine.run(self._as + command, status)

    def systemctl(self, words: str, status: int | None = 0) -> str:
        return self.run(f"systemctl --{self.scope} {words}", status)

    def configure(self, text: str = "", log: str | None = None) -> None:
        self.machine.write(self.config, f'log = "{log or self.log}"\n{text}\n')

    def install(self, text: str = "") -> None:
        """Begin anew, with this configuration."""
        self.systemctl("stop edgelid", None)
        self.machine.run(f"rm -f {self.state}/*")
        self.configure(text)
        self.run(f"{EDGELID} service install --config {self.config}")

    def show(self, name: str, unit: str = "edgelid") -> str:
        return self.systemctl(f"show {unit} --value --property={name}").strip()

    def monotonic_s(self, name: str) -> float:
        return int(self.show(f"{name}TimestampMonotonic")) / 1e6

    def wait(self, condition: Callable[[], Any]) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline_s, self.journal()
            time.sleep(POLL_S)

    def wait_until_active(self, restarts: int = 0) -> None:
        self.wait(
            lambda: self.show("NRestarts") == str(restarts) and self.show("ActiveState") == "active"
        )

    def events(self, kind: str, log: str | None = None) -> list[dict[str, Any]]:
        told = [json.loads(line) for line in self.run(f"cat {log or self.log}").splitlines()]
        return [event for event in told if event["type"] == kind]

    def languages(self, log: str | None = None) -> set[str]:
        return {event["language"] for event in self.events("change", log)} & set(spoken())

    def journal(self, more: str = "") -> list[str]:
        """What the program said itself."""
        field = "_SYSTEMD_UNIT" if self.scope == "system" else "_SYSTEMD_USER_UNIT"
        command = f"journalctl -q -o cat {field}=edgelid.service _TRANSPORT=stdout {more}"
        return self.machine.run(command).splitlines()

    def probed(self) -> dict[str, list[str]]:
        """What a program can do in the sandbox of the unit."""
        probe = f"{Path(self.file).parent}/probe.service"
        changes = [f"ExecStart=/usr/bin/python3 {SHARE}/probe.py", "Type=oneshot", "Restart=no"]
        changes += ["StandardOutput=journal"]
        edits = [f"s|^{change.split('=')[0]}=.*|{change}|" for change in changes]
        self.machine.run(f"sed '{';'.join(edits)}' {self.file} >{probe}")
        self.systemctl("daemon-reload")
        self.systemctl("start probe")
        field = "_SYSTEMD_UNIT" if self.scope == "system" else "_SYSTEMD_USER_UNIT"
        told = self.machine.run(f"journalctl -q -o cat {field}=probe.service _TRANSPORT=stdout")
        found: dict[str, list[str]] = json.loads(told)
        return found


def uptime_s(machine: Guest, then: str) -> float:
    """The clock that systemd measures by, just before a command."""
    return float(machine.run(f"cut -d' ' -f1 /proc/uptime; {then}").split()[0])


@pytest.fixture(scope="module")
def system(machine: Guest) -> Unit:
    return Unit(machine, "system")


@pytest.fixture(scope="module")
def user(machine: Guest) -> Iterator[Unit]:
    machine.run(f"systemctl stop edgelid; loginctl enable-linger {USER}")
    unit = Unit(machine, "user")
    unit.run(f"mkdir {unit.state}")
    yield unit
    unit.run(f"{EDGELID} service uninstall")


def spoken() -> list[str]:
    """Languages of the sample, in their order."""
    stretches = [stretch["language"] for stretch in json.loads(SAMPLE.read_text())]
    return [language for language, _ in groupby(stretches) if language != "nonspeech"]


def test_it_hears_the_microphone(system: Unit, figure: Figure) -> None:
    """And a clock on the wall that jumps changes nothing of it."""
    system.install()
    system.wait_until_active()
    playing = system.machine.start(PLAY)
    system.wait(lambda: "en" in system.languages())
    system.machine.run(f"date -s '{JUMP}'")
    assert system.machine.wait(playing).returncode == 0
    assert "active" in system.run(f"{EDGELID} service status")
    peak = int(system.machine.run("cat /sys/fs/cgroup/system.slice/edgelid.service/memory.peak"))
    assert "max 0" in system.machine.run(
        "cat /sys/fs/cgroup/system.slice/edgelid.service/memory.events"
    )
    system.systemctl("stop edgelid")
    segments = system.events("segment")
    heard = [s["language"] for s in segments if s["language"] in spoken()]
    assert [language for language, _ in groupby(heard)] == spoken()
    assert system.events("gap") == []
    for one, other in pairwise(segments):
        assert one["end_s"] == other["start_s"]
    took_s = system.monotonic_s("ExecMainExit") - system.monotonic_s("ActiveEnter")
    assert abs(segments[-1]["end_s"] - took_s) < OVER_S
    assert all("'default': " in line for line in system.journal())  # of the level
    ready_s = system.monotonic_s("ActiveEnter") - system.monotonic_s("ExecMainStart")
    figure(f"system service: {' '.join(heard)} heard, memory at most {peak / 1e6:.1f} MB")
    figure(f"READY=1 after {ready_s:.1f} s, at 250 million instructions a second")


def test_a_reload(system: Unit) -> None:
    system.install()
    system.wait_until_active()
    process = system.show("MainPID")
    other = f"{system.state}/other.jsonl"
    system.configure('languages = ["fr"]', log=other)
    system.systemctl("reload edgelid")
    system.wait(lambda: other in system.run(f"ls {system.state}/*"))
    (start,) = system.events("start", other)
    assert start["start_s"] > 0
    system.machine.run(f"{PLAY} -d 10")  # English
    system.configure("threads = 0")
    system.systemctl("reload edgelid")
    system.wait(lambda: any("stays as it was" in line for line in system.journal()))
    assert system.show("MainPID") == process
    assert system.languages(other) <= {"fr"}


def test_what_hangs_is_started_again(system: Unit, figure: Figure) -> None:
    system.install()
    system.wait_until_active()
    since_s = uptime_s(system.machine, f"kill -STOP {system.show('MainPID')}")
    system.wait_until_active(restarts=1)
    told = system.machine.run("journalctl -q -o short-monotonic -u edgelid")
    (ended_s,) = re.findall(r"([\d.]+)\] .*Watchdog timeout \(limit 1min\)!", told)
    again_s = system.monotonic_s("ActiveEnter") - since_s
    figure(f"stopped: watchdog after {float(ended_s) - since_s:.1f} s, heard again {again_s:.1f} s")
    assert len(system.events("start")) == 2


def test_what_is_killed_is_started_again(system: Unit, figure: Figure) -> None:
    system.install()
    system.wait_until_active()
    since_s = uptime_s(system.machine, f"kill -KILL {system.show('MainPID')}")
    system.wait_until_active(restarts=1)
    figure(f"killed: heard again after {system.monotonic_s('ActiveEnter') - since_s:.1f} s")
    assert len(system.events("start")) == 2


def test_the_end_is_in_order(system: Unit, figure: Figure) -> None:
    system.install()
    system.wait_until_active()
    system.wait(lambda: system.events("change"))
    since_s = uptime_s(system.machine, f"kill -TERM {system.show('MainPID')}")
    system.wait(lambda: system.show("ActiveState") == "inactive")
    assert system.show("Result") == "success"
    figure(f"SIGTERM: ended after {system.monotonic_s('ExecMainExit') - since_s:.2f} s")
    assert system.events("segment")[-1]["language"] == system.events("change")[-1]["language"]


def test_a_bad_configuration_ends_it_for_good(system: Unit) -> None:
    system.install()
    system.wait_until_active()
    system.configure("threads = 0")
    system.systemctl("restart edgelid", status=1)
    assert (system.show("ActiveState"), system.show("ExecMainStatus")) == ("failed", "78")
    sentence = f"edgelid: {system.config}: threads must be from 1 to 64, not 0."
    system.wait(lambda: sentence in system.journal())
    system.machine.run("sleep 15")  # RestartSec is 10
    assert (system.show("ActiveState"), system.show("NRestarts")) == ("failed", "0")


def test_a_model_of_ones_own(system: Unit) -> None:
    """It is tried in a child, which bounds its memory."""
    system.install('model = "/opt/models/own.tflite"')
    system.wait_until_active()
    system.wait(lambda: system.events("change"))


def test_a_model_that_crashes_is_a_sentence(system: Unit) -> None:
    system.install()
    system.configure('model = "/opt/models/hostile.tflite"')
    before = len(system.journal())
    system.systemctl("restart edgelid", status=1)
    system.systemctl("stop edgelid")
    system.wait(lambda: len(system.journal()) > before)
    assert system.journal()[before:] == [
        "edgelid: the model '/opt/models/hostile.tflite' cannot be used, as the interpreter does "
        "not survive it (SIGABRT): convert it again."
    ]


SANDBOX = {
    "system": {
        "writes": ["/tmp", "/var/lib/private/edgelid", "/var/tmp"],
        "can": ["UNIX sockets", "bounds of a child", "microphone"],
    },
    "user": {
        "writes": ["/dev/shm", f"/home/{USER}/state", "/tmp", "/var/tmp"],
        "can": ["UNIX sockets", "bounds of a child", "home", "microphone", "processes of others"],
    },
}


def test_what_the_sandbox_leaves(system: Unit, figure: Figure) -> None:
    system.install()
    system.systemctl("stop edgelid")
    assert system.probed() == SANDBOX["system"]
    told = system.machine.run("systemd-analyze security --no-pager edgelid.service")
    score = re.search(r"Overall exposure level for edgelid.service: ([\d.]+)", told)
    assert score is not None
    assert float(score[1]) <= MAX_EXPOSURE["system"]
    figure(f"systemd-analyze security: {score[1]}")


# Of x86-64, by which the kernel tells them.
TOLD = """\
[Service]
SystemCallFilter=
SystemCallLog=~@system-service
SystemCallLog=@privileged @resources
"""
DOES_WITHOUT = {144: "sched_setscheduler", 237: "mbind", 238: "set_mempolicy"}


def test_the_system_calls_that_are_refused(system: Unit) -> None:
    """Those that the kernel tells once they are told instead of refused."""
    system.install()
    system.systemctl("stop edgelid")
    folder = f"/run/systemd/system/{Path(system.file).name}.d"
    system.machine.run(f"mkdir {folder}")
    system.machine.write(f"{folder}/log.conf", TOLD)
    system.systemctl("daemon-reload")
    system.systemctl("start edgelid")
    system.wait(lambda: system.events("change"))
    system.systemctl("stop edgelid")
    told = system.machine.run("journalctl -q -k -o cat | grep type=1326; rm -r " + folder)
    system.systemctl("daemon-reload")
    assert {int(number) for number in re.findall(r"syscall=(\d+)", told)} == set(DOES_WITHOUT)


def test_the_service_of_a_user(user: Unit, figure: Figure) -> None:
    """It hears a sound server, which has the microphone to itself."""
    user.install()
    user.wait_until_active()
    owner = "$(sed -n 's/owner_pid *: //p' /proc/asound/card0/pcm0c/sub0/status)"
    assert "alsa-source" in user.machine.run(f"cat /proc/{owner}/comm")  # a thread of PulseAudio
    playing = user.machine.start(PLAY)
    user.wait(lambda: len(user.languages()) > 1)
    user.machine.wait(playing)
    assert all("'default': " in line for line in user.journal())
    figure(f"user service: {' '.join(sorted(user.languages()))} heard through PulseAudio")


def test_what_the_sandbox_of_a_user_leaves(user: Unit) -> None:
    user.install()
    user.systemctl("stop edgelid")
    found = user.probed()
    found["writes"] = [folder for folder in found["writes"] if "jack" not in folder]
    assert found == SANDBOX["user"]
