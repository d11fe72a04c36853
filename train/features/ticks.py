"""Progress of processes, clip by clip: each adds a byte to a file, whose size is looked at."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

LOOK_S = 0.5


@contextlib.contextmanager
def ticking(file: Path | None) -> Iterator[Callable[[], object]]:
    """What a process calls after every clip; it does nothing if there is no file."""
    if file is None:
        yield lambda: None
        return
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        yield lambda: os.write(descriptor, b".")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def shown(file: Path, progress: tqdm[Any]) -> Iterator[None]:
    """Move a bar by what processes add to a file, which is removed in the end."""
    done = threading.Event()

    def look() -> None:
        with contextlib.suppress(OSError):  # nobody has begun
            progress.update(file.stat().st_size - progress.n)

    def watch() -> None:
        while not done.wait(LOOK_S):
            look()

    file.unlink(missing_ok=True)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        look()
        file.unlink(missing_ok=True)
