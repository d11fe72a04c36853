"""Instructions that an emulated Raspberry Pi executes, by stage and by whose code they are."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tests.arm64.emulated_pi import EmulatedPi, cache_folder, run

SOURCE = Path(__file__).with_name("counting.c")
GUEST = Path(__file__).with_name("guest_costs.py")

# What would let two runs differ: the order of sets, and threads that wait for work.
VARIABLES = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}

# Part of a path, and whose code it is. Where none fits, it is the system's.
OWNERS = {
    "/ai_edge_litert/": "interpreter",
    "/numpy": "numpy",
    "/bin/python": "python",
    "/lib-dynload/": "python",
}
OTHER_OWNER = "system"


@dataclass(frozen=True)
class Count:
    """Instructions of a task.

    Attributes
    ----------
    regions : list of str
        Of the task; the last of them is what is in no other.
    instructions : dict of (str, str) to float
        By region of the task and owner of the code, for whatever the task counts by.
    versions : dict of str to str
        Of what ran.
    """

    regions: list[str]
    instructions: dict[tuple[str, str], float]
    versions: dict[str, str]

    def of(self, *, region: str | None = None, owner: str | None = None) -> float:
        """Their sum, or only that of a region, of an owner, or both."""
        return sum(
            instructions
            for (in_region, by_owner), instructions in self.instructions.items()
            if region in (None, in_region) and owner in (None, by_owner)
        )


def missing_compiler() -> list[str]:
    """Names of the Debian packages that `counting_plugin` needs and cannot find."""
    found = {
        "gcc": shutil.which("gcc") is not None,
        "libc6-dev": Path("/usr/include/stdio.h").exists(),
    }
    return [package for package, is_there in found.items() if not is_there]


def counting_plugin(folder: Path) -> Path:
    """Compile the plugin for the qemu of this machine, or take what an earlier call compiled.

    Parameters
    ----------
    folder : Path
        Where to, as for :func:`tests.arm64.emulated_pi.emulated_pi`.

    Raises
    ------
    RuntimeError
        If it does not compile.
    """
    told = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, encoding="utf-8")
    version = re.search(r"version (\d+)\.", told.stdout)
    # All that the plugin calls has been in the interface since its first version, which qemu 9
    # refuses.
    interface = 1 if version and int(version[1]) < 9 else 2
    folder = cache_folder(folder)
    digest = hashlib.sha256(SOURCE.read_bytes() + bytes([interface])).hexdigest()[:12]
    plugin = folder / f"counting-{digest}.so"
    if not plugin.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            unfinished = Path(scratch) / plugin.name
            options = ["-O2", "-shared", "-fPIC", f"-DPLUGIN_VERSION={interface}"]
            run("gcc", *options, "-o", unfinished, SOURCE)
            unfinished.rename(plugin)
    return plugin


def count(pi: EmulatedPi, plugin: Path, processor: str, task: str, file: Path) -> Count:
    """Run a task of `guest_costs.py`, and count.

    Parameters
    ----------
    pi : EmulatedPi
    plugin : Path
        What :func:`counting_plugin` made.
    processor, task : str
    file : Path
        What the task is given.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "counted"
        done = pi.python(
            processor,
            GUEST,
            task,
            file,
            qemu=["-plugin", f"file={plugin},output={output}"],
            variables=VARIABLES,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{task} on {processor} failed:\n{done.stdout}{done.stderr}")
        facts = json.loads(done.stdout.splitlines()[-1])
        owners = _Owners(facts["objects"])
        counted: dict[tuple[str, str], float] = defaultdict(float)
        for line in output.read_text().splitlines():
            region, address, instructions = line.split()
            name = facts["regions"][int(region) - 1]
            counted[name, owners.at(int(address, 16))] += int(instructions) / facts["divisor"]
    rest, *regions = facts["regions"]
    return Count([*regions, rest], dict(counted), facts["versions"])


class _Owners:
    """Whose code lies where.

    Parameters
    ----------
    objects : list of [str, str, str]
        Addresses of the beginning and the end, in hexadecimal, and the path.
    """

    def __init__(self, objects: list[list[str]]) -> None:
        self._objects = sorted((int(start, 16), int(end, 16), path) for start, end, path in objects)
        self._starts = [start for start, _, _ in self._objects]

    def at(self, address: int) -> str:
        """Owner of the code at an address."""
        i = bisect_right(self._starts, address) - 1
        if i < 0 or address >= self._objects[i][1]:
            return OTHER_OWNER
        path = self._objects[i][2]
        return next((owner for part, owner in OWNERS.items() if part in path), OTHER_OWNER)
