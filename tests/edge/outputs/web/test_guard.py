"""Who is let in, and what every answer says."""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import http.server
import os
import threading
import urllib.request
from pathlib import Path
from typing import ClassVar

import pytest

from edge.errors import EdgelidError
from edge.outputs.web.api import FILES
from edge.outputs.web.guard import POLICY, PUBLIC_PATHS
from edge.outputs.web.secret import read_token, token_of
from tests.edge.outputs.web.conftest import PRIVATE_PATHS, TIMEOUT_S, Served, serving
from tests.edge.permissions import closed


def token(tmp_path: Path) -> str:
    return (tmp_path / "token").read_text().strip()


def test_every_answer_is_locked_down(full: Served) -> None:
    for path in (*FILES, *PRIVATE_PATHS - {"/api/v1/events"}, "/healthz", "/nothing"):
        headers = full.ask(path).headers
        assert headers["content-security-policy"] == POLICY
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-cache" if path in FILES else "no-store")
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_refusals_and_streams_are_locked_down_too(full: Served) -> None:
    answers = [
        full.ask("/api/v1/events", "HEAD"),
        full.ask("/", "POST"),
        full.ask("/" + "a" * 2_000),
        full.ask("/", Host="rebound.example"),
        full.ask("/?token=1"),
    ]
    assert [answer.status for answer in answers] == [200, 405, 414, 421, 303]
    for answer in answers:
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["permissions-policy"] == "microphone=(), camera=(), geolocation=()"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_only_reading(full: Served, method: str) -> None:
    answer = full.ask("/api/v1/state", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_no_content(full: Served) -> None:
    big = b"x" * 10_000_000
    length = b"Content-Length: 10000000\r\n\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n\r\n989680\r\n"
    for head in (length, chunked):
        for method, status in ((b"POST", b"405"), (b"GET", b"413")):
            told = full.raw(method + b" / HTTP/1.1\r\nHost: localhost\r\n" + head + big)
            assert told.startswith(b"HTTP/1.1 " + status)


TRICKS = [
    "/../../etc/passwd",
    "/..%2f..%2fetc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/page/../app.js",
    "/./app.js",
    "//app.js",
    "/app.js/",
    "/app.js%00.css",
    "/app.js%0d%0aX-Header:%201",
    "/app.js%0a",
    "/%0a",
    "/api/v1/state%0a",
    "/api/v1/state%7f",
    "/APP.JS",
    "/openapi.json",
    "/server.py",
    "/%",
    "/%ff%fe",
    "/metrics/",
    "/api/v1",
    "/api/v1/state/../state",
    "*",
    "http://elsewhere.example/metrics",
    "/;/app.js",
    "\\app.js",
]


@pytest.mark.parametrize("target", TRICKS)
def test_tricks_with_paths(full: Served, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert full.raw(request.encode()).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # without a host
        (b"GET / HTTQ/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 2_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", b"4"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: a\r\n" * 20_000 + b"\r\n", b"4"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9_000 + b"\r\n\r\n", b"4"),
        (b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n", b"413"),
    ],
)
def test_requests_that_are_none(full: Served, request_: bytes, status: bytes) -> None:
    # It answers, and ends the connection if it cannot know where the next request begins.
    if status in (b"414", b"4"):
        request_ = request_.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    assert full.raw(request_).startswith(b"HTTP/1.1 " + status)


def test_hosts_of_strangers(full: Served) -> None:
    """A stranger's page, whose name was made to point here, must not read ours."""
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1", f"127.0.0.1:{full.port}", "[::1]:80"):
        assert full.ask("/api/v1/state", Host=host).status == 200
    for host in (
        "rebound.example",
        "localhost.example",
        "127.0.0.1.example:80",
        "[::2]",
        "",
        "x y",
    ):
        assert full.ask("/api/v1/state", Host=host).status == 421


def test_another_address_of_loopback_is_one_to_ask_for() -> None:
    with serving(web="127.0.0.2:0") as running:
        for host, status in (("127.0.0.2", 200), ("localhost", 200), ("127.0.0.3", 421)):
            connection = http.client.HTTPConnection("127.0.0.2", running.port, timeout=TIMEOUT_S)
            with contextlib.closing(connection):
                connection.request("GET", "/", headers={"Host": f"{host}:{running.port}"})
                assert connection.getresponse().status == status


def test_upgrades_are_ignored(full: Served) -> None:
    answer = full.ask("/", Connection="Upgrade", Upgrade="websocket")
    assert answer.status == 200


def test_token(locked: Served, tmp_path: Path) -> None:
    secret = token(tmp_path)
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    for path in PRIVATE_PATHS:
        answer = locked.ask(path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert locked.ask(path, "HEAD", Authorization=f"Bearer {secret}").status == 200
    for path in (*FILES, "/colours.js", "/healthz"):
        assert locked.ask(path).status == 200


@pytest.mark.parametrize("after", ["%0a", "%0A", "%0d", "%00", "%0a%0a", "/", "%20", ";", "%c2%85"])
def test_addresses_that_are_nearly_those_of_secrets(locked: Served, after: str) -> None:
    for path in PRIVATE_PATHS:
        assert locked.ask(path + after).status in (401, 404)


def test_what_is_not_known_to_be_public_is_private(locked: Served) -> None:
    """Whatever the routes take an address for."""
    assert not PUBLIC_PATHS & PRIVATE_PATHS
    for path in ("/nothing", "/app.js/", "/healthz/x", "/api/v1/", "//metrics", "/Metrics"):
        assert locked.ask(path).status == 401


def test_bad_tokens(locked: Served, tmp_path: Path) -> None:
    secret = token(tmp_path)
    bad = ["", "Bearer", "Bearer ", f"Bearer {secret[:-1]}", f"Bearer {secret}x", f"Basic {secret}"]
    bad += [f"Bearer {secret.upper()}", "Bearer \xe9\xff", secret, f"Bearer {secret} {secret}"]
    for words in bad:
        assert locked.ask("/metrics", Authorization=words).status == 401
    for cookie in ("edgelid=x", f"edgelid_1={secret}", f"edgelid_{locked.port}=x", "=;=\x7f", "{]"):
        assert locked.ask("/metrics", Cookie=cookie).status == 401
    for given in ("", "x", secret[:-1], "%00", "%ff" * 32):
        answer = locked.ask(f"/?token={given}")
        assert (answer.status, "set-cookie" in answer.headers) == (401, False)


def test_a_browser_keeps_the_token_in_a_cookie(locked: Served, tmp_path: Path) -> None:
    answer = locked.ask(f"/?token={token(tmp_path)}")
    assert (answer.status, answer.headers["location"]) == (303, "./")
    cookie, _, flags = answer.headers["set-cookie"].partition("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(flags.split("; "))
    assert locked.ask("/api/v1/state", Cookie=f"other=1; {cookie}").status == 200


def test_cookies_of_others_are_passed_over(locked: Served, tmp_path: Path) -> None:
    """Every port of a host gets them, and not all are as the standard wants them."""
    mine = f"edgelid_{locked.port}={token(tmp_path)}"
    for others in ("a b=1; ", 'x={"a": 1}; ', "[y]=; ", "=; ;", "z; "):
        assert locked.ask("/api/v1/state", Cookie=f"{others}{mine}").status == 200
        assert locked.ask("/api/v1/state", Cookie=f"{mine}; {others}").status == 200


def test_what_links_add_to_the_address_is_no_token(locked: Served) -> None:
    assert locked.ask("/?utm=1").status == 200
    assert locked.ask("/?utm=1&token=").status == 401


def test_a_cookie_in_use_does_not_end(locked: Served, tmp_path: Path) -> None:
    cookie = f"edgelid_{locked.port}={token(tmp_path)}"
    told = locked.ask("/", Cookie=cookie).headers["set-cookie"]
    assert told == locked.ask(f"/?token={token(tmp_path)}").headers["set-cookie"]
    for path, given in (("/", "x=1"), ("/", f"edgelid_{locked.port}=x"), ("/app.js", cookie)):
        assert "set-cookie" not in locked.ask(path, Cookie=given).headers


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Has the page below a path of its own, which the page is not told of."""

    port: ClassVar[int]

    def do_GET(self) -> None:
        inner = http.client.HTTPConnection("127.0.0.1", self.port)
        with contextlib.closing(inner):
            inner.request("GET", self.path.removeprefix("/hall"), headers=dict(self.headers))
            answer = inner.getresponse()
            body = answer.read()
        self.send_response(answer.status if self.path.startswith("/hall/") else 418)
        for name in ("location", "set-cookie"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_below_a_path_of_a_proxy(locked: Served, tmp_path: Path) -> None:
    """A browser is led back below the path, and tells its cookie to nothing else there."""
    _Proxy.port = locked.port
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    jar = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    url = f"http://127.0.0.1:{proxy.server_port}/hall/"
    try:
        with browser.open(f"{url}?token={token(tmp_path)}") as page:
            assert (page.status, page.url) == (200, url)
        with browser.open(f"{url}api/v1/state") as state:
            assert state.status == 200
    finally:
        proxy.shutdown()
        proxy.server_close()
    (cookie,) = jar
    assert cookie.path == "/hall"


def test_the_token_stays(tmp_path: Path) -> None:
    path = tmp_path / "token"
    assert token_of(path) == token_of(path)
    for text in ("short", "with blanks in between them", "x" * 300, "\xe9" * 20, "a;b" * 10):
        path.write_text(text, encoding="latin-1")
        with pytest.raises(EdgelidError, match="token"):
            token_of(path)
    with pytest.raises(EdgelidError, match="cannot be read"):
        token_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EdgelidError, match="it is no regular file"):
        token_of(tmp_path / "pipe")
    with (
        closed(tmp_path) as private,
        pytest.raises(EdgelidError, match=r"cannot be read: .*Permission denied"),
    ):
        read_token(private / "token")
    with pytest.raises(EdgelidError, match="cannot write"):
        token_of(tmp_path / "missing" / "token")


def test_beyond_loopback_there_is_always_a_token(caplog: pytest.LogCaptureFixture) -> None:
    with serving(web="0.0.0.0:0") as running:
        assert running.ask("/api/v1/state", Host="pi.local").status == 401
        (line,) = caplog.messages
        url, _, secret = line.partition("?token=")
        assert url.startswith("the web page is at http://")
        assert running.ask("/api/v1/state", Authorization=f"Bearer {secret}").status == 200


def test_a_token_from_a_file_is_not_told(
    locked: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert token(tmp_path) not in caplog.text
