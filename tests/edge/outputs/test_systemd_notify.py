"""What the service manager is told, by the real command and over real sockets."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.outputs.settings import Settings
from edge.outputs.sinks import Sinks
from edge.outputs.stdout import Output
from edge.outputs.systemd_notify import Notifier
from tests.edge.test_cli import pcm
from tests.waiting import PATIENCE_S


@dataclass
class Manager:
    """The end of systemd: a socket, and what came over it."""

    address: str
    socket: socket.socket

    def received(self) -> list[str]:
        """All there is."""
        found = []
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                found += self.socket.recv(4096).decode().splitlines()
        return found

    def wait_for(self, line: str) -> list[str]:
        """Everything up to a message that begins so."""
        self.socket.settimeout(PATIENCE_S)
        found: list[str] = []
        while not any(entry.startswith(line) for entry in found):
            found += self.socket.recv(4096).decode().splitlines()
        return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with (
        tempfile.TemporaryDirectory() as folder,  # pytest's have names too long for a socket
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        if request.param == "path":
            address = f"{folder}/no@tify"
            receiver.bind(address)
        else:
            address = f"@edgelid-test-{os.getpid()}"
            receiver.bind(f"\0{address[1:]}")
        yield Manager(address, receiver)


def test_messages(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "3600000000"})
    notifier.ready()
    for status in ("de", "de", "en"):
        notifier.status(status)
    for _ in range(3):  # far apart enough for the first only
        notifier.alive()
    before_us = time.monotonic_ns() // 1000
    notifier.reloading()
    notifier.stopping()
    *rest, when, stopping = manager.received()
    assert rest == ["READY=1", "STATUS=de", "STATUS=en", "WATCHDOG=1", "RELOADING=1"]
    assert before_us <= int(when.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    assert stopping == "STOPPING=1"


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "abc"}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}],
)
def test_no_watchdog_unless_it_is_ours(manager: Manager, environment: dict[str, str]) -> None:
    Notifier({"NOTIFY_SOCKET": manager.address, **environment}).alive()
    assert manager.received() == []


def test_the_status_is_no_language_once_the_audio_is_lost(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager.address})
    change = {"type": "change", "language": "de", "time": "2026-11-24T12:00:00.000+00:00"}
    over = {"type": "segment", "language": "de", "end_s": 7.5, "time": "2026-11-24T12:00:05+00:00"}
    with Sinks(Settings(), Output(io.StringIO()), notifier, ("de", "other")) as sinks:
        sinks.record(change)
        sinks.record(over)
    assert manager.received() == [
        "STATUS=de since 2026-11-24T12:00:00.000+00:00",
        "STATUS=unknown since 2026-11-24T12:00:05+00:00",
        "STOPPING=1",
    ]


def test_without_a_manager() -> None:
    for address in ("", "/no/such/socket", "@nobody-listens-here"):
        notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
        notifier.ready()
        notifier.alive()


# --- the command -----------------------------------------------------------------------------


@contextlib.contextmanager
def service(
    environment: dict[str, str], manager: Manager, config: Path, text: str, *options: str
) -> Iterator[subprocess.Popen[bytes]]:
    """``edgelid listen`` as systemd starts it, with raw audio from a pipe."""
    config.write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "listen", "--config", str(config), *options],
        env={**environment, "NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def feed(process: subprocess.Popen[bytes], samples: Float32Array) -> None:
    assert process.stdin is not None
    process.stdin.write(pcm(samples))
    process.stdin.flush()


def end(process: subprocess.Popen[bytes]) -> tuple[list[dict[str, object]], str]:
    """SIGTERM, and what came out: events and messages."""
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGTERM
    return [json.loads(line) for line in output.splitlines()], errors.decode()


PIPE = 'input = "-"\noutput = "json"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "edgelid.toml"


@pytest.mark.slow
def test_ready_alive_status_and_stopping(
    environment: dict[str, str], manager: Manager, config: Path, speech: Float32Array
) -> None:
    with service(environment, manager, config, PIPE) as process:
        # It has started, and hears nothing: not ready, and nothing for the watchdog.
        assert select.select([manager.socket], [], [], 1.5)[0] == []
        feed(process, speech[: 20 * SAMPLE_RATE_HZ])
        told = manager.wait_for("STATUS=en since")
        assert told[0] == "READY=1"
        assert told.count("READY=1") == 1
        assert "WATCHDOG=1" in told
        manager.wait_for("STATUS=es")
        # Stuck, as far as audio goes: the watchdog hears no more.
        time.sleep(0.5)
        manager.received()
        assert select.select([manager.socket], [], [], 1.0)[0] == []
        events, errors = end(process)
        assert manager.received()[-1] == "STOPPING=1"
    assert errors == ""
    assert (events[-1]["type"], events[-1]["end_s"]) == ("segment", 20.0)


def test_a_reload_changes_languages_and_loses_no_audio(
    environment: dict[str, str], manager: Manager, config: Path, speech: Float32Array
) -> None:
    log = config.parent / "events.jsonl"
    with service(environment, manager, config, PIPE) as process:
        feed(process, speech[: 10 * SAMPLE_RATE_HZ])
        manager.wait_for("STATUS=en")
        config.write_text(f'{PIPE}languages = ["zh"]\nlog = "{log.name}"\ndevice = "USB"\n')
        reload(process, manager, speech[10 * SAMPLE_RATE_HZ : 20 * SAMPLE_RATE_HZ])
        # One that is bad leaves everything as it is.
        for bad in ('languages = ["xx"]', "threads = 0", 'model = "none"', 'log = "no/such/log"'):
            config.write_text(PIPE + bad)
            reload(process, manager, speech[:1600])
        feed(process, speech[20 * SAMPLE_RATE_HZ : 60 * SAMPLE_RATE_HZ])
        events, errors = drained_end(process, 60.4)
    segments = [event for event in events if event["type"] == "segment"]
    assert segments[-1]["end_s"] == 60.4
    assert [s["start_s"] for s in segments[1:]] == [s["end_s"] for s in segments[:-1]]
    late = {s["language"] for s in segments if float(str(s["start_s"])) > 20}
    assert late <= {"zh", "other", "unknown", "nonspeech"}
    lines = errors.splitlines()
    assert "only a restart can change device" in lines[0]
    assert len(lines) == 5
    for line, words in zip(
        lines[1:], ("know xx", "threads must be", "none", "cannot be written"), strict=True
    ):
        assert line.startswith("edgelid: the configuration stays as it was: ")
        assert words in line
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert logged[0]["type"] == "start"
    assert 0 < logged[0]["start_s"] <= 20  # where in the stream the log was opened
    assert logged[1:] == events[-len(logged[1:]) :]


def reload(process: subprocess.Popen[bytes], manager: Manager, samples: Float32Array) -> None:
    """SIGHUP, which takes effect with the next block of audio."""
    manager.received()
    process.send_signal(signal.SIGHUP)
    feed(process, samples)
    told = manager.wait_for("RELOADING=1")
    if not any(line == "READY=1" for line in told[told.index("RELOADING=1") :]):
        manager.wait_for("READY=1")


def drained_end(
    process: subprocess.Popen[bytes], heard_s: float
) -> tuple[list[dict[str, object]], str]:
    """The end of the audio instead of a signal, so that all of it has been heard."""
    output, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    events = [json.loads(line) for line in output.splitlines()]
    assert events[-1]["end_s"] == heard_s
    return events, errors.decode()


def said_at(time_s: float, segments: list[dict[str, Any]]) -> str:
    """Language of the segment that covers a moment of the stream."""
    (language,) = (s["language"] for s in segments if s["start_s"] <= time_s < s["end_s"])
    return str(language)


def test_a_reload_of_the_model_goes_on_in_stream_time(
    environment: dict[str, str], manager: Manager, config: Path, speech: Float32Array
) -> None:
    with service(environment, manager, config, PIPE) as process:
        feed(process, speech[: 10 * SAMPLE_RATE_HZ])
        manager.wait_for("STATUS=en")
        config.write_text(f"{PIPE}threads = 2\n")  # another interpreter, as for another model
        reload(process, manager, speech[10 * SAMPLE_RATE_HZ : 20 * SAMPLE_RATE_HZ])
        feed(process, speech[20 * SAMPLE_RATE_HZ : 30 * SAMPLE_RATE_HZ])
        events, errors = drained_end(process, 30.0)
    assert errors == ""
    segments = [event for event in events if event["type"] == "segment"]
    assert [s["start_s"] for s in segments[1:]] == [s["end_s"] for s in segments[:-1]]
    # The reload lies between, at a moment of its own, and what starts anew may guess wrong.
    assert said_at(8.0, segments) == "en"
    assert "es" in {segment["language"] for segment in segments}
    assert said_at(29.0, segments) == "fr"


def test_a_hangup_without_a_file_ends_it(environment: dict[str, str], speech: Float32Array) -> None:
    """As when its terminal is closed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "listen", "--json", "--windows", "--input", "-"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    feed(process, speech[:SAMPLE_RATE_HZ])
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    # Only then its input may end, or that could come first.
    assert process.wait(PATIENCE_S) == -signal.SIGHUP
    process.communicate()
