"""The web page as an outlet: its packages are imported when it is opened, and named if missing."""

from __future__ import annotations

from edge.errors import EdgelidError
from edge.outputs.outlet_settings import Running, Surroundings
from edge.outputs.web.settings import WebSettings


def check(settings: WebSettings) -> None:
    """Nothing: that the address is one shows when the settings are read."""


def open_outlet(settings: WebSettings, surroundings: Surroundings) -> Running:
    """Serve the page.

    Raises
    ------
    EdgelidError
        If a package is missing, or the settings are no good.
    """
    try:
        from edge.outputs.web.server import WebServer
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("edge", ""):
            raise
        raise EdgelidError(
            f"the web page needs the package {error.name}: pip install 'edgelid[web]'."
        ) from error
    assert surroundings.monitor is not None
    return WebServer(settings, surroundings.monitor, surroundings.outlets)
