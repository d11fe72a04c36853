"""A 64-bit Raspberry Pi without one: Debian's Python and the packages of the device, under qemu.

Nothing is booted: qemu-user runs single programs for ARM, and finds their files in a folder of
Debian packages that are unpacked and not installed. What it computes is what that processor
computes; how long it takes says nothing.

For the 32-bit one there is `legacy_environment`: its interpreter, tflite-runtime, on this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
CACHE_VARIABLE = "EDGELID_EMULATION"  # a folder to keep the sysroot in, for the next time
TIMEOUT_S = 900.0  # whatever takes this long hangs

RELEASE = "bookworm"
PYTHON = "3.11"  # of that release
DEBIAN_PACKAGES = (
    f"python{PYTHON}-minimal",
    f"libpython{PYTHON}-stdlib",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    "libssl3",
    "libffi8",
    "libreadline8",
)
# What that release's C library can load. pip wants each of them by name.
WHEEL_PLATFORMS = (
    "manylinux_2_36_aarch64",
    "manylinux_2_34_aarch64",
    "manylinux_2_31_aarch64",
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
CORES = 4


@dataclass(frozen=True)
class Processor:
    """What ``/proc/cpuinfo`` says of a processor.

    Attributes
    ----------
    features, variant, part, revision : str
    """

    features: str
    variant: str
    part: str
    revision: str

    def cpuinfo(self) -> str:
        """The file, for all cores."""
        return "\n".join(
            f"processor\t: {core}\n"
            "BogoMIPS\t: 108.00\n"
            f"Features\t: {self.features}\n"
            "CPU implementer\t: 0x41\n"
            "CPU architecture: 8\n"
            f"CPU variant\t: {self.variant}\n"
            f"CPU part\t: {self.part}\n"
            f"CPU revision\t: {self.revision}\n"
            for core in range(CORES)
        )


# By the names that qemu knows. Not its `max`, which is no processor that there is: int8 results
# are wrong there.
PROCESSORS = {
    # Raspberry Pi 3 and Zero 2 W.
    "cortex-a53": Processor("fp asimd evtstrm crc32 cpuid", "0x0", "0xd03", "4"),
    # Raspberry Pi 5.
    "cortex-a76": Processor(
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp",
        "0x4",
        "0xd0b",
        "1",
    ),
}


@dataclass(frozen=True)
class EmulatedPi:
    """Runs Python as a Raspberry Pi would.

    Attributes
    ----------
    sysroot : Path
        Its files.
    """

    sysroot: Path

    def python(self, processor: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Python with the packages of the device and with this checkout, one at a time.

        Parameters
        ----------
        processor : str
            One of `PROCESSORS`.
        *arguments : str or Path
            Of the interpreter.
        """
        # LiteRT reads there where it runs; the file of this machine tells of another processor.
        cpuinfo = self.sysroot / "proc/cpuinfo"
        cpuinfo.write_text(PROCESSORS[processor].cpuinfo())
        command: list[str | Path] = ["qemu-aarch64", "-L", self.sysroot, "-cpu", processor]
        command += [self.sysroot / "usr/bin" / f"python{PYTHON}", *arguments]
        # qemu hands its environment on, and most of this machine's would lead astray there.
        env = {
            "PATH": os.environ.get("PATH", os.defpath),  # in which qemu itself is looked for
            "HOME": str(self.sysroot),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{site_packages(self.sysroot)}:{ROOT}",
        }
        return subprocess.run(
            command,
            env=env,
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )


def missing_packages() -> list[str]:
    """Names of the Debian packages that `emulated_pi` needs and cannot find.

    Returns
    -------
    list of str
        Empty if everything is there.
    """
    found = {
        "mmdebstrap": shutil.which("mmdebstrap") is not None,
        "qemu-user": shutil.which("qemu-aarch64") is not None,
        "python3-venv": makes_environments(sys.executable),
    }
    return [package for package, is_there in found.items() if not is_there]


def site_packages(sysroot: Path) -> Path:
    """Where the packages of the device are."""
    return sysroot / "opt/edge"


