"""Streams of networks: what a camera or a radio sends, and what becomes of it when it is gone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.audio import network
from edge.audio.mixing import Ear
from edge.audio.network import NetworkSource, is_url, shown_url
from edge.audio.sources import Gap, Sound
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.edge.audio.rtsp_server import Server

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg from apt")

TONE_HZ = 1_000.0


def tone(seconds: float) -> Float32Array:
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return (0.5 * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.float32)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(tone(10))
    yield made
    made.close()


def listen(source: NetworkSource, seconds: float) -> list[Sound]:
    """What is heard in so much time."""
    timer = threading.Timer(seconds, source.stop)
    timer.start()
    with source:
        found = list(source.blocks())
    timer.cancel()
    return found


def lengths_s(sounds: list[Sound]) -> tuple[float, float]:
    heard = sum(len(sound) for sound in sounds if isinstance(sound, np.ndarray))
    lost = sum(sound.samples for sound in sounds if isinstance(sound, Gap))
    return heard / SAMPLE_RATE_HZ, lost / SAMPLE_RATE_HZ


def url_of(server: Server, scheme: str) -> str:
    return f"{scheme}://user:geheim@127.0.0.1:{server.port}/sound?token=geheim"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_stream_that_breaks_is_connected_to_again(
    server: Server, scheme: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(network, "STEADY_S", 1.0)
    source = NetworkSource(url_of(server, scheme), Ear())
    assert source.name == f"{scheme}://127.0.0.1:{server.port}/sound"
    assert (source.rate_hz, source.duration_s) == (SAMPLE_RATE_HZ, None)
    for at_s, action in ((1.0, server.down), (2.0, server.up)):
        threading.Timer(at_s, action).start()
    start_s = time.monotonic()
    sounds = listen(source, 8.0)
    passed_s = time.monotonic() - start_s
    heard_s, lost_s = lengths_s(sounds)
    assert heard_s > 2.0
    assert 0.5 < lost_s < 6.0
    # Stream time is that of the clock; what came in the first burst is more.
    assert -0.6 < heard_s + lost_s - passed_s < 3.0
    assert {sound.reason for sound in sounds if isinstance(sound, Gap)} == {"connection lost"}
    last = np.concatenate([sound for sound in sounds if isinstance(sound, np.ndarray)])[-8_000:]
    spectrum = np.abs(np.fft.rfft(last * np.hanning(len(last))))
    assert np.argmax(spectrum) * SAMPLE_RATE_HZ / len(last) == pytest.approx(TONE_HZ, abs=3)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [("waiting for it" in line, "heard again" in line) for line in told] == [
        (True, False),
        (False, True),
    ]
    assert "geheim" not in caplog.text


@pytest.mark.slow
def test_a_stream_that_falls_silent_without_a_word(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "STALL_S", 1.0)
    source = NetworkSource(url_of(server, "rtsp"), Ear())

    def silence() -> None:
        server.is_silent = True

    def sound() -> None:
        server.is_silent = False

    for at_s, action in ((0.5, silence), (2.5, sound)):
        threading.Timer(at_s, action).start()
    sounds = listen(source, 6.0)
    assert {sound.reason for sound in sounds if isinstance(sound, Gap)} == {"connection stalled"}
    assert isinstance(sounds[-1], np.ndarray)


@pytest.mark.slow
def test_a_stream_that_stays_away_is_a_gap_that_grows(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "LATEST_S", 0.5)
    source = NetworkSource(url_of(server, "rtsp"), Ear())
    server.down()
    start_s = time.monotonic()
    sounds = listen(source, 5.0)
    gaps = [sound for sound in sounds if isinstance(sound, Gap)]
    assert len(gaps) >= 3
    assert lengths_s(sounds)[1] == pytest.approx(time.monotonic() - start_s, abs=1.0)


def test_a_stream_that_is_not_there_at_the_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(EdgelidError, match=r"^ffmpeg cannot read 'http://127.*Connection refused"):
        NetworkSource(f"http://user:geheim@127.0.0.1:{port}/sound", Ear())


def test_a_channel_that_it_does_not_have(server: Server) -> None:
    with pytest.raises(EdgelidError, match="has no channel 2"):
        NetworkSource(url_of(server, "rtsp"), Ear(channel=2))


@pytest.fixture
def folder_url(tmp_path: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_of_a_server_is_read_once_to_its_end(folder_url: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "tone.flac", tone(20), SAMPLE_RATE_HZ)
    source = NetworkSource(f"HTTP{folder_url[4:]}/tone.flac", Ear())  # capitals are as good
    assert source.duration_s == 20.0
    start_s = time.monotonic()
    with source:
        sounds = list(source.blocks())
    assert lengths_s(sounds) == (20.0, 0.0)
    assert time.monotonic() - start_s < 10


@pytest.mark.filterwarnings("error")
def test_samples_that_are_no_numbers_are_silence(
    folder_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frames = np.stack([tone(3)] * 2, 1)
    expected = frames[:, 0].copy()
    for place, value in ((8_000, np.nan), (8_001, np.inf), (30_000, -np.inf)):
        frames[place] = value
        expected[place] = 0
    soundfile.write(tmp_path / "tone.wav", frames, SAMPLE_RATE_HZ, subtype="FLOAT")
    source = NetworkSource(f"{folder_url}/tone.wav", Ear())
    with source:
        heard = np.concatenate(list(source.samples()))
    np.testing.assert_array_equal(heard, expected)
    (message,) = caplog.messages
    assert message.startswith(f"{source.name!r} sends samples that are no numbers")


def test_a_password_is_told_to_no_other_host() -> None:
    told: dict[str, str | None] = {}
    elsewhere: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told[self.path] = self.headers["Authorization"]
            self.send_response(302 if self.path == "/radio" else 200)
            if self.path == "/radio":
                self.send_header("Location", elsewhere[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    asked, other = (server.server_port for server in servers)
    elsewhere.append(f"http://localhost:{other}/file")
    url = f"http://user:geheim@127.0.0.1:{asked}/radio"
    assert network._has_length(url, lambda: True)
    for server in servers:
        server.shutdown()
        server.server_close()
    assert told == {"/radio": "Basic dXNlcjpnZWhlaW0=", "/file": None}


@pytest.fixture
def trickling_url() -> Iterator[str]:
    """Of a server that says a byte now and then, and never comes to an end."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not done.wait(0.05):
                    connection.sendall(b"x")

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/radio"
    done.set()
    listener.close()


