"""What is sent to a broker, and what settings cannot be; a real one is in test_broker.py."""

from __future__ import annotations

import io
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.config import ConfigError
from edge.errors import EdgelidError
from edge.outputs import mqtt
from edge.outputs.mqtt import Mqtt, broker_of, check, device_id, discovery, following_state
from edge.outputs.mqtt_settings import MQTT_PASSWORD_VARIABLE
from edge.outputs.outlet import CAPACITY
from edge.outputs.settings import Settings
from edge.outputs.sinks import Sinks
from edge.outputs.stdout import Output
from edge.outputs.systemd_notify import Notifier
from tests.waiting import wait_until

Edgelid = Callable[..., subprocess.CompletedProcess[str]]
LABELS = ["de", "en", "other", "nonspeech", "unknown"]


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "prefix"),
    [
        ("mqtt://broker", "broker", 1883, False, None),
        ("mqtts://broker.local/", "broker.local", 8883, True, None),
        ("mqtts://10.0.0.7:8884/home/hall", "10.0.0.7", 8884, True, "home/hall"),
        ("mqtt://[::1]:1883/a%20b/", "::1", 1883, False, "a b"),
    ],
)
def test_urls(url: str, host: str, port: int, tls: bool, prefix: str | None) -> None:
    broker = broker_of(url)
    assert (broker.host, broker.port, broker.tls) == (host, port, tls)
    assert broker.prefix == (prefix or f"edgelid/{socket.gethostname().partition('.')[0]}")


@pytest.mark.parametrize(
    "url",
    [
        "broker",
        "http://broker",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://broker:0",
        "mqtt://broker:99999",
        "mqtt://broker:x",
        "mqtt://broker/a+b",
        "mqtt://broker/a%23",
        "mqtt://broker/a#b",
        "mqtt://broker/a#",
        "mqtt://broker/#",
        "mqtt://broker/a?",
        "mqtt://broker/a?b",
        "mqtt://.broker",
        "mqtt://[::1",
        f"mqtt://{'x' * 64}",
        f"mqtt://broker/{'x' * 201}",
        "mqtt://broker/caf\udce9",  # Latin-1, as the command line hands it over
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(ConfigError, match="mqtt must be mqtt://HOST") as failure:
        broker_of(url)
    assert len(failure.value.problems) == 1


@pytest.mark.parametrize(
    "url", ["mqtts://pi:geheim@broker", "mqtt:/pi:geheim@broker", "mqtts://pi:geheim@broker:x/"]
)
def test_a_password_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="mqtt_password_file") as failure:
        broker_of(url)
    assert "geheim" not in str(failure.value)
    assert failure.value.__cause__ is None


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """That work, if there were a broker."""
    (tmp_path / "password").write_text("geheim\n")
    return Settings(
        mqtt="mqtts://localhost/test",
        mqtt_user="pi",
        mqtt_password_file=str(tmp_path / "password"),
    )


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"mqtt_user": ""}, "needs a user: set mqtt_user"),
        ({"mqtt_user": "caf\udce9"}, "mqtt_user is no text in UTF-8"),
        ({"mqtt_password_file": "/none"}, "mqtt_password_file: '/none' cannot be read"),
        ({"mqtt_password_file": "/dev/null"}, "mqtt_password_file: '/dev/null' is no regular"),
        ({"mqtt_password_file": "/dev/zero"}, "mqtt_password_file: '/dev/zero' is no regular"),
        ({"mqtt_ca_file": "/dev/zero"}, "mqtt_ca_file: '/dev/zero' is no regular file"),
        ({"mqtt_ca_file": "/none"}, "mqtt_ca_file: '/none' cannot be read"),
        ({"mqtt_ca_file": __file__}, "holds no certificate in PEM"),
        ({"mqtt": "mqtt://localhost", "mqtt_ca_file": "/none"}, "mqtt_ca_file is for mqtts"),
    ],
)
def test_settings_that_cannot_work(settings: Settings, others: dict[str, str], words: str) -> None:
    check(settings)
    with pytest.raises(ConfigError, match=words):
        check(replace(settings, **others))


def test_the_password_comes_from_the_service_manager_the_file_or_the_environment(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MQTT_PASSWORD_VARIABLE, "of the environment")
    assert mqtt._password(replace(settings, mqtt_password_file="")) == "of the environment"
    assert mqtt._password(settings) == "geheim"
    handed = tmp_path / "credentials"
    handed.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(handed))
    assert mqtt._password(settings) == "geheim"
    (handed / mqtt.CREDENTIAL).write_text("handed over")
    assert mqtt._password(replace(settings, mqtt_password_file="/closed")) == "handed over"


