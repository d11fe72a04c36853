"""Settings of the web page, its API and the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config import PARENT, key
from edge.outputs.outlet_settings import OutletSettings
from edge.outputs.web.address import problem


@dataclass(frozen=True)
class WebSettings(OutletSettings):
    """See `edge.outputs.web.server`."""

    switch = "web"
    module = "edge.outputs.web.outlet"
    looks_on = True

    web: str = key(
        "",
        'Where to serve the web page, API and metrics: a port, "8080", for this device alone; or '
        'HOST:PORT, as in "0.0.0.0:8080", for its network, which then needs a token; "" is '
        "nowhere.",
        problem,
        restart=True,
    )
    web_token_file: str = key(
        "",
        "File of the token that the web page asks for; if there is none yet, it is made. "
        '"" is a new token at every start, told on standard error, and none on this device alone.',
        path=True,
        folder=PARENT,
        restart=True,
    )