@pytest.mark.parametrize("stops", [False, True])
def test_a_server_that_never_comes_to_the_length_keeps_nobody_waiting(
    trickling_url: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "ANSWER_S", 60.0 if stops else 0.5)
    start_s = time.monotonic()
    assert not network._has_length(trickling_url, lambda: not stops)
    assert time.monotonic() - start_s < 5


def test_a_file_that_the_server_does_not_have(folder_url: str) -> None:
    with pytest.raises(EdgelidError, match="404 Not Found"):
        NetworkSource(f"{folder_url}/none.flac", Ear())


def test_a_playlist_leads_to_no_file_of_this_device(folder_url: str, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    soundfile.write(tmp_path / "secret" / "tone.wav", tone(20), SAMPLE_RATE_HZ)
    secret = tmp_path / "secret" / "tone.wav"
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:20\n#EXTINF:20,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(EdgelidError, match="cannot read"):
        NetworkSource(f"{folder_url}/list.m3u8", Ear())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("rtsp://a/b", True), ("HTTPS://a", True), ("./file:/a", False), ("a.wav", False)],
)
def test_what_is_a_url(text: str, expected: bool) -> None:
    assert is_url(text) is expected


@pytest.mark.parametrize("url", ["ftp://a/b", "FILE:///a"])
def test_what_cannot_be_followed(url: str) -> None:
    with pytest.raises(EdgelidError, match=r"^(ftp|FILE):// cannot be followed: give rtsp"):
        is_url(url)


@pytest.mark.parametrize("port", ["0", "99999", "port"])
def test_a_port_that_is_not_possible(port: str) -> None:
    with pytest.raises(EdgelidError, match=r"^the port of the input is not possible: give one"):
        shown_url(f"rtsp://me:secret@a:{port}/b")


@pytest.mark.parametrize("url", ["rtsp://me:Secret#1@a/b", "rtsp://me:Secret/1@a/b", "rtsp://a:Se"])
def test_a_password_that_looks_like_a_port_is_not_shown(url: str) -> None:
    with pytest.raises(EdgelidError, match="as %23, %2F and %3F") as failure:
        shown_url(url)
    assert "Se" not in str(failure.value)


def test_a_url_for_messages() -> None:
    assert shown_url("rtsp://me:secret@[::1]:554/a/b?key=secret#x") == "rtsp://[::1]:554/a/b"
    for bad in ("http://", "http://a:port/", "http://[", "http://a/\n"):
        with pytest.raises(EdgelidError):
            shown_url(bad)


def test_no_child_stays_behind(server: Server) -> None:
    before = len(os.listdir("/proc/self/fd"))
    source = NetworkSource(url_of(server, "rtsp"), Ear())
    assert source._child is not None and source._child._process is not None
    pid = source._child._process.pid
    source.close()
    source.close()
    assert not Path(f"/proc/{pid}").exists()
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the server's own, for a moment


def test_the_command(
    folder_url: str,
    tmp_path: Path,
    speech: Float32Array,
    edgelid: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    soundfile.write(tmp_path / "sample.flac", speech, SAMPLE_RATE_HZ)
    at_home = edgelid("listen", "--json", "--input", tmp_path / "sample.flac")
    far_away = edgelid("listen", "--json", "--input", f"{folder_url}/sample.flac")
    assert (far_away.returncode, far_away.stderr) == (0, "")
    languages = [
        [json.loads(line).get("language") for line in done.stdout.splitlines()]
        for done in (at_home, far_away)
    ]
    assert languages[0] == languages[1]
