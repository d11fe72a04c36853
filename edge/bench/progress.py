"""Progress of a bench, on one line of the terminal that goes away at the end."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Give what shows a text on standard error; where that is no terminal, it does nothing."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda text: None
        return

    def show(text: str) -> None:
        # A line that wraps could not be erased.
        text = text[: shutil.get_terminal_size().columns - 1]
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")
