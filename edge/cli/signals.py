"""Ending and reloading ``edgelid listen`` by signals."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge.audio.sources import AudioSource
    from edge.outputs.settings import Settings
    from edge.outputs.sinks import Sinks
    from edge.service.reload import ReloadingListener


class Stopped(Exception):
    """A signal asked for the end, and everything has been finished properly."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextmanager
def stopped_by_signals(source: AudioSource) -> Iterator[None]:
    """End the source at SIGINT or SIGTERM, so that the last segment still comes out.

    A second signal kills at once.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        source.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])


@contextmanager
def reloaded_by_signal(
    listener: ReloadingListener, sinks: Sinks, read: Callable[[], Settings] | None
) -> Iterator[None]:
    """Read the settings again at SIGHUP; without a file of them, that ends the program."""
    if read is None:
        yield
        return

    def read_again() -> Settings:
        sinks.reloading()
        return read()

    before = signal.signal(signal.SIGHUP, lambda *_: listener.reload(read_again))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def die_of(number: int) -> int:
    """End by a signal, so that shells and service managers see the true cause."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
