"""A real broker gets state, events and last will, whatever happens to it meanwhile."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("paho.mqtt", reason="needs paho-mqtt")
pytest.importorskip("trustme", reason="needs trustme")

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import NONSPEECH
from edge.outputs.mqtt import Mqtt
from edge.outputs.mqtt_settings import MQTT_PASSWORD_VARIABLE
from edge.outputs.outlet import CAPACITY
from edge.outputs.settings import Settings
from tests.broker import (
    PASSWORD,
    USER,
    MqttBroker,
    Subscriber,
    free_port,
    missing_packages,
    running_broker,
    subscriber,
)
from tests.waiting import PATIENCE_S, wait_until

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(
        bool(missing_packages()), reason=f"needs from apt: {' '.join(missing_packages())}"
    ),
]
LABELS = ("de", "en", "other", "nonspeech")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[MqttBroker]:
    with running_broker(tmp_path) as running:
        yield running


def settings(broker: MqttBroker, **others: str) -> Settings:
    given = {
        "mqtt": broker.url,
        "mqtt_user": USER,
        "mqtt_password_file": str(broker.password_file),
        "mqtt_ca_file": str(broker.ca) if broker.tls else "",
    }
    return Settings(**{**given, **others})


@contextlib.contextmanager
def sending(to: Settings) -> Iterator[Mqtt]:
    outlet = Mqtt(to, LABELS)
    try:
        yield outlet
    finally:
        outlet.close()


def change(language: str, number: int = 0) -> dict[str, Any]:
    return {
        "type": "change",
        "language": language,
        "previous": "unknown",
        "start_s": 1.0,
        "decided_s": 3.0,
        "confidence": 0.75,
        "time": f"2026-11-24T12:00:00.{number:03d}+00:00",
    }


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_state_events_availability_and_discovery(broker: MqttBroker) -> None:
    with subscriber(broker) as seen:
        wait_until(broker.subscribed)
        with sending(settings(broker)) as outlet:
            assert seen.next("test/pi/availability") == (False, "online")
            state = json.loads(seen.next("test/pi/state")[1])
            assert (state["language"], state["confidence"]) == ("unknown", 0.0)
            outlet.put({"type": "window"})
            outlet.put(change("de"))
            told = json.loads(seen.next("test/pi/state")[1])
            assert told == {
                "language": "de",
                "name": "German",
                "since": "2026-11-24T11:59:58.000+00:00",
                "confidence": 0.75,
            }
            assert json.loads(seen.next("test/pi/event")[1]) == change("de")
            with subscriber(broker) as late:
                assert late.next("test/pi/availability") == (True, "online")
            with subscriber(broker, "homeassistant/#") as late:
                (topic,) = {t for t in outlet_topics(broker) if t.endswith("/language/config")}
                retained, config = late.next(topic)
                assert retained
                assert json.loads(config)["state_topic"] == "test/pi/state"
        assert seen.next("test/pi/availability") == (False, "offline")
        assert outlet.lost == 0
    with subscriber(broker) as late:
        assert late.next("test/pi/availability") == (True, "offline")


def outlet_topics(broker: MqttBroker) -> list[str]:
    from edge.outputs.mqtt import broker_of, discovery

    return list(discovery(broker_of(broker.url).prefix, [*LABELS]))


def test_a_password_of_the_environment_without_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(MQTT_PASSWORD_VARIABLE, PASSWORD)
    with running_broker(tmp_path, tls=False) as broker:
        with sending(settings(broker, mqtt_password_file="")) as outlet:
            outlet.put(change("en"))
            wait_until(lambda: broker.published("test/pi/event"))
        assert warnings(caplog) == []  # it stays on this machine


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"mqtt_user": "someone"}, "refuses (Not authorized): check mqtt_user and its password"),
        ({"mqtt_user": "", "mqtt_password_file": ""}, "refuses (Not authorized)"),
        ({"mqtt_ca_file": ""}, "is not trusted (unable to get local issuer certificate)"),
        ({"mqtt": "mqtts://127.0.0.1:PORT"}, "IP address mismatch"),
        ({"mqtt": "mqtt://localhost:PORT", "mqtt_ca_file": ""}, "hangs up: check host, port"),
        ({"mqtt": "mqtts://localhost:CLOSED"}, "cannot be reached (Connection refused)"),
        ({"mqtt": "mqtts://nowhere.invalid"}, "there is no host nowhere.invalid"),
    ],
)
def test_what_keeps_it_from_connecting_is_said_once(
    broker: MqttBroker, others: dict[str, str], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    ports = {"PORT": str(broker.port), "CLOSED": str(free_port())}
    for name, port in ports.items():
        others = {key: value.replace(name, port) for key, value in others.items()}
    before_s = time.monotonic()
    with sending(settings(broker, **others)) as outlet:
        for number in range(3):
            outlet.put(change("de", number))
        wait_until(lambda: warnings(caplog))
        # A second attempt, at least, which says nothing.
        while time.monotonic() - before_s < 2.5:
            time.sleep(0.05)
    # The system may find another reason for the next attempt, which is said once as well.
    told = warnings(caplog)
    assert len(set(told)) == len(told)
    (warning,) = (each for each in told if words in each)
    assert warning.startswith("mqtt: ")
    assert warning.endswith("; it is tried again")
    assert PASSWORD not in caplog.text


def test_two_with_one_prefix_find_out(broker: MqttBroker, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> list[str]:
        return [line for line in warnings(caplog) if "does a second edgelid" in line]

    with sending(settings(broker)), sending(settings(broker)):
        wait_until(told)
        before = len(warnings(caplog))
        time.sleep(5.0)
        assert len(warnings(caplog)) <= before + 3  # of the other one, and no more for ever
    assert "send below 'test/pi'" in told()[0]
    assert len(told()) <= 2


def test_a_broker_that_is_killed_and_comes_again(
    broker: MqttBroker, caplog: pytest.LogCaptureFixture
) -> None:
    with sending(settings(broker)) as outlet:
        outlet.put(change("de"))
        wait_until(lambda: broker.published("test/pi/event") == 1)
        broker.kill()
        wait_until(lambda: warnings(caplog))
        sent = CAPACITY + 44
        for number in range(sent):
            outlet.put(change("en" if number % 2 else "de", number))
        # One of them is in the hand of the thread that sends.
        wait_until(lambda: outlet.lost in (sent - CAPACITY, sent - CAPACITY - 1))
        lost = outlet.lost
        broker.start()
        with subscriber(broker, "test/pi/state") as late:
            wait_until(lambda: '"en"' in late.next("test/pi/state")[1])
        wait_until(lambda: broker.published("test/pi/event") >= 1 + sent - lost)
        outlet.put(change("other"))
        wait_until(lambda: broker.published("test/pi/event") >= 2 + sent - lost)
        assert outlet.lost == lost
    told = warnings(caplog)
    assert told[0] == f"mqtt: localhost:{broker.port} has gone; it is tried again"
    assert any("events are lost" in line for line in told)
    assert any("is connected again" in line for line in told)
    assert f"mqtt: events get through again; {lost} were lost" in told


def listening(
    environment: dict[str, str], folder: Path, broker: MqttBroker
) -> subprocess.Popen[bytes]:
    """`edgelid listen` for raw audio, set up by a file; events also go to a file."""
    config = folder / "edgelid.toml"
    config.write_text(
        f'input = "-"\noutput = "json"\nmqtt = "{broker.url}"\nmqtt_user = "{USER}"\n'
        f'mqtt_password_file = "{broker.password_file}"\nmqtt_ca_file = "{broker.ca}"\n'
    )
    command = [sys.executable, "-m", "edge.cli", "listen", "--config", str(config)]
    with (folder / "events").open("wb") as events:
        return subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=events,
            stderr=subprocess.PIPE,
        )


def test_listening_goes_on_while_the_broker_is_away(
    environment: dict[str, str], tmp_path: Path, broker: MqttBroker, speech: Float32Array
) -> None:
    """The same answers as without, and the state is right once the broker is there again."""
    pcm = np.rint(speech * 32767).clip(-32768, 32767).astype("<i2")
    process = listening(environment, tmp_path, broker)
    assert process.stdin is not None
    events = tmp_path / "events"
    try:
        # Each part ends well within a passage, so that its language is the state that stays.
        parts = np.split(pcm, [20 * SAMPLE_RATE_HZ, 40 * SAMPLE_RATE_HZ])
        with subscriber(broker, "test/pi/state") as seen:
            process.stdin.write(parts[0].tobytes())
            process.stdin.flush()
            wait_for_state(seen, "es")
        broker.kill()
        process.stdin.write(parts[1].tobytes())
        process.stdin.flush()
        wait_until(lambda: '"change", "language": "zh"' in events.read_text())
        broker.start()
        process.stdin.write(parts[2].tobytes())
        process.stdin.flush()
        with subscriber(broker, "test/pi/state") as late:
            wait_for_state(late, "en")
        _, complaints = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0
    records = [json.loads(line) for line in events.read_text().splitlines()]
    segments = [r for r in records if r["type"] == "segment" and r["confidence"] > 0.7]
    spoken = [r["language"] for r in segments if r["language"] != NONSPEECH]  # but for pauses
    assert spoken == ["en", "es", "fr", "zh", "it", "pt", "en"]
    # Whether an attempt falls into the time between, or the end comes before the last event has
    # been acknowledged, is up to the machine.
    lines = complaints.decode().splitlines()
    assert "has gone" in lines[0]
    assert [line for line in lines[1:] if "is connected again" in line]
    assert all(line.startswith("edgelid: mqtt: ") for line in lines)


def wait_for_state(seen: Subscriber, language: str) -> None:
    while json.loads(seen.next("test/pi/state")[1])["language"] != language:
        pass


def test_the_last_will(
    environment: dict[str, str], tmp_path: Path, broker: MqttBroker, speech: Float32Array
) -> None:
    process = listening(environment, tmp_path, broker)
    try:
        with subscriber(broker, "test/pi/availability") as seen:
            assert seen.next("test/pi/availability", "online")
            process.send_signal(signal.SIGKILL)
            assert seen.next("test/pi/availability", "offline")
    finally:
        process.kill()
        process.communicate()
