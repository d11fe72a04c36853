"""Where the page may be, and who reaches it there."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

from edge.errors import EdgelidError
from edge.outputs.web import address
from edge.outputs.web.address import Address, parse_address, problem


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("8080", "127.0.0.1", 8080, True),
        ("0", "127.0.0.1", 0, True),
        ("localhost:80", "localhost", 80, True),
        ("127.0.0.5:65535", "127.0.0.5", 65535, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[::]:8080", "::", 8080, False),
        ("0.0.0.0:8080", "0.0.0.0", 8080, False),
        ("192.0.2.1:8080", "192.0.2.1", 8080, False),
        ("pi.local:8080", "pi.local", 8080, False),
        ("localhost.example:8080", "localhost.example", 8080, False),
    ],
)
def test_what_is_an_address(text: str, host: str, port: int, loopback: bool) -> None:
    found = parse_address(text)
    assert found == Address(host, port)
    assert found.is_loopback is loopback
    assert problem(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "x",
        ":8080",
        "65536",
        pytest.param("1" * 5_000, id="a long number"),
        "-1",
        "8080:",
        "::1:8080",
        "::1",
        "[pi]:80",
        "80 ",
        "٨٠",
        "[]:80",
        "1.5",
        "a..b:8080",
        pytest.param("a" * 64 + ":8080", id="a long label"),
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(EdgelidError, match="is no place for a web page: give a port"):
        parse_address(text)
    assert problem(text) is not None


def test_urls() -> None:
    assert parse_address("8080").url() == "http://127.0.0.1:8080/"
    assert parse_address("[::1]:80").url() == "http://[::1]:80/"
    assert parse_address("[::1]:80").url_host == "[::1]"
    assert parse_address("192.0.2.1:80").url() == "http://192.0.2.1:80/"
    assert problem("") is None


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80"])
def test_the_address_for_others_is_one_they_can_open(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "hall.example")
    monkeypatch.setattr(address, "AVAHI", (tmp_path / "socket",))
    host = parse_address(text).url().removeprefix("http://").removesuffix(":80/").strip("[]")
    if host != "hall.example":  # of a machine without a network
        assert not ipaddress.ip_address(host).is_loopback
        assert not ipaddress.ip_address(host).is_unspecified
    (tmp_path / "socket").touch()
    assert parse_address(text).url() == "http://hall.local:80/"
