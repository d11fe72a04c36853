"""Access control: the checks that every request passes first, and headers of every answer."""

from __future__ import annotations

import hmac
import json
import logging
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.outputs.web.api import COLOURS, FILES
from edge.outputs.web.connection import HEAD_BYTES

logger = logging.getLogger(__name__)

TARGET_BYTES = 1_024
# Without a path, a cookie is for what lies below the address of the page: behind a proxy, that may
# be one path of many.
_COOKIE_FLAGS = f"Max-Age={30 * 86_400}; HttpOnly; SameSite=Strict"
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# What the page is made of tells nothing: anyone may have it, and a health check needs no secret.
# These are listed, and not what is private: an address that is only nearly one of those might be
# taken for it by what answers.
PUBLIC_PATHS = frozenset({*FILES, COLOURS, "/healthz"})

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "microphone=(), camera=(), geolocation=()",
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
_NO_STORE = (b"cache-control", b"no-store")


class Guard:
    """Lets requests through to an application, or refuses them.

    Parameters
    ----------
    app : ASGI application
    token : str or None
        What has to be known for anything but the page's own files; None asks for nothing.
    host : str or None
        The one that has to be asked for, or one of `LOOPBACK_NAMES`: a page of a stranger's, whose
        name was made to point here, asks for that name. None lets any be asked for.
    """

    def __init__(self, app: ASGIApp, token: str | None, host: str | None) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._host = host
        self._hosts = None if host is None else LOOPBACK_NAMES | {host.lower()}
        self._failed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
        if (refusal := self._refusal(scope, headers)) is not None:
            await _answer(send, *refusal)
        elif (given := _given_token(scope)) is not None:
            await self._welcome(given, headers, send)
        elif scope["path"] not in PUBLIC_PATHS and not self._knows_token(headers):
            more = [(b"www-authenticate", b"Bearer")]
            await _answer(send, 401, "this needs the token of the page", more)
        else:
            # Else it would end a month after it was first given, even one that is in use.
            anew = scope["path"] == "/" and self._has_cookie(headers)
            await self._pass(scope, receive, send, [self._cookie(headers)] if anew else [])

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> Any:
        if scope["method"] not in ("GET", "HEAD"):
            more = [(b"allow", b"GET, HEAD"), (b"connection", b"close")]
            return 405, "only reading is possible", more
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return 413, "a request has no content here", [(b"connection", b"close")]
        if len(scope["raw_path"]) + len(scope["query_string"]) > TARGET_BYTES:
            return 414, "the address is too long", []
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            return 431, "the headers are too long", []
        host = headers.get("host", "")
        if self._hosts is not None and _without_port(host).lower() not in self._hosts:
            return 421, f"ask for {self._host}", []
        if not scope["path"].isprintable():  # a route leaves a line feed at its end unseen
            return 404, "there is nothing here", []
        return None

    async def _welcome(self, given: str, headers: dict[str, str], send: Send) -> None:
        """Take the token out of the address, where histories keep it, into a cookie."""
        if self._token is None:
            more = [(b"location", b"./")]
        elif hmac.compare_digest(given.encode(), self._token):
            more = [(b"location", b"./"), self._cookie(headers)]
        else:
            await _answer(send, 401, "this is not the token of the page")
            return
        await _answer(send, 303, "see the page", more)

    def _knows_token(self, headers: dict[str, str]) -> bool:
        if self._token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self._token)
        return self._has_cookie(headers)

    def _has_cookie(self, headers: dict[str, str]) -> bool:
        given = _cookies(headers).get(_cookie_name(headers))
        if self._token is None or given is None:
            return False
        return hmac.compare_digest(given.encode(), self._token)

    def _cookie(self, headers: dict[str, str]) -> tuple[bytes, bytes]:
        """The header that has a browser keep the token."""
        name, token = _cookie_name(headers), (self._token or b"").decode()
        return b"set-cookie", f"{name}={token}; {_COOKIE_FLAGS}".encode()

    async def _pass(
        self, scope: Scope, receive: Receive, send: Send, more: list[tuple[bytes, bytes]]
    ) -> None:
        started = False

        async def send_safely(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _with_ours([*message.get("headers", []), *more])
            await send(message)

        try:
            await self._app(scope, receive, send_safely)
        except Exception as error:
            if not self._failed:  # once: a request can be repeated a million times
                self._failed = True
                logger.warning("web: %s failed (%r)", scope["path"], error)
            if started:
                raise  # uvicorn cuts the connection
            await _answer(send, 500, "this has failed", [])


def _given_token(scope: Scope) -> str | None:
    """What the address of the page gives as token, if it gives any."""
    if scope["path"] != "/":
        return None
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return query["token"][0] if "token" in query else None


def _cookies(headers: dict[str, str]) -> dict[str, str]:
    """By name; those of other programs may be written as no parser wants them."""
    parts = (part.partition("=") for part in headers.get("cookie", "").split(";"))
    return {name.strip(): value.strip() for name, _, value in parts}


def _cookie_name(headers: dict[str, str]) -> str:
    """With the port in it: browsers send a cookie to every port of a host."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"edgelid_{port if port.isascii() and port.isdecimal() else 80}"


def _without_port(host: str) -> str:
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdecimal() else host


def _with_ours(headers: Any) -> list[tuple[bytes, bytes]]:
    headers = list(headers)
    if not any(name == b"cache-control" for name, _ in headers):
        headers.append(_NO_STORE)
    return [*headers, *_RAW_HEADERS]


async def _answer(
    send: Send, status: int, text: str, more: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = json.dumps({"error": text}).encode() + b"\n"
    length = (b"content-length", str(len(body)).encode())
    headers = [(b"content-type", b"application/json"), length, *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": _with_ours(headers)})
    await send({"type": "http.response.body", "body": body})
