"""A command at a terminal that a test looks at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence

import pyte

from tests.waiting import PATIENCE_S


class PseudoTerminal:
    """A running command and what its terminal shows.

    Attributes
    ----------
    process : Popen
    screen : pyte.Screen
    sent : bytes
        Everything that the command has written.
    """

    def __init__(self, words: Sequence[str], columns: int, lines: int, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        # Where the environment states a size, it counts instead of the terminal's.
        inherited = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            words,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.close(slave)
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.sent = b""

    def resize(self, columns: int, lines: int) -> None:
        """Make the terminal smaller or larger, as a person does with a window."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if hasattr(self, "screen"):
            self.screen.resize(lines, columns)

    def type(self, keys: bytes) -> None:
        """Have keys pressed; nothing is interrupted by them, as it has no controlling terminal."""
        os.write(self._master, keys)

    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let the command go on until something is so, or has not come about in `PATIENCE_S`."""
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, f"it has not come about:\n{self.text()}"
            if not self._read():
                assert condition(), f"the command has ended:\n{self.text()}"

    def wait(self) -> int:
        """Let the command go on to its end; returns its exit status."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End the command, and the terminal."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)

    def _read(self) -> bool:
        """Show what has been written; whether there may be more."""
        if not select.select([self._master], [], [], 0.05)[0]:
            return True
        try:
            some = os.read(self._master, 1 << 16)
        except OSError:  # Linux's way of saying that nobody has the other end open
            return False
        self.sent += some
        self._stream.feed(some)
        return bool(some)


@contextlib.contextmanager
def pseudo_terminal(
    words: Sequence[str], columns: int = 80, lines: int = 24, **environment: str
) -> Iterator[PseudoTerminal]:
    """A command at a terminal of a size."""
    terminal = PseudoTerminal(words, columns, lines, **environment)
    try:
        yield terminal
    finally:
        terminal.close()
