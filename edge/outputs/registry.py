"""Opening the outlets that the settings ask for: each optional, each with threads of its own.

One that cannot be set up as it is configured is an error at the start. What fails later, a broker
that is down, a port that is taken, costs that outlet its own messages, is said once, and counted.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge.audio.sources import AudioSource
from edge.errors import EdgelidError
from edge.outputs.eventlog import read_records
from edge.outputs.monitor import Monitor
from edge.outputs.outlet_settings import Running, Surroundings
from edge.outputs.settings import OUTLETS, Settings
from edge.outputs.timeline import Span, Timeline

EARLIER_S = 86_400.0  # of the event log, for the timeline


def monitor_of(settings: Settings, source: AudioSource, viewed: bool) -> Monitor | None:
    """What those who look on read from, if there are any: the web page, a view on a terminal."""
    looked_on = any(kind.looks_on and kind.asked_for(settings) for kind in OUTLETS)
    if not looked_on and not viewed:
        return None
    earlier = _earlier(Path(settings.log)) if looked_on and settings.log else ()
    return Monitor(earlier, source, live=not settings.input)


def open_outlets(
    settings: Settings, labels: tuple[str, ...], monitor: Monitor | None
) -> list[Running]:
    """Set up what the settings ask for.

    Parameters
    ----------
    settings : Settings
    labels : tuple of str
        Classes of the model.
    monitor : Monitor or None

    Raises
    ------
    EdgelidError
        If one is configured wrongly, or needs a package that is missing.
    """
    outlets: list[Running] = []
    surroundings = Surroundings(labels, monitor, outlets)
    try:
        for kind in OUTLETS:
            if kind.asked_for(settings) and (monitor is not None or not kind.looks_on):
                outlets.append(kind.work().open_outlet(settings, surroundings))
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


def _earlier(log: Path) -> Iterator[Span]:
    """What an event log holds of the last day."""
    timeline, now = Timeline(), time.time()
    for record in read_records(log, now - EARLIER_S):
        # Whoever has edited it has lost that record.
        with contextlib.suppress(KeyError, TypeError, ValueError):
            span = timeline.add(record)
            # A microphone that was heard ahead of now had a clock that was wrong; a file that was
            # heard fast lies ahead anyway.
            ahead = span is not None and timeline.live and span.end > now
            if span is not None and span.end > now - EARLIER_S and not ahead:
                yield span
