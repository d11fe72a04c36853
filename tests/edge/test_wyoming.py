"""The server of Wyoming, as the protocol's own client meets it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("wyoming", reason="needs the package wyoming")

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected

from edge import wyoming_server
from edge.audio.mixing import Ear
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, SECOND_OPINIONS, ModelFile
from edge.wyoming_server import Wyoming
from tests.broker import free_port
from tests.waiting import PATIENCE_S, wait_until

Edgelid = Callable[..., subprocess.CompletedProcess[str]]


@contextlib.contextmanager
def serving(environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "edge.cli", "wyoming", *options]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def uri(environment: dict[str, str]) -> Iterator[str]:
    """Of a server that listens."""
    with answering(environment) as address:
        yield address


@contextlib.contextmanager
def answering(environment: dict[str, str], *options: str) -> Iterator[str]:
    """A server that listens; gives its address."""
    with serving(environment, "--uri", "tcp://127.0.0.1:0", *options) as process:
        yield told_address(process)
        assert process.poll() is None


def told_address(process: subprocess.Popen[str]) -> str:
    """What a server says once clients can connect."""
    assert process.stderr is not None
    found = re.search(r"answering satellites at (\S+); ", process.stderr.readline())
    assert found is not None
    return found[1]


def audio(samples: Float32Array, rate_hz: int = SAMPLE_RATE_HZ, channels: int = 1) -> list[Event]:
    """The events of a stream, in chunks that end within a frame."""
    pcm = np.repeat((samples * 32_767).astype("<i2"), channels).tobytes()
    shape = {"rate": rate_hz, "width": 2, "channels": channels}
    chunks = [
        AudioChunk(**shape, audio=pcm[at : at + 4_097]).event() for at in range(0, len(pcm), 4_097)
    ]
    return [AudioStart(**shape, timestamp=500).event(), *chunks, AudioStop().event()]


def asked(uri: str, *events: Event, answers: int = 1) -> list[Event]:
    """What comes back for some events; less than is wanted if the server hangs up."""

    found: list[Event] = []

    async def ask() -> None:
        async with AsyncClient.from_uri(uri) as client:
            with contextlib.suppress(ConnectionError):
                for event in events:
                    await client.write_event(event)
            while len(found) < answers:
                event = await asyncio.wait_for(client.read_event(), PATIENCE_S)
                if event is None:
                    break
                found.append(event)

    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        asyncio.run(ask())
    return found


def part(speech: Float32Array, start_s: float, end_s: float) -> Float32Array:
    return speech[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]


def test_what_it_says_of_itself(uri: str, model: ModelFile) -> None:
    (answer,) = asked(uri, Describe().event())
    info = Info.from_event(answer)
    assert info.asr[0].models[0].languages == list(model.languages)
    assert {detector.name for detector in info.wake[0].models} == set(model.languages)
    (answer,) = asked(uri, Ping(text="still there?").event())
    assert Pong.from_event(answer).text == "still there?"


@pytest.mark.parametrize(("start_s", "language"), [(2.0, "en"), (14.0, "es"), (23.0, "fr")])
def test_the_language_of_a_command(
    uri: str, speech: Float32Array, start_s: float, language: str
) -> None:
    told = audio(part(speech, start_s, start_s + 6))
    (answer,) = asked(uri, Transcribe().event(), *told)
    transcript = Transcript.from_event(answer)
    assert transcript.language == language
    assert transcript.context is not None
    assert 0.5 < transcript.context["confidence"] <= 1
    assert transcript.text in ("English", "Spanish", "French")


def test_any_rate_and_channels_without_a_request(uri: str, speech: Float32Array) -> None:
    """And one after the other on one connection."""
    once = audio(part(speech, 2, 8)[::2], 8_000, 2)
    answers = asked(uri, *once, *once[1:], answers=2)
    assert [Transcript.from_event(answer).language for answer in answers] == ["en", "en"]


def test_silence_is_no_language(uri: str) -> None:
    (answer,) = asked(uri, *audio(np.zeros(3 * SAMPLE_RATE_HZ, np.float32)))
    transcript = Transcript.from_event(answer)
    assert (transcript.text, transcript.language) == ("", None)


def test_languages_are_detected_as_they_begin(uri: str, speech: Float32Array) -> None:
    told = audio(part(speech, 0, 34))
    answers = asked(uri, Detect().event(), *told, answers=4)
    found = [Detection.from_event(answer) for answer in answers]
    # Of the Spanish, the first words sound Italian, see tests/sample.py.
    assert [found.pop(1).name, *(detection.name for detection in found)] == ["it", "en", "es", "fr"]
    times = [detection.timestamp or 0 for detection in found]
    assert 2_000 < times[0] < 8_000 < 14_000 < times[1] < 20_000 < 22_000 < times[2] < 30_000
    (answer,) = asked(uri, Detect(names=["Spanish"]).event(), *told)
    assert Detection.from_event(answer).name == "es"
    (answer,) = asked(uri, Detect(names=["ru"]).event(), *told)
    assert NotDetected.is_type(answer.type)


def test_how_sure_it_has_to_be_and_how_long_a_language_must_last(
    environment: dict[str, str], speech: Float32Array
) -> None:
    told = audio(part(speech, 2, 8))
    with answering(environment, "--threshold", "1", "--hold", "30") as address:
        (answer,) = asked(address, *told)
        (nothing,) = asked(address, Detect().event(), *told)
    transcript = Transcript.from_event(answer)
    assert (transcript.text, transcript.language) == ("", None)
    assert transcript.context is not None and transcript.context["answer"] == "unknown"
    assert NotDetected.is_type(nothing.type)


def test_channels_that_cancel_out(uri: str, speech: Float32Array) -> None:
    """As of a cable that inverts one of them."""
    samples = (part(speech, 2, 8) * 32_767).astype("<i2")
    pcm = np.stack([samples, -samples], 1).tobytes()
    shape = {"rate": SAMPLE_RATE_HZ, "width": 2, "channels": 2}
    chunk = AudioChunk(**shape, audio=pcm)
    (answer,) = asked(uri, AudioStart(**shape).event(), chunk.event(), AudioStop().event())
    assert Transcript.from_event(answer).language == "en"


def test_a_second_opinion_of_commands(
    environment: dict[str, str], speech: Float32Array, uri: str, own_second: Path
) -> None:
    told = audio(part(speech, 2.0, 8.0))
    with answering(environment, "--second-opinion", str(own_second)) as both:
        (answer,) = asked(both, *told)
        (again,) = asked(both, *told)
    (alone,) = (Transcript.from_event(answer).context for answer in asked(uri, *told))
    contexts = [Transcript.from_event(event).context for event in (answer, again)]
    for context in contexts:
        assert context is not None and alone is not None
        assert context["second_opinions"] == 4  # two of the whole, two of where languages change
        same = context["answer"] == alone["answer"]
        assert context["by"] == ("compact" if same else "second opinion")
        assert context["compact"] == {
            "language": alone["answer"],
            "confidence": alone["confidence"],
        }
        assert context.pop("took_s") >= 0
    assert contexts[0] == contexts[1]
    assert set(alone or {}) == {"answer", "confidence", "probabilities"}


def test_streams_share_a_second_opinion(speech: Float32Array) -> None:
    server = Wyoming(
        "tcp://127.0.0.1:0", DEFAULT_MODEL, second_opinion=str(DEFAULT_MODEL), share=1.0
    )
    listeners = [server.listener() for _ in range(2)]
    answers = {}

    def blocks(number: int) -> Iterator[Float32Array]:
        while not answers.get(number):  # however long that takes here
            yield from np.array_split(part(speech, 2, 8), 60)

    for number, listener in enumerate(listeners):
        for heard in listener.hear(blocks(number)):
            if heard.second is not None:
                answers[number] = heard.second.answers
        listener.close()
    assert len(answers) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' /proc")
def test_the_graph_of_a_large_model_is_on_disk_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = Wyoming("tcp://127.0.0.1:0", SECOND_OPINIONS["large"])
    assert server.model.graph == b""
    both = server.recordings(), server.recordings()
    maps = Path("/proc/self/maps").read_text().splitlines()
    copies = {line.split(maxsplit=5)[4] for line in maps if str(tmp_path) in line}
    assert len(both) == 2 and len(copies) == 1


BAD: list[tuple[Sequence[Event], str]] = [
    ([AudioStart(16_000, 4, 1).event()], "2 bytes a sample"),
    ([AudioStart(10, 2, 1).event()], "1000 to 384000 Hz"),
    ([AudioStart(16_000, 2, 100_000_000).event()], "1 to 64 channels"),
    ([AudioStart(16_000, 2, 1).event(), AudioStop().event()], "gave no audio"),
]


@pytest.mark.parametrize(("events", "words"), BAD)
def test_audio_that_does_not_do(uri: str, events: Sequence[Event], words: str) -> None:
    (answer,) = asked(uri, *events)
    assert words in Error.from_event(answer).text


def test_a_long_stream_that_cannot_be_heard_is_answered(
    environment: dict[str, str], speech: Float32Array, tmp_path: Path
) -> None:
    """With more of it than waits to be heard, when nobody listens any longer."""
    (tmp_path / "soxr.py").write_text("raise ModuleNotFoundError('gone', name='soxr')")
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    events = audio(np.zeros(2 * wyoming_server.CHUNKS * 4_097, np.float32), 44_100)
    assert len(events) > 2 * wyoming_server.CHUNKS
    with answering({**environment, "PYTHONPATH": path}) as address:
        for request in ([], [Detect().event()]):
            (answer,) = asked(address, *request, *events)
            assert "soxr" in Error.from_event(answer).text


def test_no_more_waits_to_be_heard_than_has_room() -> None:
    """Of the largest events, too, of a client that sends faster than is heard."""
    stream = wyoming_server._Stream(SAMPLE_RATE_HZ, 1, Ear())
    samples = np.arange(wyoming_server.MAX_EVENT_BYTES // 2).astype("<i2").tobytes()

    async def sent() -> None:
        work = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                for _ in range(10):
                    await stream.put(samples, work)

    asyncio.run(sent())
    waiting = b"".join(chunk for chunk in stream._chunks.queue if chunk)
    assert len(waiting) <= wyoming_server.MAX_EVENT_BYTES
    assert waiting == samples[: len(waiting)]


def test_quiet_audio_is_heard_as_if_it_were_louder(speech: Float32Array) -> None:
    quiet = part(speech, 1.0, 11.0) * np.float32(10 ** (-52 / 20))
    pcm = np.rint(quiet * 32_768).astype("<i2")

    def told(samples: np.ndarray, gain_db: float | None) -> tuple[Event, list[str]]:
        server = Wyoming(f"tcp://127.0.0.1:{free_port()}", DEFAULT_MODEL, gain_db=gain_db)
        whole = wyoming_server._transcript(server, stream_of(samples, gain_db)).event()
        with contextlib.closing(server.listener()) as listener:
            heard = [*listener.hear(stream_of(samples, gain_db).blocks())]
        return whole, [each.change.language for each in heard if each.change is not None]

    automatic = told(pcm, None)
    assert automatic == told(16 * pcm, 0.0)
    assert automatic[0] == told(pcm, 20 * np.log10(16))[0]
    assert automatic[0] != told(pcm, 0.0)[0]
    assert automatic[0].data["language"] == "en"


def stream_of(pcm: np.ndarray, gain_db: float | None) -> wyoming_server._Stream:
    stream = wyoming_server._Stream(SAMPLE_RATE_HZ, 1, Ear(gain_db=gain_db))
    stream._chunks.put(pcm.tobytes())
    stream._chunks.put(None)
    return stream


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\xff\xfe\n",
        b"{}\n",
        b"[]\n",
        b'{"type": "audio-start", "data": {}}\n',
        b'{"type": "audio-chunk", "payload_length": 100000000000}\n',
        b'{"type": "ping", "data_length": -1}\n',
        b"x" * 1_000_000,
    ],
)
def test_what_is_no_event_ends_the_connection_and_nothing_else(uri: str, data: bytes) -> None:
    host, _, port = uri.removeprefix("tcp://").partition(":")
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, int(port)), PATIENCE_S) as client,
    ):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
    assert asked(uri, Ping(text="x").event())


def test_no_event_brings_a_traceback(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with serving(environment, "--uri", f"unix://{path}") as process:
        wait_until(path.exists)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_S)
            client.connect(str(path))
            client.sendall(b"[" * 60_000 + b"\n")
            assert client.recv(1) == b""
        assert asked(f"unix://{path}", Ping(text="x").event())
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_what_is_not_known_is_passed_over(uri: str) -> None:
    answers = asked(uri, Event("sing"), AudioStop().event(), Ping(text="x").event())
    assert [answer.type for answer in answers] == ["pong"]


def test_clients_that_leave_make_room(uri: str, speech: Float32Array) -> None:
    """In the middle of their audio, more of them than there may be at once."""
    for _ in range(2 * wyoming_server.CONNECTIONS):
        asked(uri, *audio(part(speech, 2, 4))[:-1], answers=0)
    wait_until(lambda: [each.type for each in asked(uri, Ping(text="x").event())] == ["pong"])


def test_who_goes_without_a_word_is_found_out() -> None:
    """Else one that loses its power would hold its connection for ever."""

    async def options() -> list[int]:
        found: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def begin(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            values = [connection.getsockopt(socket.IPPROTO_TCP, name) for name in names]
            is_on = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            found.set_result([is_on, *values])
            writer.close()

        server, _ = await wyoming_server._Address.of("tcp://127.0.0.1:0").bound(begin)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.close()
        server.close()
        return await asyncio.wait_for(found, PATIENCE_S)

    assert asyncio.run(options()) == [1, 60, 15, 4]


def test_as_many_as_may_connect_are_heard_at_once(
    environment: dict[str, str], speech: Float32Array, tmp_path: Path
) -> None:
    """On one core, where as many threads as Python has by default are fewer."""
    begin, *chunks, end = audio(part(speech, 2, 4))

    async def ask(address: str) -> Event | None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(wyoming_server.CONNECTIONS):
                client = await stack.enter_async_context(AsyncClient.from_uri(address))
                for event in (begin, *chunks):
                    await client.write_event(event)
            await client.write_event(end)  # of the last one, while the others are being heard
            return await asyncio.wait_for(client.read_event(), PATIENCE_S)

    (tmp_path / "sitecustomize.py").write_text("import os\nos.cpu_count = lambda: 1\n")
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    with answering({**environment, "PYTHONPATH": path}) as address:
        answer = asyncio.run(ask(address))
    assert answer is not None and Transcript.is_type(answer.type)


def test_too_many_at_once_are_told(uri: str) -> None:
    async def ask() -> list[str]:
        async with contextlib.AsyncExitStack() as stack:
            kinds = []
            for _ in range(wyoming_server.CONNECTIONS + 1):
                client = await stack.enter_async_context(AsyncClient.from_uri(uri))
                wait: Awaitable[None] = client.write_event(Ping(text="x").event())
                await wait
                answer = await asyncio.wait_for(client.read_event(), PATIENCE_S)
                kinds.append(answer.type if answer else "")
            return kinds

    # Clients of other tests may still be on their way out.
    kinds = wait_until(lambda: (found := asyncio.run(ask())).count("error") <= 1 and found)
    assert kinds == ["pong"] * wyoming_server.CONNECTIONS + ["error"]


def test_who_is_one_too_many_is_hung_up_on(environment: dict[str, str], tmp_path: Path) -> None:
    """Though it stays: a client that ignores the answer must not hold a connection for ever."""
    path = tmp_path / "socket"
    with serving(environment, "--uri", f"unix://{path}") as process:
        told_address(process)
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(wyoming_server.CONNECTIONS + 1):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.settimeout(PATIENCE_S)
                client.connect(str(path))
                clients.append(client)
                client.sendall(b'{"type": "ping"}\n')
                assert client.recv(1)
            until_s = time.monotonic() + PATIENCE_S
            with pytest.raises(BrokenPipeError):
                while time.monotonic() < until_s:
                    clients[-1].sendall(b'{"type": "ping"}\n')
                    time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_a_stream_under_way(
    environment: dict[str, str], speech: Float32Array, number: int, tmp_path: Path
) -> None:
    address = f"unix://{tmp_path / 'socket'}"
    with serving(environment, "--uri", address, "--languages", "German,en") as process:
        wait_until((tmp_path / "socket").exists)

        async def ask() -> None:
            async with AsyncClient.from_uri(address) as client:
                for event in audio(part(speech, 2, 6))[:-1]:
                    await client.write_event(event)
                process.send_signal(number)
                await asyncio.to_thread(process.wait, PATIENCE_S)

        with contextlib.suppress(ConnectionError):
            asyncio.run(ask())
        assert process.wait(PATIENCE_S) == (0 if number == signal.SIGTERM else -signal.SIGINT)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_whoever_is_let_in_at_the_end_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop comes to them once it has told all others to end; nobody would tell them."""
    ended: list[str] = []

    class Writer:
        def close(self) -> None:
            ended.append("writer")

    class Server:
        def __init__(self, begin: Callable[[object, object], None]) -> None:
            self._begin = begin

        def close(self) -> None:
            ended.append("server")
            self._later(3)

        def _later(self, turns: int) -> None:
            loop = asyncio.get_running_loop()
            if turns:
                loop.call_soon(self._later, turns - 1)
            else:
                self._begin(asyncio.StreamReader(), Writer())

    async def bound(address: object, begin: Callable[[object, object], None]) -> tuple[Server, str]:
        return Server(begin), "here"

    monkeypatch.setattr(wyoming_server._Address, "bound", bound)
    server = Wyoming("tcp://127.0.0.1:0", DEFAULT_MODEL)
    server.run(lambda uri: os.kill(os.getpid(), signal.SIGTERM))
    assert ended == ["server", "writer"]
    assert server.connections == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--uri", "http://x"], "give tcp://HOST:PORT or unix:///PATH"),
        (["--uri", "tcp://localhost"], "give tcp://HOST:PORT or unix:///PATH"),
        (["--uri", "tcp://a..b:10700"], "give tcp://HOST:PORT or unix:///PATH"),
        (["--uri", "tcp://192.0.2.1:10700"], "cannot be served"),
        (["--languages", "xx"], "does not know xx"),
        (["--json"], "over their protocol: leave out --json."),
        (["--second-opinion-share", "0.5"], "--second-opinion-share needs --second-opinion"),
        (["--second-opinion", "none.tflite"], "does not exist"),
        (["--second-opinion", str(DEFAULT_MODEL)], "is the same model as the first"),
    ],
)
def test_what_cannot_be_served(edgelid: Edgelid, options: list[str], words: str) -> None:
    done = edgelid("wyoming", *options)
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_an_address_that_is_in_use(edgelid: Edgelid, uri: str) -> None:
    done = edgelid("wyoming", "--uri", uri)
    assert done.returncode == 1
    assert done.stderr == f"edgelid: {uri} is in use: choose another port.\n"


