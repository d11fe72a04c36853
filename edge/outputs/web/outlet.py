"""The web page as an outlet: its packages are imported when it is opened, and named if missing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import ModuleType

from edge.errors import EdgelidError
from edge.outputs.outlet_settings import Running, Surroundings
from edge.outputs.web.address import parse_address
from edge.outputs.web.secret import read_token
from edge.outputs.web.settings import WebSettings


def check(settings: WebSettings) -> None:
    """Find out whether the page could be served; a port that is taken comes free some day.

    Raises
    ------
    EdgelidError
        If a package is missing, the token is no good, or the port is not ours to have.
    """
    server = _server()
    if settings.web_token_file:
        read_token(Path(settings.web_token_file))
    with contextlib.suppress(OSError), server.bound_socket(parse_address(settings.web)):
        pass


def open_outlet(settings: WebSettings, surroundings: Surroundings) -> Running:
    """Serve the page.

    Raises
    ------
    EdgelidError
        If a package is missing, or the settings are no good.
    """
    assert surroundings.monitor is not None
    server: Running = _server().WebServer(settings, surroundings.monitor, surroundings.outlets)
    return server


def _server() -> ModuleType:
    try:
        from edge.outputs.web import server
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("edge", ""):
            raise
        raise EdgelidError(
            f"the web page needs the package {error.name}: pip install 'edgelid[web]'."
        ) from error
    return server
