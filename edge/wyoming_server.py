"""A server of Wyoming, the protocol of Home Assistant's and Rhasspy's voice satellites.

Of the protocol's own events two suit what there is to tell. An audio stream behind ``transcribe``
is a recording, and answered like one by ``edgelid classify``: a ``transcript`` with its language.
One behind ``detect`` is followed like a microphone by ``edgelid listen``: a ``detection`` for every
language that begins, as a wake word's is.

The protocol knows no passwords: whoever reaches the server may ask it. Each connection has a thread
that works and a queue of fixed size before it; a client that is faster waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import queue
import signal
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    Describe,
    Info,
    WakeModel,
    WakeProgram,
)
from wyoming.ping import Ping, Pong
from wyoming.server import AsyncEventHandler
from wyoming.wake import Detect, Detection, NotDetected

from edge import __version__
from edge.audio.mixing import Ear, Mixer
from edge.audio.resample import MAX_RATE_HZ, MIN_RATE_HZ
from edge.audio.sources import PCM_BYTES, AudioSource, Sound, pcm_frames
from edge.config import ListenSettings
from edge.errors import EdgelidError
from edge.languages import language_name, meant
from edge.listener import Listener
from edge.model.interpreter import OpenedModel
from edge.model.modelfile import ModelFile
from edge.offline import RecordingClassifier, opinion_record
from edge.opinion.second import SecondOpinion
from edge.opinion.shared import SharedAsker, SharedFile

logger = logging.getLogger(__name__)

CONNECTIONS = 8  # each has an interpreter of its own
CHUNKS = 64  # that wait to be heard
CHUNK_BYTES = 1 << 14  # of each: an event may hold more, and all that wait take memory
LEAVE_S = 1.0  # for a client that is one too many
# A client that is silent for a minute is asked every 15 s, and is gone after four times.
KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
CONNECT_S = 1.0  # to find out whether a socket is served
POLL_S = 0.05  # between looks at a queue that is full
MAX_EVENT_BYTES = 1 << 20  # half a minute of audio; satellites send a tenth of a second
MAX_CHANNELS = 64
NAME = "edgelid"


class Wyoming:
    """Serves one model.

    Parameters
    ----------
    uri : str
        ``tcp://HOST:PORT`` or ``unix:///PATH``.
    model : Path
    languages : sequence of str, optional
        The only languages to expect.
    threads : int
        Of each interpreter.
    second_opinion : str
        A large model that all connections ask, see :class:`edge.opinion.expert.ExpertFile`; empty
        for none.
    share : float
        Of one core that it may take of streams that are followed, all together.
    threshold : float, optional
        How sure an answer has to be; the model's, unless given.
    hold_s : float
        How long a language of a stream that is followed must last, see `Listener`.
    gain_db : float or None
        What to amplify by; None amplifies what is too quiet.

    Raises
    ------
    EdgelidError
        If the address is none, or a model cannot be used.
    """

    def __init__(
        self,
        uri: str,
        model: Path,
        languages: Sequence[str] | None = None,
        threads: int = 1,
        second_opinion: str = "",
        share: float = ListenSettings.second_opinion_share,
        threshold: float | None = None,
        hold_s: float = 0.0,
        gain_db: float | None = None,
    ) -> None:
        self._address = _Address.of(uri)
        self._opened = OpenedModel(model, threads)
        self.model = self._opened.model
        self.languages = None if languages is None else meant(languages, self.model.labels)
        self._threshold = threshold
        self._hold_s = hold_s
        self.ear = Ear(gain_db=gain_db)
        self.connections = 0
        self._large: SharedFile | None = None
        if second_opinion:
            self._large = SharedFile(second_opinion, self.model.labels)
            self._asker = SharedAsker(self._large, share)
        self.recordings()  # or the first to ask would find out what is wrong

    def run(self, tell: Callable[[str], None] = lambda uri: None) -> None:
        """Serve until a signal ends the program.

        Parameters
        ----------
        tell : callable
            Called with the address once clients can connect.

        Raises
        ------
        EdgelidError
            If the address cannot be had.
        """
        try:
            asyncio.run(self._serve(tell))
        finally:
            self._opened.close()
            if self._large is not None:
                self._asker.close()

    async def _serve(self, tell: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        # By default there are as many as the device has cores, and four: fewer than may be needed.
        workers = ThreadPoolExecutor(CONNECTIONS, "wyoming")
        loop.set_default_executor(workers)
        connections: set[asyncio.Task[None]] = set()  # which the loop itself does not keep
        is_over = False

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if is_over:  # who was let in just before would not be hung up on, and the end wait
                writer.close()
                return
            connection = loop.create_task(_Connection(self, reader, writer).run())
            connections.add(connection)
            connection.add_done_callback(connections.discard)

        ended = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        server, uri = await self._address.bound(begin)
        try:
            tell(uri)
            await ended.wait()
        finally:
            is_over = True
            server.close()
            self._address.leave()

    def recordings(self) -> RecordingClassifier:
        """What answers for whole streams."""
        graphs = self._opened.run()
        return RecordingClassifier(
            self.model,
            graphs,
            self.languages,
            self._threshold,
            self._large,
            automatic_gain=self.ear.gain_db is None,
        )

    def listener(self) -> Listener:
        """What follows a stream; to be closed."""
        graphs = self._opened.run()
        second = None
        if self._large is not None:
            second = SecondOpinion(self._large, self.model, self._asker.desk(), self.languages)
        settings = self.model.description.decoder
        if self._threshold is not None:
            settings = replace(settings, confidence=self._threshold)
        return Listener(
            self.model,
            graphs,
            settings,
            self.languages,
            hold_s=self._hold_s,
            second=second,
            automatic_gain=self.ear.gain_db is None,
        )

    def info(self) -> Info:
        """What there is, for ``describe``."""
        spoken = _languages(self.model)
        common: dict[str, Any] = {
            "attribution": Attribution("edgelid", ""),
            "installed": True,
            "version": __version__,
        }
        about = "Tells which language is spoken, not what is said"
        name = self.model.description.name
        transcriber = AsrModel(name=name, description=about, languages=spoken, **common)
        detectors = [
            WakeModel(
                name=label,
                description=f"{language_name(label)} is spoken",
                languages=[label],
                phrase=language_name(label),
                **common,
            )
            for label in spoken
        ]
        return Info(
            asr=[AsrProgram(name=NAME, description=about, models=[transcriber], **common)],
            wake=[WakeProgram(name=NAME, description=about, models=detectors, **common)],
        )


@dataclass(frozen=True)
class _Address:
    """Where to serve: a host with a port, or the path of a socket."""

    uri: str
    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def of(cls, uri: str) -> _Address:
        with contextlib.suppress(ValueError):
            parts = urlsplit(uri)
            if parts.scheme == "tcp" and parts.hostname and parts.port is not None:
                parts.hostname.encode("idna")  # as whoever looks it up does
                return cls(uri, parts.hostname, parts.port)
            if parts.scheme == "unix" and not parts.netloc and parts.path:
                return cls(uri, path=Path(parts.path))
        raise EdgelidError(f"{uri!r} is no address: give tcp://HOST:PORT or unix:///PATH.")

    async def bound(
        self, begin: Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]
    ) -> tuple[asyncio.Server, str]:
        """Listen there; also gives the address, with the port where any will do."""
        try:
            if self.path is not None:
                if self.path.exists() and not self.path.is_socket():
                    raise EdgelidError(
                        f"{str(self.path)!r} exists, and is no socket: give another path."
                    )
                # One that another server has left is replaced, and none that one serves.
                if _is_served(self.path):
                    raise OSError(errno.EADDRINUSE, "in use")
                return await asyncio.start_unix_server(begin, self.path), self.uri
            server = await asyncio.start_server(begin, self.host, self.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                what = "path" if self.path else "port"
                raise EdgelidError(f"{self.uri} is in use: choose another {what}.") from error
            raise EdgelidError(
                f"{self.uri} cannot be served ({error.strerror or error}): choose another address."
            ) from error
        for listening in server.sockets:
            _find_out_the_gone(listening)
        if self.port:
            return server, self.uri
        host = f"[{self.host}]" if ":" in self.host else self.host
        return server, f"tcp://{host}:{server.sockets[0].getsockname()[1]}"

    def leave(self) -> None:
        """Take the socket away, if it is not another server's by now."""
        if self.path is not None and self.path.is_socket() and not _is_served(self.path):
            self.path.unlink(missing_ok=True)


