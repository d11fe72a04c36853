"""The server beside the listener: what fails costs it alone."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from edge.outputs.monitor import Monitor
from edge.outputs.settings import Settings
from edge.outputs.timeline import time_of
from edge.outputs.web import server as server_module
from edge.outputs.web.server import WebServer
from tests.edge.outputs.web.conftest import TIMEOUT_S, Served, serving
from tests.edge.outputs.web.viewers import port_of
from tests.waiting import wait_until

Edgelid = Callable[..., subprocess.CompletedProcess[str]]
CHANGE = {
    "type": "change",
    "language": "de",
    "previous": "unknown",
    "start_s": 0.0,
    "decided_s": 1.0,
    "confidence": 0.5,
    "time": time_of(1_764_000_000.0),
}


@pytest.fixture
def taken() -> socket.socket:
    """A port that someone else has."""
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    return other


def test_a_port_that_is_taken_is_tried_again(
    taken: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "RETRY_S", 0.1)
    port = taken.getsockname()[1]
    with serving(web=str(port)) as running:
        running.put(CHANGE)
        running.put(CHANGE)
        assert running.server.lost == 2
        time.sleep(0.5)
        (line,) = caplog.messages  # however often it is tried
        assert "Address already in use" in line and "listening goes on" in line
        taken.close()
        wait_until(lambda: len(caplog.messages) > 1)
        assert caplog.messages[1] == f"the web page is at http://127.0.0.1:{port}/"
        assert running.ask("/healthz").status == 200


def test_a_port_that_may_not_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:  # root, as whom tests may run, may have any
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refused)
    with pytest.raises(EdgelidError, match="may not have port 80"):
        WebServer(Settings(web="80"), Monitor(), [])


def test_a_host_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    with serving(web="nowhere.invalid:8080") as running:
        assert running.server.lost == 0
        assert "no web page at http://nowhere.invalid:8080/" in caplog.text


def test_it_ends_soon_whoever_watches(served: Served) -> None:
    with served.viewer() as told, served.connected() as silent:
        next(told)
        served.server.close()  # which itself waits no longer than a second
        served.server._thread.join(TIMEOUT_S)
        assert not served.server._thread.is_alive()
        assert silent.recv(1) == b""
    served.put(CHANGE)
    assert served.server.lost == 1


def test_it_sleeps_while_nobody_asks(served: Served) -> None:
    assert served.ask("/").headers["date"].endswith(" GMT")
    status = Path(f"/proc/self/task/{served.server._thread.native_id}/status")

    def sleeps() -> int:
        (found,) = re.findall(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.M)
        return int(found)

    rates = []
    for _ in range(5):  # a busy machine can make it wait for memory, but not all the time
        before, start_s = sleeps(), time.monotonic()
        time.sleep(1.0)
        rates.append((sleeps() - before) / (time.monotonic() - start_s))
        if rates[-1] <= 4:
            break
    assert rates[-1] <= 4, rates


def test_what_fails_within_is_told_once(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(served.monitor, "now", lambda: 1 // 0)
    for _ in range(3):
        assert served.ask("/api/v1/state").status == 500
    (line,) = [message for message in caplog.messages if "failed" in message]
    assert "/api/v1/state failed (ZeroDivisionError" in line
    assert served.ask("/").status == 200


# --- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--web", "x"), "--web: must be a port, or host and port"),
        (("--web", "65536"), "must be a port, or host and port"),
    ],
)
def test_what_is_refused(
    edgelid: Edgelid, sample: Path, options: tuple[str, ...], words: str
) -> None:
    done = edgelid("listen", "--input", sample, *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr


def test_a_package_that_is_missing(
    edgelid: Edgelid, sample: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('gone', name='uvicorn')")
    path = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = edgelid(
        "listen", "--input", sample, "--web", "0", env={**environment, "PYTHONPATH": path}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "edgelid: the web page needs the package uvicorn: pip install 'edgelid[web]'.\n"
    )


def test_a_taken_port_does_not_stop_the_command(
    edgelid: Edgelid, sample: Path, taken: socket.socket
) -> None:
    plain = edgelid("listen", "--input", sample)
    done = edgelid("listen", "--input", sample, "--web", str(taken.getsockname()[1]))
    assert (done.returncode, done.stdout) == (0, plain.stdout)
    assert done.stderr.count("\n") == 1
    assert "Address already in use" in done.stderr


def test_the_timeline_survives_a_restart(
    sample: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    log, errors = tmp_path / "events.jsonl", tmp_path / "errors"

    def run(*options: str) -> subprocess.Popen[str]:
        with errors.open("w") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "edge.cli", "listen", "--log", str(log), *options],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                text=True,
            )

    first = run("--input", str(sample))
    assert first.wait(timeout=TIMEOUT_S) == 0
    with log.open("a") as file:
        file.write('{"type": "segment"}\n[]\n{"ty')  # of a hand, and of a power cut
    second = run("--input", "-", "--web", "0")
    try:
        port = port_of(second, errors)
        served = Served(_At(port), Monitor())  # type: ignore[arg-type]
        names = [span["name"] for span in served.ask("/api/v1/segments").json["segments"]]
        assert {"en", "es", "fr", "zh", "it"} <= set(names)
        second.send_signal(signal.SIGTERM)
        assert second.stdin is not None
        second.stdin.close()
        assert second.wait(timeout=TIMEOUT_S) == -signal.SIGTERM
    finally:
        second.kill()
        second.wait()


class _At:
    """Stands for a server of another process: where it is."""

    def __init__(self, port: int) -> None:
        self.address = server_module.parse_address(str(port))
