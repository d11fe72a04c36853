"""The outlets that the settings ask for: each optional, each with threads of its own.

One that cannot be set up as it is configured is an error at the start. What fails later, a broker
that is down, a port that is taken, costs that outlet its own messages, is said once, and counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from edge.audio.sources import AudioSource
from edge.config import ConfigError, Settings
from edge.errors import EdgelidError
from edge.outputs.eventlog import read_records
from edge.outputs.monitor import Monitor
from edge.outputs.timeline import Span, Timeline

EARLIER_S = 86_400.0  # of the event log, for the timeline


class Running(Protocol):
    """An outlet at work.

    Attributes
    ----------
    name : str
        In messages and metrics.
    lost : int
        Messages that did not get through.
    """

    @property
    def name(self) -> str: ...

    @property
    def lost(self) -> int: ...

    def put(self, record: dict[str, Any]) -> None:
        """Hand over an event; never waits."""

    def close(self) -> None:
        """End within a moment, whatever hangs."""


def monitor_of(settings: Settings, source: AudioSource, viewed: bool) -> Monitor | None:
    """What those who look on read from, if there are any: the web page, a view on a terminal."""
    if not settings.web and not viewed:
        return None
    earlier = _earlier(Path(settings.log)) if settings.web and settings.log else ()
    return Monitor(earlier, source)


def open_outlets(settings: Settings, monitor: Monitor | None) -> list[Running]:
    """Set up what the settings ask for.

    Raises
    ------
    EdgelidError
        If one is configured wrongly, or needs a package that is missing.
    """
    outlets: list[Running] = []
    try:
        if settings.on_change:
            from edge.outputs.hooks import Hook

            outlets.append(Hook(settings.on_change))
        if settings.mqtt:
            from edge.model.modelfile import DEFAULT_MODEL, read_model
            from edge.outputs.mqtt import Mqtt

            labels = read_model(settings.model or DEFAULT_MODEL).labels
            outlets.append(Mqtt(settings, labels))
        if settings.web and monitor is not None:
            outlets.append(_web_server(settings, monitor, outlets))
    except EdgelidError:
        close_outlets(outlets)
        raise
    return outlets


def close_outlets(outlets: Sequence[Running]) -> None:
    """Close all, side by side: several that hang take no longer than one."""
    threads = [threading.Thread(target=outlet.close) for outlet in outlets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check_outlets(settings: Settings) -> Iterator[str]:
    """What is wrong with the settings of outlets, as far as that shows without using them."""
    if settings.on_change:
        from edge.outputs.hooks import command_words

        yield from _problems(lambda: command_words(settings.on_change))
    if settings.mqtt:
        from edge.outputs.mqtt import check_mqtt

        yield from _problems(lambda: check_mqtt(settings))


def _problems(check: Callable[[], object]) -> list[str]:
    try:
        check()
    except ConfigError as error:
        return error.problems
    return []


def _web_server(settings: Settings, monitor: Monitor, outlets: list[Running]) -> Running:
    try:
        from edge.outputs.web.server import WebServer
    except ImportError as error:
        if (error.name or "").partition(".")[0] in ("edge", ""):
            raise
        raise EdgelidError(
            f"the web page needs the package {error.name}: pip install 'edgelid[web]'."
        ) from error
    return WebServer(settings, monitor, outlets)


def _earlier(log: Path) -> Iterator[Span]:
    """What an event log holds of the last day."""
    timeline, since = Timeline(), time.time() - EARLIER_S
    for record in read_records(log):
        # Whoever has edited it has lost that record.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            span = timeline.add(record)
            if span is not None and span.end > since:
                yield span
