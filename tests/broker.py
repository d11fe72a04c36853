"""A real MQTT broker on this machine, with passwords and TLS, that can be killed and started."""

from __future__ import annotations

import contextlib
import getpass
import queue
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.waiting import PATIENCE_S

USER, PASSWORD = "pi", "geheim & süß"
TOOLS = {"mosquitto": "mosquitto", "mosquitto_sub": "mosquitto-clients"}
SBIN = "/usr/sbin"  # which is on root's path alone


def missing_packages() -> list[str]:
    """What apt would have to install."""
    return [package for tool, package in TOOLS.items() if find(tool) is None]


def find(tool: str) -> str | None:
    return shutil.which(tool) or shutil.which(tool, path=SBIN)


class MqttBroker:
    """Mosquitto, for one user, over TLS or without.

    Attributes
    ----------
    tls : bool
    port : int
    ca : Path
        Certificate of who vouches for it.
    password_file : Path
    """

    def __init__(self, folder: Path, tls: bool) -> None:
        self.tls = tls
        self.port = free_port()
        self.ca = folder / "ca.pem"
        self.password_file = folder / "password"
        self._log = folder / "mosquitto.log"
        self._process: subprocess.Popen[bytes] | None = None
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        certificate = authority.issue_cert("localhost")
        certificate.private_key_pem.write_to_path(str(folder / "key.pem"))
        for number, part in enumerate(certificate.cert_chain_pems):
            part.write_to_path(str(folder / "cert.pem"), append=number > 0)
        self.password_file.write_text(PASSWORD + "\n")
        users = folder / "users"
        users.touch(mode=0o600)
        tool = find("mosquitto_passwd")
        assert tool is not None
        subprocess.run([tool, "-b", users, USER, PASSWORD], check=True, timeout=PATIENCE_S)
        lines = [
            f"user {getpass.getuser()}",  # or root's files were closed to it
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous false",
            f"password_file {users}",
            f"log_dest file {self._log}",
            "log_type all",
        ]
        if tls:
            lines += [f"certfile {folder / 'cert.pem'}", f"keyfile {folder / 'key.pem'}"]
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://localhost:{self.port}/test/pi"

    def start(self) -> None:
        program = find("mosquitto")
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-c", self._configuration], stdout=subprocess.DEVNULL
        )
        until_s = time.monotonic() + PATIENCE_S
        while True:
            assert self._process.poll() is None, self._log.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            assert time.monotonic() < until_s
            time.sleep(0.02)

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None

    def published(self, topic: str) -> int:
        """Messages that clients have sent to a topic since the log began."""
        text = self._log.read_text(errors="replace")
        return len(re.findall(rf"Received PUBLISH from \S+ \(.*'{re.escape(topic)}'", text))

    def subscribed(self) -> bool:
        return "Received SUBSCRIBE" in self._log.read_text(errors="replace")


class Subscriber:
    """What another client, Mosquitto's own, gets of all topics, as it comes."""

    def __init__(self, broker: MqttBroker, topic: str = "#") -> None:
        command = [find("mosquitto_sub") or "", "-h", "localhost", "-p", str(broker.port)]
        command += ["-u", USER, "-P", PASSWORD, "-t", topic, "-q", "1", "-F", "%r %t %p"]
        if broker.tls:
            command += ["--cafile", str(broker.ca)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        self._came: queue.Queue[tuple[bool, str, str]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            retained, topic, payload = line.rstrip("\n").split(" ", 2)
            self._came.put((retained == "1", topic, payload))

    def next(self, topic: str, payload: str | None = None) -> tuple[bool, str]:
        """Whether it had been retained, and the next message to a topic (with that payload)."""
        until_s = time.monotonic() + PATIENCE_S
        while True:
            retained, its_topic, its_payload = self._came.get(
                timeout=max(0.0, until_s - time.monotonic())
            )
            if its_topic == topic and payload in (None, its_payload):
                return retained, its_payload

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def running_broker(folder: Path, tls: bool = True) -> Iterator[MqttBroker]:
    broker = MqttBroker(folder, tls)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@contextlib.contextmanager
def subscriber(broker: MqttBroker, topic: str = "#") -> Iterator[Subscriber]:
    running = Subscriber(broker, topic)
    try:
        yield running
    finally:
        running.close()


def free_port() -> int:
    """None of those that a client may get: it could meet itself there while nobody listens."""
    while True:
        port = random.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
