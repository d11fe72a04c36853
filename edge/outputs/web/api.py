"""The HTTP API: what can be asked for, and the answers."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from edge.languages import language_name
from edge.outputs.colours import script
from edge.outputs.monitor import Monitor
from edge.outputs.web.feed import Feed
from edge.outputs.web.metrics import CONTENT_TYPE, Metrics
from edge.outputs.web.snapshot import Snapshots, compact, status_of

ROOT = Path(__file__).parent
MOST_SEGMENTS = 1_000  # in one answer: making one must not keep the thread that listens waiting
JSON = "application/json"
JAVASCRIPT = "text/javascript; charset=utf-8"
COLOURS = "/colours.js"
FILES = {
    "/": ("page/index.html", "text/html; charset=utf-8"),
    "/app.js": ("page/app.js", JAVASCRIPT),
    "/plots.js": ("page/plots.js", JAVASCRIPT),
    "/text.js": ("page/text.js", JAVASCRIPT),
    "/history.js": ("page/history.js", JAVASCRIPT),
    "/style.css": ("page/style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("page/icon.svg", "image/svg+xml"),
    "/api/v1/openapi.json": ("openapi.json", JSON),
}


class Api:
    """Answers, each from what the monitor knows at the moment.

    Parameters
    ----------
    monitor : Monitor
    snapshots : Snapshots
    feed : Feed
    metrics : Metrics
    """

    def __init__(
        self, monitor: Monitor, snapshots: Snapshots, feed: Feed, metrics: Metrics
    ) -> None:
        self._monitor = monitor
        self._snapshots = snapshots
        self._metrics = metrics
        routes = [
            Route(path, _File((ROOT / name).read_bytes(), kind))
            for path, (name, kind) in FILES.items()
        ]
        routes.append(Route(COLOURS, _File(script().encode(), JAVASCRIPT)))
        routes += [
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/api/v1/state", self.state),
            Route("/api/v1/segments", self.segments),
            Route("/api/v1/probabilities", self.probabilities),
            Route("/api/v1/events", feed),
        ]
        self.router = Router(routes, redirect_slashes=False, default=_nothing_there)

    async def health(self, request: Request) -> Response:
        """Whether the program listens, or waits for its microphone."""
        status = status_of(self._monitor)
        return _json({"status": status}, 503 if status == "stuck" else 200)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def state(self, request: Request) -> Response:
        """What is heard now."""
        return Response(self._snapshots.newest(), media_type=JSON)

    async def segments(self, request: Request) -> Response:
        """Segments and gaps that ended after a time, the oldest first."""
        since = _since(request)
        if since is None:
            return _refused()
        # In another order where the clock was set back, or a file is read faster than it plays.
        spans = sorted(self._monitor.spans(since), key=lambda span: span.end)
        rest = len(spans) > MOST_SEGMENTS
        told = [span.as_dict() for span in spans[:MOST_SEGMENTS]]
        return _json({"segments": told, "next": spans[MOST_SEGMENTS - 1].end if rest else None})

    async def probabilities(self, request: Request) -> Response:
        """Probabilities of the last hour, a second apart."""
        since = _since(request)
        if since is None:
            return _refused()
        labels, trends = self._monitor.trends(since)
        points = [[round(time, 3), *values] for time, values in trends]
        names = [language_name(label) for label in labels]
        return _json({"labels": labels, "names": names, "points": points})


class _File:
    """A file that comes along, held in memory; browsers ask whether theirs is still the same."""

    def __init__(self, body: bytes, kind: str) -> None:
        self._body = body
        tag = f'"{hashlib.sha256(self._body).hexdigest()[:16]}"'
        self._headers = {"content-type": kind, "etag": tag, "cache-control": "no-cache"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        same = Request(scope).headers.get("if-none-match") == self._headers["etag"]
        answer = Response(b"" if same else self._body, 304 if same else 200, self._headers)
        await answer(scope, receive, send)


def _json(value: object, status: int = 200) -> Response:
    return Response(compact(value), status, media_type=JSON)


def _refused() -> Response:
    return _json({"error": "since must be seconds since 1970, such as 1764000000.5"}, 400)


def _since(request: Request) -> float | None:
    """The time that is asked for: 0 if none is, None if it is no time."""
    try:
        since = float(request.query_params.get("since", "0"))
    except ValueError:
        return None
    return since if math.isfinite(since) else None


async def _nothing_there(scope: Scope, receive: Receive, send: Send) -> None:
    await _json({"error": "there is nothing here"}, 404)(scope, receive, send)
