"""Facts about this machine and its state, read from the system; None where it does not say.

Every reader takes the root of the file system, so that another machine's can be told from a copy
of its files.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path("/")
VCGENCMD_TIMEOUT_S = 2.0

# MIDR parts (Arm's reference manuals of the cores): implementer, part.
ARM_CORES = {
    (0x41, 0xB76): "ARM1176",  # Pi 1, Zero
    (0x41, 0xC07): "Cortex-A7",  # Pi 2
    (0x41, 0xD03): "Cortex-A53",  # Pi 3, Zero 2
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",  # Pi 4
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",  # Pi 5
    (0x41, 0xD0C): "Neoverse-N1",
}
# Zones of the processor, as Pis, other boards and PCs call them.
CPU_ZONES = ("cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp")
# Bits of the Pi firmware's `get_throttled`; those 16 places higher: since it was switched on.
THROTTLE_BITS = {
    "under_voltage": 0,
    "frequency_capped": 1,
    "throttled": 2,
    "soft_temperature_limit": 3,
}
PI_THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"


@dataclass(frozen=True)
class State:
    """What changes while a machine works.

    Attributes
    ----------
    frequencies_hz : list of int or None
        Of every processor.
    temperature_c : float or None
        Of the processor, or of the hottest part if none is called so.
    throttling : list of str or None
        What holds the processor back now: names of `THROTTLE_BITS`.
    throttling_since_start : list of str or None
        What has held it back at some time since it was switched on.
    throttle_events : int or None
        Times that an x86 processor slowed down for its temperature, since it was switched on.
    """

    frequencies_hz: list[int] | None
    temperature_c: float | None
    throttling: list[str] | None
    throttling_since_start: list[str] | None
    throttle_events: int | None


@dataclass(frozen=True)
class Times:
    """Seconds of processor time since the machine started, over all processors.

    Attributes
    ----------
    busy_s : float
        Spent on anything but waiting, whoever asked for it.
    stolen_s : float
        In which a virtual machine was not given a processor that it wanted.
    """

    busy_s: float
    stolen_s: float


def describe_machine(root: Path = ROOT) -> dict[str, Any]:
    """What stays the same: board, processor, memory, system, Python."""
    cpuinfo = _cpuinfo(root)
    limits_khz = [
        [_integer(path) for path in _cpu_files(root, f"cpufreq/cpuinfo_{end}_freq")]
        for end in ("min", "max")
    ]
    lowest, highest = ([value for value in each if value is not None] for each in limits_khz)
    return {
        "board": _text(root / "proc/device-tree/model")
        or _text(root / "sys/firmware/devicetree/base/model")
        or cpuinfo.get("Model"),
        "cpu": _cpu(cpuinfo, root),
        "architecture": platform.machine(),
        "cores": _cores(root),
        "usable_cores": len(os.sched_getaffinity(0)),
        "governor": _joined(_text(p) for p in _cpu_files(root, "cpufreq/scaling_governor")),
        "min_frequency_hz": 1000 * min(lowest) if lowest else None,
        "max_frequency_hz": 1000 * max(highest) if highest else None,
        "memory_bytes": _memory(root),
        "virtual": "hypervisor" in cpuinfo["flags"].split() if "flags" in cpuinfo else None,
        "os": _os_name(root),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def read_state(root: Path = ROOT) -> dict[str, Any]:
    """Frequency, temperature and throttling at this moment: the fields of :class:`State`."""
    flags = _throttled(root)
    events = [_integer(p) for p in _cpu_files(root, "thermal_throttle/core_throttle_count")]
    counted = [count for count in events if count is not None]
    return asdict(
        State(
            frequencies_hz=_frequencies(root),
            temperature_c=_temperature(root),
            throttling=_set_bits(flags, 0),
            throttling_since_start=_set_bits(flags, 16),
            throttle_events=sum(counted) if counted else None,
        )
    )


def processor_times(root: Path = ROOT) -> Times | None:
    """Processor time of the whole machine, from ``/proc/stat``."""
    line = (_text(root / "proc/stat") or "").partition("\n")[0].split()
    try:
        if line[0] != "cpu":
            return None
        # user, nice, system, idle, iowait, irq, softirq, steal; guests are in user and nice.
        ticks = [int(value) for value in line[1:9]]
        user, nice, system, _, _, irq, softirq, steal = ticks
    except (ValueError, IndexError):
        return None
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    return Times((user + nice + system + irq + softirq) * tick_s, steal * tick_s)


def memory_bytes(name: str, root: Path = ROOT) -> int | None:
    """Memory of this process: ``VmRSS``, now resident, or ``VmHWM``, the most that was."""
    found = re.search(
        rf"^{name}:\s+(\d+) kB$", _text(root / "proc/self/status") or "", re.MULTILINE
    )
    return 1024 * int(found[1]) if found else None


def _text(path: Path) -> str | None:
    """Contents of a small file of the system; None if there is none, or nothing in it."""
    try:
        # Device trees end their strings with a zero byte.
        return path.read_text(encoding="utf-8", errors="replace").strip(" \n\t\0") or None
    except OSError:
        return None


def _integer(path: Path, base: int = 10) -> int | None:
    try:
        return int(_text(path) or "", base)
    except ValueError:
        return None


def _cpu_files(root: Path, name: str) -> list[Path]:
    """The file of that name of every processor that has one, in their order."""
    folders = (root / "sys/devices/system/cpu").glob("cpu[0-9]*")
    return [
        folder / name
        for folder in sorted(folders, key=lambda folder: int(folder.name[3:]))
        if (folder / name).exists()
    ]


def _joined(values: Iterator[str | None]) -> str | None:
    """The different ones among the values."""
    return ", ".join(dict.fromkeys(value for value in values if value)) or None


def _cpuinfo(root: Path) -> dict[str, str]:
    """First value of every key."""
    told: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        told.setdefault(key.strip(), value.strip())
    return told


def _cpu(cpuinfo: dict[str, str], root: Path) -> str | None:
    """Name of the processor; of ARM, which tells numbers, of its cores."""
    text = _text(root / "proc/cpuinfo") or ""
    implementers = re.findall(r"^CPU implementer\s*:\s*(0x[0-9a-f]+)", text, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*:\s*(0x[0-9a-f]+)", text, re.MULTILINE)
    cores = [(int(i, 16), int(p, 16)) for i, p in zip(implementers, parts, strict=False)]
    if not cores:
        return cpuinfo.get("model name")
    names = (ARM_CORES.get(c, f"implementer {c[0]:#x}, part {c[1]:#x}") for c in cores)
    return _joined(iter(names))


def _cores(root: Path) -> int | None:
    """Processors online, from a list such as ``0-3`` or ``0,2-3``."""
    text = _text(root / "sys/devices/system/cpu/online") or ""
    try:
        ends = [[int(end) for end in part.split("-")] for part in text.split(",")]
    except ValueError:
        return os.cpu_count()
    return sum(end[-1] - end[0] + 1 for end in ends)


def _memory(root: Path) -> int | None:
    found = re.match(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "")
    return 1024 * int(found[1]) if found else None


def _os_name(root: Path) -> str | None:
    text = _text(root / "etc/os-release") or ""
    found = re.search(r"^PRETTY_NAME=[\"']?(.*?)[\"']?$", text, re.MULTILINE)
    return found[1] if found else None


def _frequencies(root: Path) -> list[int] | None:
    governed = [_integer(path) for path in _cpu_files(root, "cpufreq/scaling_cur_freq")]
    found = [1000 * khz for khz in governed if khz is not None]
    if not found:  # virtual machines have no cpufreq; x86 also tells here
        told = re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _text(root / "proc/cpuinfo") or "", re.M)
        found = [round(float(mhz) * 1e6) for mhz in told]
    return found or None


def zone_temperature_c(root: Path = ROOT) -> float | None:
    """Temperature of the processor, or of the hottest part, as the kernel has it."""
    zones: dict[str, float] = {}
    for folder in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        millidegrees = _integer(folder / "temp")
        if millidegrees is not None:
            zones.setdefault(_text(folder / "type") or folder.name, millidegrees / 1000)
    for name in CPU_ZONES:
        if name in zones:
            return zones[name]
    return max(zones.values(), default=None)


def _temperature(root: Path) -> float | None:
    if (told_c := zone_temperature_c(root)) is not None:
        return told_c
    found = re.search(r"temp=([\d.]+)", _vcgencmd("measure_temp") or "")
    return float(found[1]) if found else None


def _throttled(root: Path) -> int | None:
    flags = _integer(root / PI_THROTTLED, 16)
    if flags is None:
        found = re.search(r"throttled=(0x[0-9a-fA-F]+)", _vcgencmd("get_throttled") or "")
        flags = int(found[1], 16) if found else None
    return flags


def _set_bits(flags: int | None, shift: int) -> list[str] | None:
    if flags is None:
        return None
    return [name for name, bit in THROTTLE_BITS.items() if flags >> (bit + shift) & 1]


def _vcgencmd(question: str) -> str | None:
    """What the firmware of a Pi says; None where there is none to ask, or it does not answer."""
    try:
        done = subprocess.run(
            ["vcgencmd", question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=VCGENCMD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