def test_a_socket_that_is_served_stays(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    with serving(environment, "--uri", f"unix://{path}") as process:
        address = told_address(process)
        done = edgelid("wyoming", "--uri", address)
        assert done.returncode == 1
        assert done.stderr == f"edgelid: {address} is in use: choose another path.\n"
        assert [answer.type for answer in asked(address, Ping(text="x").event())] == ["pong"]


def test_what_is_no_socket_stays(edgelid: Edgelid, tmp_path: Path) -> None:
    file = tmp_path / "important.txt"
    file.write_text("important")
    done = edgelid("wyoming", "--uri", f"unix://{file}")
    assert done.returncode == 1
    assert done.stderr == (f"edgelid: {str(file)!r} exists, and is no socket: give another path.\n")
    assert file.read_text() == "important"
    done = edgelid("wyoming", "--uri", f"unix://{tmp_path}/none/socket")
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_socket_that_was_left_is_replaced_and_goes_at_the_end(
    environment: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serving(environment, "--uri", f"unix://{path}") as process:
        (pong,) = asked(told_address(process), Ping(text="there?").event())
        assert Pong.from_event(pong).text == "there?"
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    assert not path.exists()


def test_the_package_is_missing(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "wyoming.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'wyoming'\", name='wyoming')"
    )
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    done = edgelid("wyoming", env={**environment, "PYTHONPATH": path})
    assert done.returncode == 1
    assert re.search(r'pip install "edgelid\[wyoming\]"', done.stderr)
    assert json.dumps(done.stdout) == '""'
