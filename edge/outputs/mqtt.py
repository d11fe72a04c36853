"""The MQTT outlet: events and the present language for a broker, and so for Home Assistant.

The client's own thread keeps the connection, and tries again for ever where there is none. An
event counts as delivered once the broker has acknowledged it; the next one waits until then, and
the queue for all of them is that of an `Outlet`. The state is no event: only the newest counts.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import os
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from edge import __version__
from edge.config import ConfigError
from edge.errors import EdgelidError
from edge.languages import UNKNOWN, language_name
from edge.outputs.mqtt_settings import MQTT_PASSWORD_VARIABLE, MqttSettings
from edge.outputs.outlet import Outlet
from edge.outputs.outlet_settings import Surroundings
from edge.outputs.stdout import json_text
from edge.outputs.timeline import change_of, seconds_of, time_of
from edge.system.regular import check_regular

if TYPE_CHECKING:
    from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessageInfo
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

logger = logging.getLogger(__name__)

PORTS = {"mqtt": 1883, "mqtts": 8883}
CONNECT_S = 10.0
KEEPALIVE_S = 30  # a broker that says nothing for 1.5 times this takes us for dead
RETRY_S = (1, 60)  # the first wait, which doubles up to the second
# A broker lets one client of a name in, and throws out the one before. Two of us with one prefix
# have one name, and do so to each other for ever: so many connections, one after the other, then
# have ended so soon. They may last for as long as the other one waits.
BRIEF_S, BRIEF_ENDS = 1.5 * RETRY_S[1], 3
LEAVE_S = 0.2  # for the last message
DISCOVERY = "homeassistant"  # the prefix that Home Assistant listens to by default
# Under which systemd hands the password to the service; see `edge.service.unit`.
CREDENTIAL = "mqtt-password"
MAX_FILE_BYTES = 1 << 16
MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True)
class Broker:
    """Where to send to.

    Attributes
    ----------
    host : str
    port : int
    tls : bool
    prefix : str
        Of all topics.
    """

    host: str
    port: int
    tls: bool
    prefix: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether what is sent stays on this machine."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def broker_of(url: str) -> Broker:
    """What a URL says.

    Parameters
    ----------
    url : str
        ``mqtt://HOST[:PORT][/PREFIX]`` or ``mqtts://``.

    Raises
    ------
    ConfigError
        If it is none; never with the URL in it, as there may be a password in that.
    """
    if "@" in url:
        raise ConfigError(
            [
                "mqtt must be a URL without user and password: they belong in mqtt_user and "
                f"mqtt_password_file (or the environment, {MQTT_PASSWORD_VARIABLE})."
            ]
        )
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        host.encode("idna")
        url.encode()  # the command line and the environment may hold any bytes
    except ValueError:  # of which UnicodeError is one
        parts, host, port = urlsplit(""), "", None
    prefix = unquote(parts.path).strip("/")
    fits = parts.scheme in PORTS and host and port != 0 and not parts.query and not parts.fragment
    # An empty query or fragment is in the URL alone.
    fits = fits and not any(letter in url for letter in "?#")
    if not fits or any(letter in "+#\0" for letter in prefix) or len(prefix) > 200:
        raise ConfigError(
            [
                "mqtt must be mqtt://HOST[:PORT][/PREFIX] or mqtts://, with neither + nor # in "
                f"the prefix, not {url!r}."
            ]
        )
    tls = parts.scheme == "mqtts"
    return Broker(host, port or PORTS[parts.scheme], tls, prefix or f"edgelid/{_host_name()}")


def check(settings: MqttSettings) -> None:
    """Find out whether the settings for MQTT can be used, apart from the broker itself.

    Raises
    ------
    ConfigError, EdgelidError
    """
    broker = broker_of(settings.mqtt)
    _tls_context(settings, broker)
    _password(settings)
    _paho()


def open_outlet(settings: MqttSettings, surroundings: Surroundings) -> Mqtt:
    """Begin to send to the broker."""
    return Mqtt(settings, surroundings.labels)


class Mqtt:
    """Sends to a broker, and lets Home Assistant discover the language as a sensor.

    Topics below the prefix: ``state``, retained; ``event``, every event but windows;
    ``availability``, retained, ``online`` or ``offline``, of which the latter is the last will.

    Parameters
    ----------
    settings : MqttSettings
    labels : tuple of str
        What the language may be.

    Attributes
    ----------
    name : str
    lost : int
        Events that the broker did not get.

    Raises
    ------
    ConfigError
        If something about the settings cannot work.
    EdgelidError
        If paho-mqtt is missing.
    """

    name = "mqtt"

    def __init__(self, settings: MqttSettings, labels: tuple[str, ...]) -> None:
        self._broker = broker = broker_of(settings.mqtt)
        self._labels = [*labels, UNKNOWN]
        self._changed = threading.Condition()  # of everything below
        self._state = _state(UNKNOWN, time.time(), 0.0)
        self._told_state: dict[str, Any] | None = None
        self._online = False
        self._ending = False
        self._acknowledged: set[int] = set()
        self._troubles: set[str] = set()  # since the last connection
        self._online_since_s = 0.0
        self._brief_ends = 0  # connections in a row that ended soon
        self._contested = False  # and that has been told
        self._client = self._open(settings)
        self._outlet = Outlet(self.name, self._send)
        self._client.connect_async(broker.host, broker.port, KEEPALIVE_S)
        self._client.loop_start()

    @property
    def lost(self) -> int:
        return self._outlet.lost

    def put(self, record: dict[str, Any]) -> None:
        """Hand over an event; never waits."""
        if record["type"] == "window":
            return
        with self._changed:
            self._state = following_state(self._state, record)
        self._outlet.put(record)

    def close(self) -> None:
        """Take leave of the broker, if that is quickly done."""
        self._outlet.close()
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            online = self._online
        if online:
            last = self._publish("availability", "offline", qos=1)
            with self._changed:
                self._changed.wait_for(lambda: last.mid in self._acknowledged, LEAVE_S)
        self._client.disconnect()  # not joined: its thread may be looking for a name, for long

    # --- of the outlet's thread ---------------------------------------------------------------

    def _send(self, record: dict[str, Any]) -> None:
        """Send an event, and wait until the broker has it.

        Raises
        ------
        EdgelidError
            If the end comes first.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._online or self._ending)
            if not self._online:
                raise EdgelidError(f"{self._broker} did not come before the end")
        self._tell_state()
        # Should the connection end here, the client sends it again over the next one.
        number = self._publish("event", json_text(record), qos=1, retain=False).mid
        with self._changed:
            self._changed.wait_for(lambda: number in self._acknowledged or self._ending)
            if number not in self._acknowledged:
                raise EdgelidError(f"{self._broker} did not answer before the end")
            self._acknowledged.clear()  # nobody else waits
        self._settle()

    def _settle(self) -> None:
        """Say so once a connection lasts that was contested."""
        with self._changed:
            lasts = self._online and time.monotonic() - self._online_since_s > BRIEF_S
            if not (self._contested and lasts):
                return
            self._contested, self._brief_ends = False, 0
        self._client.reconnect_delay_set(*RETRY_S)
        logger.warning("mqtt: %s keeps the connection again", self._broker)

    # --- of either ----------------------------------------------------------------------------

    def _tell_state(self, anew: bool = False) -> None:
        """Send the state, if it is another than the broker has."""
        with self._changed:
            state = self._state
            if state == self._told_state and not anew:
                return
            self._told_state = state
            more = state["language"] not in self._labels  # of a model that came by a reload
            if more:
                self._labels.append(state["language"])
        if anew or more:
            for topic, payload in discovery(self._broker.prefix, self._labels).items():
                self._client.publish(topic, json_text(payload), retain=True)
        # Not to be sent again by the client, which could overtake a newer one.
        self._publish("state", json_text(state))

    def _publish(
        self, topic: str, payload: str, qos: int = 0, retain: bool = True
    ) -> MQTTMessageInfo:
        return self._client.publish(f"{self._broker.prefix}/{topic}", payload, qos, retain)

    # --- of the client's thread ---------------------------------------------------------------

    def _open(self, settings: MqttSettings) -> Client:
        _paho()
        from paho.mqtt.client import Client, MQTTv311
        from paho.mqtt.enums import CallbackAPIVersion

        broker = self._broker
        context, password = _tls_context(settings, broker), _password(settings)
        client = Client(
            CallbackAPIVersion.VERSION2, f"edgelid-{device_id(broker.prefix)}", protocol=MQTTv311
        )
        client.connect_timeout = CONNECT_S
        client.reconnect_delay_set(*RETRY_S)
        client.will_set(f"{broker.prefix}/availability", "offline", qos=1, retain=True)
        if context is not None:
            client.tls_set_context(context)
        if settings.mqtt_user:
            client.username_pw_set(settings.mqtt_user, password)
        if password is not None and context is None and not broker.is_here:
            logger.warning("mqtt: the password can be read on its way to %s: use mqtts", broker)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    def _on_connect(
        self, client: Client, _: Any, flags: ConnectFlags, code: ReasonCode, more: Properties | None
    ) -> None:
        if code.is_failure:
            hint = "check mqtt_user and its password" if "uthori" in str(code) else "see its log"
            self._tell_trouble(f"{self._broker} refuses ({code}): {hint}")
            return
        self._publish("availability", "online")
        self._tell_state(anew=True)
        with self._changed:
            self._online = True
            self._online_since_s = time.monotonic()
            self._changed.notify_all()
            was_trouble = bool(self._troubles) and not self._contested
            self._troubles.clear()
        if was_trouble:
            logger.warning("mqtt: %s is connected again", self._broker)

    def _on_connect_fail(self, client: Client, _: Any) -> None:
        error = sys.exception()  # the client calls this where it handles it
        self._tell_trouble(trouble(error, self._broker))

    def _on_disconnect(
        self,
        client: Client,
        _: Any,
        flags: DisconnectFlags,
        code: ReasonCode,
        more: Properties | None,
    ) -> None:
        with self._changed:
            online, self._online = self._online, False
            if online:
                brief = time.monotonic() - self._online_since_s < BRIEF_S
                self._brief_ends = self._brief_ends + 1 if brief else 0
            told, self._contested = self._contested, self._brief_ends >= BRIEF_ENDS
        if self._contested:
            client.reconnect_delay_set(RETRY_S[1], RETRY_S[1])
            if online and not told:
                self._tell_trouble(
                    f"{self._broker} ends one connection after another: does a second edgelid "
                    f"send below {self._broker.prefix!r}, or a copy of this machine? Give each a "
                    "prefix of its own (mqtt://HOST/PREFIX)"
                )
        elif online:
            client.reconnect_delay_set(*RETRY_S)
            self._tell_trouble(f"{self._broker} has gone")
        elif not self._troubles:
            self._tell_trouble(f"{self._broker} hangs up: check host, port, and mqtt or mqtts")

    def _on_publish(
        self, client: Client, _: Any, number: int, code: ReasonCode, more: Properties
    ) -> None:
        with self._changed:
            self._acknowledged.add(number)
            self._changed.notify_all()

    def _tell_trouble(self, sentence: str) -> None:
        """Say what is wrong, once for as long as it is."""
        with self._changed:
            if self._ending or sentence in self._troubles:
                return
            self._troubles.add(sentence)
        logger.warning("mqtt: %s; it is tried again", sentence)


