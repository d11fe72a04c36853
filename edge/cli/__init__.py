"""The commands of edgelid, a module for each: parse, call one function, print.

Each command imports what it needs when it runs: the others start faster, and an interrupt while
numpy loads, which takes a second on the smallest devices, ends it like any other. May import from
all of `edge`; nothing of `edge` imports it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.cli.options import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    with _quiet_interrupts():
        from edge.cli.command_line import main as run
    return run(arguments)


def parser() -> Parser:
    """The grammar of the command line."""
    from edge.cli.command_line import parser as grammar

    return grammar()


@contextlib.contextmanager
def _quiet_interrupts() -> Iterator[None]:
    """Have an interrupt end the program without a traceback, before anything catches it."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # as where it is ignored in the background
        return
    with contextlib.suppress(ValueError):  # of another thread than the main one
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)