def _find_out_the_gone(listening: socket.socket | TransportSocket) -> None:
    """Have connections end whose clients have gone without a word, as those without power."""
    # Connections have the options of the socket that accepts them.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEPALIVE.items():
        listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _is_served(path: Path) -> bool:
    """Whether a server answers at a socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(CONNECT_S)
        try:
            client.connect(str(path))
        except (TimeoutError, BlockingIOError):  # by one that is busy
            return True
        except OSError:
            return False
    return True


class _Stream(AudioSource):
    """The audio of a client, from one thread to another."""

    def __init__(self, rate_hz: int, channels: int, ear: Ear) -> None:
        self.name = "the audio"
        self.rate_hz = rate_hz
        self._channels = channels
        self._ear = ear
        self._chunks: queue.Queue[bytes | None] = queue.Queue(CHUNKS)

    async def put(self, chunk: bytes | None, work: asyncio.Future[Eventable]) -> None:
        """Hand over audio, or the end; waits while too much does, and work on it goes on."""
        if chunk is None:
            await self._put(None, work)
            return
        for start in range(0, len(chunk), CHUNK_BYTES):
            await self._put(chunk[start : start + CHUNK_BYTES], work)

    async def _put(self, chunk: bytes | None, work: asyncio.Future[Eventable]) -> None:
        while not (self._stopping or work.done()):
            if not self._chunks.full():  # which only we fill
                self._chunks.put_nowait(chunk)
                return
            await asyncio.sleep(POLL_S)

    def blocks(self) -> Iterator[Sound]:
        """See `AudioSource.blocks`."""
        mixer = Mixer(self.name, self.rate_hz, self._channels, self._ear)
        for frames in pcm_frames(self._taken(), self._channels):
            yield from mixer.process(frames)
        yield from mixer.flush(is_end=not self._stopping)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""

    def _taken(self) -> Iterator[bytes]:
        while not self._stopping:
            try:
                chunk = self._chunks.get(timeout=10 * POLL_S)
            except queue.Empty:
                continue
            if chunk is None:
                return
            yield chunk


class _Bounded:
    """A reader that refuses what would take all memory; `ValueError` ends the connection."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.readline = reader.readline  # bounded by itself
        self.read = reader.read  # by its argument
        self.feed_eof = reader.feed_eof
        self._reader = reader

    async def readexactly(self, count: int) -> bytes:
        if not 0 <= count <= MAX_EVENT_BYTES:
            raise ValueError(f"{count} bytes")
        return await self._reader.readexactly(count)