def _paho() -> None:
    """Raise an error where the package is missing."""
    try:
        import paho.mqtt.client  # noqa: F401
    except ImportError as error:
        raise EdgelidError(
            'paho-mqtt is missing, which MQTT needs: pip install "edgelid[mqtt]".'
        ) from error


def following_state(state: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The state after an event."""
    change = change_of(record, state["language"])
    if change is None:
        return state
    since = seconds_of(change["time"]) - (change["decided_s"] - change["start_s"])
    return _state(change["language"], since, change["confidence"])


def _state(language: str, since: float, confidence: float) -> dict[str, Any]:
    return {
        "language": language,
        "name": language_name(language),
        "since": time_of(since),
        "confidence": confidence,
    }


def discovery(prefix: str, labels: list[str]) -> dict[str, dict[str, Any]]:
    """Configuration messages of Home Assistant's sensors, by topic."""
    identity = device_id(prefix)
    host = _host_name()
    common = {
        "availability_topic": f"{prefix}/availability",
        "device": {
            "identifiers": [identity],
            "name": f"edgelid {host}" if host in prefix else f"edgelid {prefix}",
            "manufacturer": "edgelid",
            "model": "Spoken language identification",
            "sw_version": __version__,
        },
        "origin": {"name": "edgelid", "sw_version": __version__},
    }
    state = {"state_topic": f"{prefix}/state"}
    sensors: dict[str, dict[str, Any]] = {
        "sensor/language": {
            **common,
            **state,
            "name": "Language",
            "value_template": "{{ value_json.name }}",
            "json_attributes_topic": f"{prefix}/state",
            "device_class": "enum",
            "options": list(dict.fromkeys(map(language_name, labels))),
            "icon": "mdi:translate",
        },
        "sensor/confidence": {
            **common,
            **state,
            "name": "Confidence",
            "value_template": "{{ (value_json.confidence * 100) | round(0) }}",
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "icon": "mdi:gauge",
            "entity_category": "diagnostic",
        },
        "binary_sensor/availability": {
            **{key: common[key] for key in ("device", "origin")},
            "name": "Listening",
            "state_topic": f"{prefix}/availability",
            "payload_on": "online",
            "payload_off": "offline",
            "device_class": "running",
            "entity_category": "diagnostic",
        },
    }
    messages = {}
    for name, sensor in sensors.items():
        kind, key = name.split("/")
        topic = f"{DISCOVERY}/{kind}/edgelid-{identity}/{key}/config"
        messages[topic] = {"unique_id": f"edgelid-{identity}-{key}", **sensor}
    return messages


def device_id(prefix: str) -> str:
    """The same for this device and prefix at every start, and telling nothing of either."""
    try:
        machine = MACHINE_ID.read_text().strip()
    except OSError:
        machine = ""
    secret = machine or socket.gethostname()
    return hmac.digest(secret.encode(), f"edgelid {prefix}".encode(), hashlib.sha256).hex()[:16]


def trouble(error: BaseException | None, broker: Broker) -> str:
    """What an attempt to connect has met, for a person."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = (error.verify_message or str(error)).rstrip(".")
        return f"the certificate of {broker} is not trusted ({reason}): see mqtt_ca_file"
    if isinstance(error, ssl.SSLError):
        return f"TLS with {broker} fails ({error.reason or error}): is it a port for mqtts?"
    if isinstance(error, socket.gaierror):
        return f"there is no host {broker.host} ({error.strerror})"
    if isinstance(error, TimeoutError):
        return f"{broker} does not answer"
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return f"{broker} cannot be reached ({reason})"


def _tls_context(settings: MqttSettings, broker: Broker) -> ssl.SSLContext | None:
    file = settings.mqtt_ca_file
    if not broker.tls:
        if file:
            raise ConfigError(["mqtt_ca_file is for mqtts: leave it out, or use that."])
        return None
    try:
        if file:
            check_regular(Path(file))
        return ssl.create_default_context(cafile=file or None)
    except EdgelidError as error:
        raise ConfigError([f"mqtt_ca_file: {error}"]) from error
    except ssl.SSLError as error:
        raise ConfigError([f"mqtt_ca_file: {file!r} holds no certificate in PEM."]) from error
    except OSError as error:
        raise ConfigError([f"mqtt_ca_file: {file!r} cannot be read ({error.strerror})."]) from error


def _password(settings: MqttSettings) -> str | None:
    """From the service manager, a file or the environment, in this order."""
    given = os.environ.get(MQTT_PASSWORD_VARIABLE)
    if settings.mqtt_password_file:
        handed = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / CREDENTIAL
        given = _read_password(handed if handed.exists() else Path(settings.mqtt_password_file))
    if given is not None and not settings.mqtt_user:
        raise ConfigError(["a password for MQTT needs a user: set mqtt_user."])
    # A file of either is UTF-8 already.
    for name, text in (("mqtt_user", settings.mqtt_user), (MQTT_PASSWORD_VARIABLE, given or "")):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ConfigError([f"{name} is no text in UTF-8: check how it was typed."]) from None
    return given


def _read_password(file: Path) -> str:
    try:
        check_regular(file)
        with file.open("rb") as opened:
            text = opened.read(MAX_FILE_BYTES).decode("utf-8-sig").rstrip("\r\n")
    except EdgelidError as error:
        raise ConfigError([f"mqtt_password_file: {error}"]) from error
    except OSError as error:
        raise ConfigError(
            [f"mqtt_password_file: {str(file)!r} cannot be read ({error.strerror})."]
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"mqtt_password_file: {str(file)!r} is no text."]) from error
    if not text or "\n" in text or "\0" in text:
        raise ConfigError([f"mqtt_password_file: {str(file)!r} must hold one line, the password."])
    return text


def _host_name() -> str:
    """Of this machine, as a level of a topic."""
    name = socket.gethostname().partition(".")[0]
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name) or "-"
