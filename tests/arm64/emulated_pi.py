"""Raspberry Pis without one: Debian's Python and the packages of the device, under qemu.

Nothing is booted: qemu-user runs single programs for ARM, and finds their files in a folder of
Debian packages that are unpacked and not installed. What it computes is what that processor
computes; how long it takes says nothing.

`legacy_environment` is something else: the interpreter of 32-bit ones, tflite-runtime, on this
machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parents[2]
CACHE_VARIABLE = "EDGELID_EMULATION"  # a folder to keep the sysroots in, for the next time
TIMEOUT_S = 900.0  # whatever takes this long hangs
CORES = 4
FILES = "files"  # beside it a folder for each processor, with links to what is in there

QEMU = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}  # by Debian's names of architectures


@dataclass(frozen=True)
class System:
    """Raspberry Pi OS, as far as Python and what it needs.

    Attributes
    ----------
    release, architecture : str
        Debian's.
    python : str
        Its version there.
    packages : tuple of str
        Of Debian, besides Python.
    platforms : tuple of str
        Of the wheels that its C library can load. pip wants each of them by name.
    wheels : tuple of str
        What pip is to install, paths below the checkout.
    links : dict of str to str
        What Debian links when it installs a package, which nobody does here.
    """

    release: str
    architecture: str
    python: str
    packages: tuple[str, ...]
    platforms: tuple[str, ...]
    wheels: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)

    @property
    def debian_packages(self) -> tuple[str, ...]:
        """All of them."""
        return (f"python{self.python}-minimal", f"libpython{self.python}-stdlib", *self.packages)


LIBRARIES = (
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libexpat1",
    "libbz2-1.0",
    "liblzma5",
    "libuuid1",
    "libffi8",
)
WHEEL_PLATFORMS = (
    "manylinux_2_36_aarch64",
    "manylinux_2_34_aarch64",
    "manylinux_2_31_aarch64",
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)
ALL_WHEELS = ("-r", "constraints/edge.txt")

BOOKWORM = System(
    release="bookworm",
    architecture="arm64",
    python="3.11",
    packages=(*LIBRARIES, "libssl3", "libreadline8"),
    platforms=WHEEL_PLATFORMS,
    wheels=ALL_WHEELS,
)
TRIXIE = System(
    release="trixie",
    architecture="arm64",
    python="3.13",
    packages=(*LIBRARIES, "libssl3t64", "libreadline8t64"),
    platforms=WHEEL_PLATFORMS,
    wheels=ALL_WHEELS,
    links={"lib": "usr/lib"},
)
BOOKWORM_32_BIT = System(
    release="bookworm",
    architecture="armhf",
    python="3.11",
    packages=(*LIBRARIES, "libssl3", "python3-numpy"),
    platforms=("manylinux_2_34_armv7l",),
    wheels=("tflite-runtime", "-c", "constraints/edge-legacy.txt"),
    links={
        f"usr/lib/arm-linux-gnueabihf/lib{name}.so.3": f"{name}/lib{name}.so.3"
        for name in ("blas", "lapack")
    },
)


@dataclass(frozen=True)
class Processor:
    """What ``/proc/cpuinfo`` says of a processor.

    Attributes
    ----------
    architecture : str
    features, variant, part, revision : str
    """

    architecture: str
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
            f"CPU architecture: {self.architecture}\n"
            f"CPU variant\t: {self.variant}\n"
            f"CPU part\t: {self.part}\n"
            f"CPU revision\t: {self.revision}\n"
            for core in range(CORES)
        )


# By the names that qemu knows. Not its `max`, which is no processor that there is: int8 results
# are wrong there.
PROCESSORS = {
    # Raspberry Pi 3 and Zero 2 W.
    "cortex-a53": Processor("8", "fp asimd evtstrm crc32 cpuid", "0x0", "0xd03", "4"),
    # Raspberry Pi 4.
    "cortex-a72": Processor("8", "fp asimd evtstrm crc32 cpuid", "0x0", "0xd08", "3"),
    # Raspberry Pi 5.
    "cortex-a76": Processor(
        "8",
        "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc "
        "dcpop asimddp",
        "0x4",
        "0xd0b",
        "1",
    ),
}
# Raspberry Pi 2, the first with a processor that the wheels for 32 bits run on.
PROCESSORS_32_BIT = {
    "cortex-a7": Processor(
        "7",
        "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm",
        "0x0",
        "0xc07",
        "5",
    )
}


@dataclass(frozen=True)
class EmulatedPi:
    """Runs Python as a Raspberry Pi would.

    Attributes
    ----------
    folder : Path
        Of its files.
    system : System
    """

    folder: Path
    system: System

    def python(
        self,
        processor: str,
        *arguments: str | Path,
        qemu: Sequence[str] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with the packages of the device and with this checkout.

        Parameters
        ----------
        processor : str
            One of `PROCESSORS`, or of `PROCESSORS_32_BIT` for a system of those.
        *arguments : str or Path
            Of the interpreter.
        qemu : sequence of str
            More arguments for it.
        variables : mapping of str to str
            More of the environment.
        """
        files = self.folder / FILES
        command: list[str | Path] = [QEMU[self.system.architecture], "-L", self.folder / processor]
        command += ["-cpu", processor, *qemu]
        command += [files / "usr/bin" / f"python{self.system.python}", *arguments]
        # qemu hands its environment on, and most of this machine's would lead astray there.
        env = {
            "PATH": os.environ.get("PATH", os.defpath),  # in which qemu itself is looked for
            "HOME": str(files),
            "LANG": "C.UTF-8",
            "PYTHONPATH": f"{site_packages(files)}:{ROOT}",
            **variables,
        }
        return subprocess.run(
            command,
            env=env,
            check=False,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )


