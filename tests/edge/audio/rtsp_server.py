"""A camera, as far as RTSP and HTTP go: one stream of sound for each who asks, in real time.

Both may be taken away and brought back, as cameras and radios are.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from edge.frontend import Float32Array

RATE_HZ = 16_000
PACKET_SAMPLES = 320
PAYLOAD = 96


def l16(samples: Float32Array) -> bytes:
    """Samples as RTP has them (RFC 3551): 16 bits, big-endian."""
    return (samples * 32_767).astype(">i2").tobytes()


class Server:
    """Serves the same samples over and over, at the speed of sound cards.

    Parameters
    ----------
    samples : ndarray, shape (n,)
        16 kHz.
    """

    def __init__(self, samples: Float32Array) -> None:
        self._data = l16(samples)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._connections: list[socket.socket] = []
        self.requests: list[str] = []
        self.is_up = True
        self.is_silent = False
        threading.Thread(target=self._accept, daemon=True).start()

    def down(self) -> None:
        """Break every connection, and refuse new ones."""
        self.is_up = False
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._connections.clear()

    def up(self) -> None:
        """Serve again."""
        self.is_up = True

    def close(self) -> None:
        """End."""
        self.down()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                if not self.is_up:
                    connection.close()
                    continue
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            for head in _requests(connection):
                method, url, protocol = head[0].split(" ")
                self.requests.append(head[0])
                if protocol.startswith("HTTP"):
                    self._http(connection)
                    return
                if self._rtsp(connection, method, url, head):
                    return

    def _http(self, connection: socket.socket) -> None:
        """A radio: WAV of no length, without end."""
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: audio/wav\r\n\r\n")
        sizes = b"\xff\xff\xff\xff"
        form = struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, 2 * RATE_HZ, 2, 16)
        connection.sendall(b"RIFF" + sizes + b"WAVEfmt " + form + b"data" + sizes)
        self._play(lambda data: connection.sendall(np.frombuffer(data, ">i2").astype("<i2")))

    def _rtsp(self, connection: socket.socket, method: str, url: str, head: list[str]) -> bool:
        number = next(line.split(":")[1].strip() for line in head if line.startswith("CSeq"))
        reply = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n"
        if method == "DESCRIBE":
            session = (
                f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
                f"m=audio 0 RTP/AVP {PAYLOAD}\r\na=rtpmap:{PAYLOAD} L16/{RATE_HZ}/1\r\n"
                f"a=control:sound\r\n"
            )
            reply += f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\n"
            reply += f"Content-Length: {len(session)}\r\n\r\n{session}"
        elif method == "SETUP":
            reply += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
        elif method == "OPTIONS":
            reply += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"
        else:
            reply += "Session: 1\r\n\r\n"
        connection.sendall(reply.encode())
        if method != "PLAY":
            return method == "TEARDOWN"
        packets = iter(range(1 << 30))

        def send(data: bytes) -> None:
            count = next(packets)
            head = struct.pack(
                ">BBHII", 0x80, PAYLOAD, count & 0xFFFF, count * PACKET_SAMPLES & 0xFFFFFFFF, 7
            )
            connection.sendall(b"$\0" + struct.pack(">H", len(head + data)) + head + data)

        self._play(send)
        return True

    def _play(self, send: Callable[[bytes], object]) -> None:
        start_s, packets = time.monotonic(), 0
        while self.is_up:
            if not self.is_silent:
                at = packets * 2 * PACKET_SAMPLES % (len(self._data) - 2 * PACKET_SAMPLES)
                send(self._data[at : at + 2 * PACKET_SAMPLES])
            packets += 1
            due_s = start_s + packets * PACKET_SAMPLES / RATE_HZ
            time.sleep(max(0.0, due_s - time.monotonic()))


def _requests(connection: socket.socket) -> Iterator[list[str]]:
    """Heads of requests, as lines."""
    data = b""
    while part := connection.recv(4_096):
        data += part
        while b"\r\n\r\n" in data:
            head, _, data = data.partition(b"\r\n\r\n")
            yield head.decode().split("\r\n")