def emulated_pi(folder: Path) -> EmulatedPi:
    """Build the sysroot, or take what an earlier call has built.

    Parameters
    ----------
    folder : Path
        Where to, unless the environment variable `CACHE_VARIABLE` names a folder that stays.

    Raises
    ------
    RuntimeError
        If Debian's packages or the device's cannot be had.
    """
    folder = Path(os.environ.get(CACHE_VARIABLE) or folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    sysroot = folder / f"arm64-{_recipe()}"
    if not sysroot.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            unfinished = Path(scratch) / "sysroot"
            _unpack_debian(unfinished, Path(scratch) / "debian.tar")
            _install_wheels(unfinished, Path(scratch) / "pip")
            _describe_processors(unfinished)
            unfinished.rename(sysroot)
    return EmulatedPi(sysroot)


def _recipe() -> str:
    """Identify what the sysroot is made of."""
    constraints = (ROOT / "constraints/edge.txt").read_text()
    recipe = json.dumps([RELEASE, DEBIAN_PACKAGES, WHEEL_PLATFORMS, constraints])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _unpack_debian(sysroot: Path, archive: Path) -> None:
    # Into an archive first: only so do all files belong to whoever runs this, root or not.
    include = f"--include={','.join(DEBIAN_PACKAGES)}"
    options = ["--quiet", "--variant=extract", "--architectures=arm64", include]
    run("mmdebstrap", *options, RELEASE, archive)
    sysroot.mkdir()
    run("tar", "-x", "--no-same-owner", "--exclude=./dev/*", "-f", archive, "-C", sysroot)
    archive.unlink()


def _install_wheels(sysroot: Path, environment: Path) -> None:
    """Install exactly the versions in ``constraints/edge.txt``."""
    options = [f"--target={site_packages(sysroot)}", "--no-deps", "--no-compile"]
    options += [f"--python-version={PYTHON}", "--implementation=cp"]
    options += [f"--platform={platform}" for platform in WHEEL_PLATFORMS]
    python = new_environment(sys.executable, environment)
    pip_install(python, *options, "-r", ROOT / "constraints/edge.txt")


def _describe_processors(sysroot: Path) -> None:
    (sysroot / "proc").mkdir(exist_ok=True)
    processors = sysroot / "sys/devices/system/cpu"
    processors.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (processors / name).write_text(f"0-{CORES - 1}\n")


def python_3_11() -> str | None:
    """A Python 3.11 that can make environments, if there is one; the last with tflite-runtime."""
    for name in (sys.executable, "python3.11"):
        if makes_environments(name, "sys.version_info[:2] == (3, 11)"):
            return name
    return None


def makes_environments(python: str, condition: str = "True") -> bool:
    """Whether a Python is there, can make environments, and fulfils a condition."""
    script = f"import sys, ensurepip, venv; sys.exit(not ({condition}))"
    try:
        asked = subprocess.run([python, "-c", script], capture_output=True, timeout=TIMEOUT_S)
    except OSError:
        return False
    return asked.returncode == 0


def legacy_environment(python: str, folder: Path) -> Path:
    """Make an environment of what 32-bit Raspberry Pi OS has, for this machine.

    Parameters
    ----------
    python : str
        A Python 3.11.
    folder : Path

    Returns
    -------
    Path
        Its interpreter. edgelid itself is not in it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["edge-legacy"]]
    legacy = new_environment(python, folder)
    pip_install(legacy, "-c", ROOT / "constraints/edge-legacy.txt", *wanted)
    return legacy


def new_environment(python: str, folder: Path) -> Path:
    """Make an environment with pip in it, which the one of the tests may not have."""
    run(python, "-m", "venv", folder)
    return folder / "bin/python"


def pip_install(python: Path, *arguments: str | Path) -> None:
    """Install wheels."""
    quietly = ["--quiet", "--disable-pip-version-check", "--no-input"]
    run(python, "-m", "pip", "install", *quietly, "--only-binary=:all:", *arguments)


def run(*command: str | Path) -> None:
    """Run a command.

    Raises
    ------
    RuntimeError
        With what it printed, if it fails.
    """
    # These are meant for the Python of the tests, and the command may be another.
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        command,
        env=env,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}")