def test_a_password_of_the_environment_may_be_any_bytes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MQTT_PASSWORD_VARIABLE, "gehe\udcefm")
    check(settings)  # as a file has it
    with pytest.raises(ConfigError, match=f"{MQTT_PASSWORD_VARIABLE} is no text") as failure:
        check(replace(settings, mqtt_password_file=""))
    assert "gehe" not in str(failure.value)


def test_the_package_is_missing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(EdgelidError, match=r'pip install "edgelid\[mqtt\]"'):
        Mqtt(settings, ("de",))


def test_a_password_that_others_can_read_is_warned_of(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    # An address that is for documentation, and nowhere.
    Mqtt(replace(settings, mqtt="mqtt://192.0.2.1"), ("de",)).close()
    assert "the password can be read on its way to 192.0.2.1:1883: use mqtts" in caplog.text
    assert "geheim" not in caplog.text


def test_nobody_waits_for_a_broker_that_is_not_there(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{closed.getsockname()[1]}"
        outlet = Mqtt(replace(settings, mqtt=url), ("de",))
        for _ in range(2 * CAPACITY):
            outlet.put(change("de"))
        assert outlet.lost in (CAPACITY, CAPACITY - 1)  # the sending thread may have one in hand
        wait_until(lambda: "Connection refused" in caplog.text)
        outlet.close()
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sorted(warning.split("(")[0] for warning in warnings) == [
        "mqtt: 127.0.0.1:PORT cannot be reached ".replace("PORT", url.rpartition(":")[2]),
        "mqtt: events are lost ",
    ]


class _Client:
    """Remembers how long it is told to wait, and sends nothing."""

    def __init__(self) -> None:
        self.waits_s: list[tuple[float, float]] = []

    def reconnect_delay_set(self, *wait_s: float) -> None:
        self.waits_s.append((wait_s[0], wait_s[1]))

    def disconnect(self) -> None:
        """Be none already."""

    def publish(self, *_: Any, **__: Any) -> Any:
        return self

    mid = 1


def test_a_broker_that_hangs_up_again_and_again_is_told_once(
    settings: Settings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where a second one has our name; the real one is in test_broker.py."""
    monkeypatch.setattr("paho.mqtt.client.Client.loop_start", lambda _: None)
    outlet = Mqtt(replace(settings, mqtt="mqtts://127.0.0.1:1/home/hall"), ("de",))
    client: Any = _Client()
    outlet._client = client
    caplog.clear()
    clock_s = 0.0
    monkeypatch.setattr(mqtt.time, "monotonic", lambda: clock_s)

    class Success:
        is_failure = False

    code: Any = Success()
    for _ in range(20):
        outlet._on_connect(client, None, code, code, None)
        clock_s += 1.5
        outlet._on_disconnect(client, None, code, code, None)
    lines = [line for line in caplog.messages if "events" not in line]
    assert [line.split(" ")[2] for line in lines] == ["has", "is", "has", "is", "ends"]
    assert "does a second edgelid send below 'home/hall'" in lines[-1]
    assert client.waits_s[-1] == (60, 60)
    outlet._on_connect(client, None, code, code, None)
    clock_s += 100.0
    outlet._settle()
    assert caplog.messages[-1].endswith("keeps the connection again")
    assert client.waits_s[-1] == mqtt.RETRY_S
    monkeypatch.undo()
    outlet.close()


def change(language: str) -> dict[str, Any]:
    return {
        "type": "change",
        "language": language,
        "start_s": 10.0,
        "decided_s": 12.5,
        "confidence": 0.625,
        "time": "2026-11-24T12:00:00.000+00:00",
    }


def segment(language: str) -> dict[str, Any]:
    time = "2026-11-24T12:00:01.000+00:00"
    return {"type": "segment", "language": language, "end_s": 7.5, "time": time}


def test_the_state_follows_changes_and_ends_with_the_audio() -> None:
    start = mqtt._state("unknown", 0.0, 0.0)
    state = following_state(start, change("de"))
    assert state == {
        "language": "de",
        "name": "German",
        "since": "2026-11-24T11:59:57.500+00:00",
        "confidence": 0.625,
    }
    assert following_state(state, segment("unknown")) == state  # which this one has ended
    assert following_state(state, {"type": "level"}) == state
    over = following_state(state, segment("de"))
    assert (over["language"], over["since"]) == ("unknown", "2026-11-24T12:00:01.000+00:00")
    assert following_state(start, segment("unknown")) == start


# Of Home Assistant's documentation of MQTT sensor, binary sensor and discovery. These names are
# what it reads; it refuses a message with others.
COMMON_KEYS = {
    "availability", "availability_mode", "availability_template", "availability_topic",
    "default_entity_id", "device", "device_class", "enabled_by_default", "encoding",
    "entity_category", "entity_picture", "expire_after", "force_update", "icon",
    "json_attributes_template", "json_attributes_topic", "name", "object_id", "origin",
    "payload_available", "payload_not_available", "platform", "qos", "state_topic", "unique_id",
    "value_template",
}  # fmt: skip
KEYS = {
    "sensor": COMMON_KEYS
    | {
        "last_reset_value_template",
        "options",
        "state_class",
        "suggested_display_precision",
        "unit_of_measurement",
    },
    "binary_sensor": COMMON_KEYS | {"off_delay", "payload_off", "payload_on"},
}
REQUIRED_KEYS = {"state_topic", "unique_id", "device", "origin"}
DEVICE_KEYS = {
    "configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model",
    "model_id", "name", "serial_number", "suggested_area", "sw_version", "via_device",
}  # fmt: skip
ORIGIN_KEYS = {"name", "sw_version", "support_url"}


def test_discovery_is_what_home_assistant_documents() -> None:
    messages = discovery("home/hall", LABELS)
    assert len(messages) == 3
    assert len({message["unique_id"] for message in messages.values()}) == 3
    for topic, message in messages.items():
        prefix, kind, node, key, last = topic.split("/")
        assert (prefix, last) == ("homeassistant", "config")
        assert all(part.replace("-", "").isalnum() for part in (node, key))
        assert KEYS[kind] >= set(message) >= REQUIRED_KEYS
        assert DEVICE_KEYS >= set(message["device"]) >= {"identifiers", "name"}
        assert ORIGIN_KEYS >= set(message["origin"]) >= {"name"}
        assert message["device"] == next(iter(messages.values()))["device"]
        # An `enum` has options and neither unit nor class of state.
        assert ("options" in message) == (message.get("device_class") == "enum")
        assert not ("options" in message and {"unit_of_measurement", "state_class"} & set(message))
    language, confidence, availability = messages.values()
    assert language["options"] == ["German", "English", "other language", "no speech", "not sure"]
    assert language["state_topic"] == confidence["state_topic"] == "home/hall/state"
    assert language["availability_topic"] == availability["state_topic"] == "home/hall/availability"


def test_home_assistant_is_offered_what_the_model_was_taught_from_the_start(
    tmp_path: Path,
) -> None:
    """The model itself, which need not be there any more, is not read for that."""
    settings = Settings(mqtt="mqtt://127.0.0.1:1/home", model=str(tmp_path / "none.tflite"))
    with Sinks(settings, Output(io.StringIO()), Notifier(), ("de", "eo", "other")) as sinks:
        (outlet,) = sinks._outlets
        assert isinstance(outlet, Mqtt)
        assert outlet._labels == ["de", "eo", "other", "unknown"]


def test_the_identity_is_lasting_and_tells_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = "0123456789abcdef0123456789abcdef"
    (tmp_path / "machine-id").write_text(machine + "\n")
    monkeypatch.setattr(mqtt, "MACHINE_ID", tmp_path / "machine-id")
    identity = device_id("a")
    assert identity == device_id("a") != device_id("b")
    assert len(identity) == 16
    assert machine[:8] not in str(discovery("a", LABELS))
    monkeypatch.setattr(mqtt, "MACHINE_ID", tmp_path / "none")
    assert device_id("a") not in (identity, "")


def test_a_language_of_another_model_becomes_known(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a reload: its sensor would refuse a value that is none of its options."""
    outlet = Mqtt(replace(settings, mqtt="mqtt://127.0.0.1:9"), ("de",))
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        outlet._client, "publish", lambda topic, text, *_, **__: told.append((topic, text))
    )
    outlet.put(change("sw"))
    outlet._tell_state()
    assert [topic.split("/")[-1] for topic, _ in told] == ["config"] * 3 + ["state"]
    assert '"Swahili"' in told[0][1]
    outlet.close()


# --- the command -----------------------------------------------------------------------------


def test_no_password_on_the_command_line(edgelid: Edgelid, sample: Path) -> None:
    done = edgelid("listen", "--input", sample, "--mqtt", "mqtts://pi:geheim@broker")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr
    assert "password" not in edgelid("listen", "--help").stdout


def test_config_check_finds_what_is_wrong(edgelid: Edgelid, tmp_path: Path) -> None:
    file = tmp_path / "edgelid.toml"
    file.write_text('mqtt = "mqtts://broker"\nmqtt_password_file = "none"\nmqtt_user = "pi"\n')
    done = edgelid("config", "check", file)
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert f"{tmp_path / 'none'}" in done.stderr
