"""The hook: a command that is run when the language changes."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shlex
import shutil
import signal
import string
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from edge.config import ConfigError, foreign_environment
from edge.errors import EdgelidError
from edge.languages import UNKNOWN
from edge.outputs.hook_settings import HookSettings
from edge.outputs.outlet import Outlet
from edge.outputs.outlet_settings import Surroundings
from edge.outputs.timeline import change_of

logger = logging.getLogger(__name__)

FIELDS = ("language", "previous", "confidence", "start_s", "decided_s", "time")
LIMIT_S = 10.0
OUTPUT_BYTES = 2_000  # of what a run writes, for the log; the rest is dropped
LEAVE_S = 0.2  # for a program that is just being started
DIE_S = 5.0  # for one that was killed; one of another user's may not be


def check(settings: HookSettings) -> None:
    """Find out whether the command is one; see `command_words`."""
    command_words(settings.on_change)


def open_outlet(settings: HookSettings, surroundings: Surroundings) -> Hook:
    """Have the command run at every change from now on."""
    return Hook(settings.on_change)


class Hook:
    """Runs a command at every change, one at a time, without a shell.

    Also where an answer ends with the audio, which may be lost: see `change_of`.

    A run is over when its program ends, or is ended after `LIMIT_S`; whatever else it has started
    and not put into a session of its own ends with it.

    Parameters
    ----------
    command : str
        See `command_words`.

    Attributes
    ----------
    name : str
    lost : int
        Changes for which the command was not run, or failed.

    Raises
    ------
    ConfigError
        If it is none.
    """

    name = "on_change"

    def __init__(self, command: str) -> None:
        self._words = command_words(command)
        self._language = UNKNOWN  # what was told last
        self._lock = threading.Lock()  # of the next one
        self._process: subprocess.Popen[bytes] | None = None
        self._ending = threading.Event()
        self._outlet = Outlet(self.name, self._run)

    @property
    def lost(self) -> int:
        return self._outlet.lost

    def put(self, record: dict[str, Any]) -> None:
        """Have the command run if this is a change; never waits."""
        change = change_of(record, self._language)
        if change is not None:
            self._language = change["language"]
            self._outlet.put(change)

    def close(self) -> None:
        """End within a moment, and with it whatever runs."""
        self._outlet.close()
        self._ending.set()
        taken = self._lock.acquire(timeout=LEAVE_S)
        if self._process is not None:
            _kill(self._process)
        if taken:
            self._lock.release()

    def _run(self, record: dict[str, Any]) -> None:
        with self._lock:
            if self._ending.is_set():
                raise EdgelidError("the end came first")
            self._process = process = self._start(record)
        try:
            in_time, output = _watch(process)
        finally:
            with self._lock:
                _kill(process)  # what it has left behind; until it is waited for, the id is its own
                self._process = None
        try:
            status = process.wait(DIE_S)
        except subprocess.TimeoutExpired:
            raise EdgelidError(
                f"{self._words[0]} runs on after {LIMIT_S:g} s and cannot be ended"
            ) from None
        if output:
            logger.info("%s says: %s", self.name, " ".join(output.split()))
        if self._ending.is_set() and status:
            raise EdgelidError(f"the end came before that of {self._words[0]}")
        if not in_time:
            raise EdgelidError(f"{self._words[0]} was ended after {LIMIT_S:g} s")
        if status:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            raise EdgelidError(f"{self._words[0]} ended with {how}")

    def _start(self, record: dict[str, Any]) -> subprocess.Popen[bytes]:
        words = [word.format_map({name: record[name] for name in FIELDS}) for word in self._words]
        try:
            return subprocess.Popen(
                words,
                env=foreign_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        except OSError as error:
            raise EdgelidError(f"{words[0]} cannot be run ({error.strerror})") from error


def command_words(command: str) -> list[str]:
    """Split a command as a shell would, into templates of `str.format`.

    Parameters
    ----------
    command : str
        With fields such as ``{language}`` in any word but the first; braces are doubled.

    Raises
    ------
    ConfigError
        If it is none, or its program does not exist or may not be run.
    """
    try:
        words = [_at_home(word) for word in shlex.split(command)]
        fields = [list(string.Formatter().parse(word)) for word in words]
    except ValueError as error:
        reason = str(error).rstrip(".")
        note = "; a brace is written twice" if "{" in reason or "}" in reason else ""
        raise _unfit(f"cannot be read ({reason}){note}") from error
    if not words:
        raise _unfit("has no program")
    for parts in fields:
        for _, name, form, conversion in parts:
            if name is not None and (name not in FIELDS or form or conversion):
                known = ", ".join(f"{{{field}}}" for field in FIELDS)
                told = (
                    name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
                )
                raise _unfit(f"has {{{told}}}, and only {known} are known")
    if any(name is not None for _, name, _, _ in fields[0]):
        raise _unfit("must not leave the program to the language")
    program = words[0].format()
    if shutil.which(program) is None:
        if "/" in program and Path(program).is_file():
            raise _unfit(f"needs {program!r}, which may not be run: `chmod +x` allows it")
        raise _unfit(f"needs a program {program!r}, which is not there")
    return words


def _at_home(word: str) -> str:
    """The word with ``~`` filled in, as a shell would have done; braces in it are no fields."""
    if not word.startswith("~"):
        return word
    name, slash, rest = word.partition("/")
    home = os.path.expanduser(name)  # noqa: PTH111 - no error where there is none
    return home.replace("{", "{{").replace("}", "}}") + slash + rest


def _unfit(what: str) -> ConfigError:
    return ConfigError([f"the command of on_change {what}."])


def _watch(process: subprocess.Popen[bytes]) -> tuple[bool, str]:
    """Wait for the end of a process; returns whether it came in time, and what was written."""
    assert process.stdout is not None
    output = b""
    until_s = time.monotonic() + LIMIT_S
    ended = os.pidfd_open(process.pid)
    try:
        with process.stdout as pipe, selectors.DefaultSelector() as selector:
            os.set_blocking(pipe.fileno(), False)
            selector.register(ended, selectors.EVENT_READ)
            selector.register(pipe, selectors.EVENT_READ)
            in_time = False
            while not in_time and (left_s := until_s - time.monotonic()) > 0:
                ready = {key.fileobj for key, _ in selector.select(left_s)}
                in_time = ended in ready
                if pipe in ready or in_time:
                    part = _read(pipe.fileno())
                    output = (output + part)[:OUTPUT_BYTES]
                    if not part and not in_time:
                        selector.unregister(pipe)
    finally:
        os.close(ended)
    return in_time, output.decode(errors="replace")


def _read(pipe: int) -> bytes:
    with contextlib.suppress(BlockingIOError):
        return os.read(pipe, 1 << 16)
    return b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill its process group, as long as it has not been waited for.

    One that has become another user, as with sudo, may not be killed, even when it has ended.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