EmulatedPis = Callable[[System], EmulatedPi]


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


def site_packages(files: Path) -> Path:
    """Where the packages of the device are."""
    return files / "opt/edge"


def cache_folder(folder: Path) -> Path:
    """Where to build: there, unless the environment variable `CACHE_VARIABLE` names a folder."""
    folder = Path(os.environ.get(CACHE_VARIABLE) or folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def emulated_pi(folder: Path, system: System = BOOKWORM) -> EmulatedPi:
    """Build the files of a system, or take what an earlier call has built.

    Parameters
    ----------
    folder : Path
        Where to, if `cache_folder` has nothing to say.
    system : System

    Raises
    ------
    RuntimeError
        If Debian's packages or the device's cannot be had.
    """
    folder = cache_folder(folder)
    processors = PROCESSORS if system.architecture == "arm64" else PROCESSORS_32_BIT
    recipe = json.dumps(
        [asdict(system), {name: processor.cpuinfo() for name, processor in processors.items()}]
    )
    constraints = (ROOT / "constraints/edge.txt").read_text()
    digest = hashlib.sha256(f"{recipe}{constraints}".encode()).hexdigest()[:12]
    built = folder / f"{system.release}-{system.architecture}-{digest}"
    with one_at_a_time(built):
        if not built.exists():
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                unfinished = Path(scratch) / "built"
                unfinished.mkdir()
                _unpack_debian(system, unfinished / FILES, Path(scratch) / "debian.tar")
                _install_wheels(system, unfinished / FILES, Path(scratch) / "pip")
                for name, processor in processors.items():
                    _with_processor(unfinished / name, processor)
                unfinished.rename(built)
    return EmulatedPi(built, system)


@contextlib.contextmanager
def one_at_a_time(built: Path) -> Iterator[None]:
    """Let other processes that want to build the same wait until it is there."""
    with built.with_name(f"{built.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unpack_debian(system: System, files: Path, archive: Path) -> None:
    # Into an archive first: only so do all files belong to whoever runs this, root or not.
    options = ["--quiet", "--variant=extract", f"--architectures={system.architecture}"]
    options += [f"--include={','.join(system.debian_packages)}"]
    # Without the updates between point releases: with them, instruction counts would change often.
    only_release = f"/ {system.release}-/d"
    options += [f"--setup-hook=sed -i '{only_release}' \"$1/etc/apt/sources.list\""]
    run("mmdebstrap", *options, system.release, archive)
    files.mkdir()
    run("tar", "-x", "--no-same-owner", "--exclude=./dev/*", "-f", archive, "-C", files)
    archive.unlink()
    for link, target in system.links.items():
        (files / link).symlink_to(target)


def _install_wheels(system: System, files: Path, environment: Path) -> None:
    """Install exactly the versions in ``constraints``."""
    options = [f"--target={site_packages(files)}", "--no-deps", "--no-compile"]
    options += [f"--python-version={system.python}", "--implementation=cp"]
    options += [f"--platform={platform}" for platform in system.platforms]
    python = new_environment(sys.executable, environment)
    wheels = [ROOT / wheel if "/" in wheel else wheel for wheel in system.wheels]
    pip_install(python, *options, *wheels)


def _with_processor(root: Path, processor: Processor) -> None:
    """Make a root of the same files that tells of a processor, as LiteRT looks there.

    The files of this machine tell of another one; with none, XNNPACK is not used.
    """
    (root / "proc").mkdir(parents=True)
    (root / "proc/cpuinfo").write_text(processor.cpuinfo())
    for entry in (root.parent / FILES).iterdir():
        if entry.name not in ("proc", "sys"):
            (root / entry.name).symlink_to(Path("..") / FILES / entry.name)
    processors = root / "sys/devices/system/cpu"
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