class _Connection(AsyncEventHandler):
    """One client."""

    def __init__(
        self, server: Wyoming, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        bounded: Any = _Bounded(reader)
        super().__init__(bounded, writer)
        self._server = server
        self._names: tuple[str, ...] | None = None  # to detect; None to transcribe
        self._stream: _Stream | None = None
        self._work: asyncio.Future[Eventable] | None = None
        server.connections += 1

    async def run(self) -> None:
        """Answer until the client leaves, however it does."""
        try:
            if self._server.connections > CONNECTIONS:
                await self._tell(Error(f"there are {CONNECTIONS} connections already", "busy"))
                # Hanging up on what the client still sends could take the answer from it.
                self.writer.write_eof()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._until_it_leaves(), LEAVE_S)
                return
            await super().run()
        except Exception as error:
            # Of a connection that breaks, or an event: what parsing that may raise is no closed
            # list.
            logger.info("wyoming: a client has gone (%r)", error)
        finally:
            self._server.connections -= 1
            self.writer.close()

    async def _until_it_leaves(self) -> None:
        while await self.reader.read(MAX_EVENT_BYTES):
            pass

    async def disconnect(self) -> None:
        if self._stream is not None:
            self._stream.stop()
        if self._work is not None:
            # Whatever comes of it, nobody wants to know any longer.
            await asyncio.gather(self._work, return_exceptions=True)

    async def handle_event(self, event: Event) -> bool:
        """Answer an event; what is not known is passed over, as the protocol wants."""
        kind = event.type
        if Describe.is_type(kind):
            await self._tell(self._server.info())
        elif Ping.is_type(kind):
            await self._tell(Pong(text=Ping.from_event(event).text))
        elif Transcribe.is_type(kind):
            self._names = None
        elif Detect.is_type(kind):
            labels = self._server.model.labels
            self._names = meant(Detect.from_event(event).names or (), labels)
        elif AudioStart.is_type(kind):
            start = AudioStart.from_event(event)
            return await self._begin(start.rate, start.width, start.channels, start.timestamp)
        elif AudioChunk.is_type(kind):
            chunk = AudioChunk.from_event(event)
            # Some clients begin without a start.
            begun = self._stream is not None or await self._begin(
                chunk.rate, chunk.width, chunk.channels, chunk.timestamp
            )
            if begun and self._stream is not None and self._work is not None:
                await self._stream.put(chunk.audio, self._work)
            return begun
        elif AudioStop.is_type(kind) and self._stream is not None and self._work is not None:
            await self._stream.put(None, self._work)
            answer: Eventable
            try:
                answer = await self._work
            except Exception as error:  # whatever it is, a client waits to be told
                answer = Error(str(error) or repr(error))
            self._stream = self._work = None
            await self._tell(answer)
        return True

    async def _begin(self, rate_hz: int, width: int, channels: int, at_ms: int | None) -> bool:
        """Take a stream on; whether that is possible."""
        if not (
            width == PCM_BYTES
            and MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ
            and 1 <= channels <= MAX_CHANNELS
        ):
            await self._tell(
                Error(
                    f"audio must be of 2 bytes a sample, {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz and 1 "
                    f"to {MAX_CHANNELS} channels"
                )
            )
            return False
        if self._work is not None:  # a second start without an end: the first is given up
            await self.disconnect()
        self._stream = stream = _Stream(rate_hz, channels, self._server.ear)
        loop = asyncio.get_running_loop()
        if self._names is None:
            work = functools.partial(_transcript, self._server, stream)
        else:
            work = functools.partial(self._follow, stream, self._names, at_ms or 0, loop)
        self._work = loop.run_in_executor(None, work)
        return True

    def _follow(
        self,
        stream: _Stream,
        names: Sequence[str],
        at_ms: int,
        loop: asyncio.AbstractEventLoop,
    ) -> Eventable:
        """Tell of each language that begins; in a thread of its own."""
        wanted = set(names or _languages(self._server.model))
        found = False
        with contextlib.closing(self._server.listener()) as listener:
            for heard in listener.hear(stream.blocks()):
                if heard.change is not None and heard.change.language in wanted:
                    found = True
                    timestamp = at_ms + round(1000 * heard.change.decided_s)
                    told = self._tell(Detection(heard.change.language, timestamp))
                    asyncio.run_coroutine_threadsafe(told, loop)
        return _Nothing() if found else NotDetected()

    async def _tell(self, event: Eventable) -> None:
        if not isinstance(event, _Nothing):
            await self.write_event(event.event())


class _Nothing(Eventable):
    """No event: all has been told."""

    @staticmethod
    def is_type(event_type: str) -> bool:
        return False

    def event(self) -> Event:
        raise NotImplementedError

    @staticmethod
    def from_event(event: Event) -> _Nothing:
        return _Nothing()


def _transcript(server: Wyoming, stream: _Stream) -> Eventable:
    """The language of a whole stream."""
    answer = server.recordings().classify(stream)
    is_language = answer.language in _languages(server.model)
    shares = {label: round(share, 4) for label, share in answer.probabilities.items()}
    return Transcript(
        text=language_name(answer.language) if is_language else "",
        language=answer.language if is_language else None,
        context={
            "answer": answer.language,
            "confidence": round(answer.confidence, 4),
            "probabilities": shares,
            **opinion_record(answer),
        },
    )


def _languages(model: ModelFile) -> list[str]:
    return list(model.languages)
