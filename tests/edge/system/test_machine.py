"""The machine is told from its files, and what they do not say stays unknown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edge.system import machine
from edge.system.machine import describe_machine, memory_bytes, processor_times, read_state

CPU = "sys/devices/system/cpu"
ARM_CORE = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU part\t: {part}

"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def pi(root: Path, parts: tuple[str, ...] = ("0xd08",) * 4) -> Path:
    """Files as on a Raspberry Pi 4."""
    cores = "".join(ARM_CORE.format(number=i, part=part) for i, part in enumerate(parts))
    write(root, "proc/cpuinfo", cores + "Revision\t: c03114\nModel\t\t: Raspberry Pi 4\n")
    write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0")
    write(root, "proc/meminfo", "MemTotal:        3884032 kB\nMemFree:  100 kB\n")
    write(root, "proc/stat", "cpu  100 2 30 4000 50 6 7 8 9 10\ncpu0 25 0 0 0 0 0 0 0 0 0\n")
    write(root, "proc/self/status", "Name:\tpython3\nVmHWM:\t   57000 kB\nVmRSS:\t   51200 kB\n")
    write(root, "etc/os-release", 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    write(root, f"{CPU}/online", "0-3\n")
    for i in range(len(parts)):
        for name, value in (
            ("scaling_governor", "ondemand"),
            ("scaling_cur_freq", str(600_000 if i else 1_800_000)),
            ("cpuinfo_min_freq", "600000"),
            ("cpuinfo_max_freq", "1800000"),
        ):
            write(root, f"{CPU}/cpu{i}/cpufreq/{name}", value + "\n")
    write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write(root, "sys/class/thermal/thermal_zone0/temp", "48312\n")
    write(root, "sys/class/thermal/thermal_zone1/type", "battery\n")
    write(root, "sys/class/thermal/thermal_zone1/temp", "60000\n")
    write(root, machine.PI_THROTTLED, "50005\n")
    return root


def test_a_raspberry_pi(tmp_path: Path) -> None:
    told = describe_machine(pi(tmp_path))
    assert told["board"] == "Raspberry Pi 4 Model B Rev 1.4"
    assert told["cpu"] == "Cortex-A72"
    assert told["cores"] == 4
    assert told["governor"] == "ondemand"
    assert (told["min_frequency_hz"], told["max_frequency_hz"]) == (600_000_000, 1_800_000_000)
    assert told["memory_bytes"] == 3_884_032 * 1024
    assert told["os"] == "Debian GNU/Linux 12 (bookworm)"
    assert told["virtual"] is None  # ARM does not tell
    state = read_state(tmp_path)
    assert state["frequencies_hz"] == [1_800_000_000, 600_000_000, 600_000_000, 600_000_000]
    assert state["temperature_c"] == 48.312
    assert state["throttling"] == ["under_voltage", "throttled"]
    assert state["throttling_since_start"] == ["under_voltage", "throttled"]
    assert state["throttle_events"] is None
    times = processor_times(tmp_path)
    assert times is not None
    tick_s = machine.os.sysconf("SC_CLK_TCK") ** -1
    assert times.busy_s == pytest.approx((100 + 2 + 30 + 6 + 7) * tick_s)
    assert times.stolen_s == pytest.approx(8 * tick_s)
    assert memory_bytes("VmRSS", tmp_path) == 51_200 * 1024
    assert memory_bytes("VmHWM", tmp_path) == 57_000 * 1024


def test_cores_of_two_kinds_and_unknown_ones(tmp_path: Path) -> None:
    told = describe_machine(pi(tmp_path, ("0xd03", "0xd03", "0xd08", "0xfff")))
    assert told["cpu"] == "Cortex-A53, Cortex-A72, implementer 0x41, part 0xfff"


def test_a_machine_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = describe_machine(tmp_path)
    for name in ("board", "cpu", "governor", "min_frequency_hz", "memory_bytes", "os", "virtual"):
        assert told[name] is None, name
    assert set(read_state(tmp_path).values()) == {None}
    assert processor_times(tmp_path) is None
    assert memory_bytes("VmRSS", tmp_path) is None


def test_files_that_say_nonsense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pi(tmp_path)
    for path in list(tmp_path.rglob("*")):
        if path.is_file():
            path.write_bytes(b"\xff\xfe nonsense \n")
    (tmp_path / "proc/meminfo").unlink()
    (tmp_path / "proc/meminfo").mkdir()
    told = describe_machine(tmp_path)
    assert told["cpu"] is told["memory_bytes"] is told["max_frequency_hz"] is told["os"] is None
    assert set(read_state(tmp_path).values()) == {None}
    assert processor_times(tmp_path) is None
    assert memory_bytes("VmHWM", tmp_path) is None


@pytest.fixture
def vcgencmd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The firmware's command, to be written, on a machine without any of its files."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    path = tmp_path / "bin" / "vcgencmd"
    path.touch()
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_firmware_is_asked(vcgencmd: Path, tmp_path: Path) -> None:
    vcgencmd.write_text(
        "#!/bin/sh\n"
        'case "$1" in measure_temp) echo "temp=52.1\'C";; get_throttled) echo throttled=0x80008;; '
        "esac\n"
    )
    state = read_state(tmp_path / "empty")
    assert state["temperature_c"] == 52.1
    assert state["throttling"] == state["throttling_since_start"] == ["soft_temperature_limit"]


@pytest.mark.parametrize(
    "script", ["exec sleep 60", "echo VCHI initialization failed; exit 255", "echo error=1"]
)
def test_firmware_that_does_not_answer(
    vcgencmd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(machine, "VCGENCMD_TIMEOUT_S", 0.3)
    vcgencmd.write_text(f"#!/bin/sh\n{script}\n")
    assert set(read_state(tmp_path / "empty").values()) == {None}


def test_this_machine() -> None:
    told = describe_machine()
    assert told["cores"] >= told["usable_cores"] >= 1
    resident, peak = memory_bytes("VmRSS"), memory_bytes("VmHWM")
    assert resident is not None
    assert peak is not None
    assert resident > 1_000_000
    assert resident <= peak * 1.01  # the kernel counts in batches
