"""Runs the command in forks of a process that has imported everything already.

What a short run takes is the imports, and tests run it a few hundred times. Each fork is a process
of its own all the same: with its own exit status, descriptors and end.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import edge
from edge.cli import main

# What `edge` imports only when it needs it, of what is slow and always there.
LATE = ("ai_edge_litert.interpreter", "numpy", "soundfile", "soxr")
TIMEOUT_S = 120.0


class Forks:
    """That process, as tests see it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(TIMEOUT_S)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.forks", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # so that what it has started can be ended with it
            )

    def run(
        self,
        arguments: Sequence[str],
        cwd: str | Path | None = None,
        env: dict[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """What `subprocess.run` returns when it captures the output."""
        request = json.dumps([arguments, os.fspath(cwd or Path.cwd()), env])
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(self._ours, [request.encode()], [out.fileno(), err.fileno()])
            status = int(self._ours.recv(16))
            written = []
            for file in (out, err):
                file.seek(0)
                written.append(file.read().decode())
        return subprocess.CompletedProcess(list(arguments), status, *written)

    def close(self) -> None:
        self._ours.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def serve(requests: socket.socket) -> int:
    """Fork at every request; in the forks it returns the exit status of the command."""
    while True:
        message, (*files,), _, _ = socket.recv_fds(requests, 1 << 16, 2)
        if not message:
            return 0
        if (process := os.fork()) == 0:
            requests.close()
            for number, file in enumerate(files, 1):
                os.dup2(file, number)
                os.close(file)
            arguments, cwd, environment = json.loads(message)
            os.chdir(cwd)
            if environment is not None:
                _adopt(environment, arguments)
            sys.argv[1:] = arguments
            return main()
        for file in files:
            os.close(file)
        _, status = os.waitpid(process, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


def _adopt(environment: dict[str, str], arguments: Sequence[str]) -> None:
    """Go on in another environment; if it puts other modules in place of those here, from anew."""
    before = os.environ["PYTHONPATH"].split(os.pathsep)
    folders = [f for f in environment["PYTHONPATH"].split(os.pathsep) if f not in before]
    if any(path.stem in sys.modules for folder in folders for path in Path(folder).glob("*.py")):
        command = [sys.executable, "-m", "edge.cli", *arguments]
        os.execve(sys.executable, command, environment)
    sys.path[:0] = folders
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    for name in (*LATE, *(found.name for found in pkgutil.walk_packages(edge.__path__, "edge."))):
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(name)
    gc.freeze()  # or the end of each fork would look through all that was imported
    sys.exit(serve(socket.socket(fileno=int(sys.argv[1]))))
