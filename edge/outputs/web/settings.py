"""What the web page, its API and the metrics take."""

from __future__ import annotations

from dataclasses import dataclass

from edge.config import PARENT, key
from edge.errors import EdgelidError
from edge.outputs.outlet_settings import OutletSettings, Running, Surroundings
from edge.outputs.web.address import problem


@dataclass(frozen=True)
class WebSettings(OutletSettings):
    """See `edge.outputs.web.server`."""

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

    def asked_for(self) -> bool:
        return bool(self.web)

    def open(self, surroundings: Surroundings) -> Running:
        try:
            from edge.outputs.web.server import WebServer
        except ImportError as error:
            if (error.name or "").partition(".")[0] in ("edge", ""):
                raise
            raise EdgelidError(
                f"the web page needs the package {error.name}: pip install 'edgelid[web]'."
            ) from error
        assert surroundings.monitor is not None
        return WebServer(self, surroundings.monitor, surroundings.outlets)
