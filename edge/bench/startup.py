"""Costs of starting the real command: time to its first decision, memory, and disk."""

from __future__ import annotations

import importlib.metadata
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge
from edge.config import foreign_environment
from edge.errors import EdgelidError
from edge.model.interpreter import CANDIDATES

FIRST_DECISION_LIMIT_S = 60.0  # recordings without a decision can be long
REST_LIMIT_S = 10.0  # enough to hear a minute on the smallest devices
END_LIMIT_S = 20.0


@dataclass(frozen=True)
class Start:
    """One run of ``edgelid listen`` on a file; what could not be read is None.

    Attributes
    ----------
    import_s : float
        To import Python packages.
    first_decision_s, first_decision_cpu_s : float or None
        From starting the process to the first change of language that it prints; and processor
        time up to there. None if it decides nothing.
    first_decision_audio_s : float or None
        How much audio that took, which a microphone would still have to hear.
    resident_bytes, peak_bytes : int or None
        Memory when it last printed, with everything loaded, and at most.
    modules : list of str
        Top-level ones that were imported.
    """

    import_s: float
    first_decision_s: float | None
    first_decision_cpu_s: float | None
    first_decision_audio_s: float | None
    resident_bytes: int | None
    peak_bytes: int | None
    modules: list[str]


def listen_once(path: Path, model: Path, threads: int, interpreter: str) -> Start:
    """Listen to a file in a process of its own.

    Parameters
    ----------
    path, model : Path
    threads : int
    interpreter : str
        Distribution of the interpreter.

    Raises
    ------
    EdgelidError
        If the command fails.
    """
    module = next(c.module for c in CANDIDATES if c.distribution == interpreter)
    modules = ",".join(["edge.cli", "edge.listener", "edge.audio.sources", "soundfile", module])
    options = ["--input", str(path), "--model", str(model), "--threads", str(threads)]
    home = str(Path(edge.__file__).parents[1])
    # What its user has set would be measured too, and a hook, a log or a broker would be told.
    environment = {
        **foreign_environment(),
        "PYTHONPATH": os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")])),
    }
    # -P: as with the command, modules in the folder where it is called do not count.
    command = [sys.executable, "-P", "-m", "edge.bench.child", modules, *options]
    start_s = time.perf_counter()
    with _started(command, environment) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], FIRST_DECISION_LIMIT_S)
            line = process.stdout.readline() if ready else b""
            first_s = time.perf_counter() - start_s
            errors = _rest(process)
        except BaseException:
            process.kill()
            raise
    told = [each for each in map(_figures, errors.splitlines()) if each is not None]
    if not told:
        reason = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise EdgelidError(
            f"`edgelid listen` on {str(path)!r} ended with status {process.returncode}, saying "
            f"{reason!r}: run it alone."
        )
    first = json.loads(line) if line else {}
    decided = first.get("type") == "change"
    last = told[-1]
    return Start(
        import_s=last["import_s"],
        first_decision_s=first_s if decided else None,
        first_decision_cpu_s=told[0]["cpu_s"] if decided else None,
        first_decision_audio_s=first["decided_s"] if decided else None,
        resident_bytes=last["resident_bytes"],
        peak_bytes=last["peak_bytes"],
        modules=last["modules"],
    )


def _started(command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        raise EdgelidError(
            f"`edgelid listen` cannot be started ({error.strerror}): see whether "
            f"{sys.executable!r} runs."
        ) from error


def _rest(process: subprocess.Popen[bytes]) -> bytes:
    """Standard error up to the end, which comes soon."""
    try:
        return process.communicate(timeout=REST_LIMIT_S)[1]
    except subprocess.TimeoutExpired:
        process.terminate()  # it finishes its last segment, and tells of it
    try:
        return process.communicate(timeout=END_LIMIT_S)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1]


def _figures(line: bytes) -> dict[str, Any] | None:
    """A line of :mod:`edge.bench.child`; None for a warning of the command."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def installed_bytes(modules: Iterable[str]) -> dict[str, int | None]:
    """Size on disk of the distributions that these modules belong to.

    Parameters
    ----------
    modules : iterable of str
        Top-level. Those of Python itself do not count.

    Returns
    -------
    dict of str to int or None
        By distribution, or by module where it belongs to none; None where that does not say
        which files it has.
    """
    owners = importlib.metadata.packages_distributions()
    sizes: dict[str, int | None] = {"edgelid": _folder_bytes(Path(edge.__file__).parent)}
    for module in sorted(modules):
        if module in sys.stdlib_module_names or module.startswith("__") or module == "edge":
            continue
        for name in owners.get(module, [module]):
            if name not in sizes and not name.startswith("_"):
                sizes[name] = _distribution_bytes(name)
    return sizes


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _distribution_bytes(name: str) -> int | None:
    try:
        files = importlib.metadata.files(name)
        if files is None:
            return None
        return sum(os.stat(file.locate()).st_size for file in files)
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None
