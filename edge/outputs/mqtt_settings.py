"""Settings of the MQTT outlet."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config import ENVIRONMENT_PREFIX, key
from edge.outputs.outlet_settings import OutletSettings

MQTT_PASSWORD_VARIABLE = f"{ENVIRONMENT_PREFIX}MQTT_PASSWORD"


@dataclass(frozen=True)
class MqttSettings(OutletSettings):
    """See `edge.outputs.mqtt`."""

    switch = "mqtt"
    module = "edge.outputs.mqtt"
    variables = frozenset({MQTT_PASSWORD_VARIABLE})

    mqtt: str = key(
        "",
        'Broker to send state and events to: mqtt://HOST[:PORT][/PREFIX] or mqtts://; "" is none. '
        "The prefix of the topics is edgelid/ and the name of this machine, unless given.",
        restart=True,
    )
    mqtt_user: str = key("", 'User at the broker; "" is none.', restart=True)
    mqtt_password_file: str = key(
        "",
        'File whose one line is the password; "" is none, or that of the environment variable '
        f"{MQTT_PASSWORD_VARIABLE}.",
        path=True,
        restart=True,
    )
    mqtt_ca_file: str = key(
        "",
        'Certificates (PEM) of the authorities to trust for mqtts; "" is those of the system.',
        path=True,
        restart=True,
    )
