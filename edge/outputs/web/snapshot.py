"""The state as JSON, made once for all who ask, and not too often."""

from __future__ import annotations

import time
from typing import Any

from edge import __version__
from edge.audio.clock import Clock
from edge.audio.level import HINTS, OK
from edge.frontend import SAMPLE_RATE_HZ
from edge.languages import language_name
from edge.outputs.monitor import Counts, Monitor, Now
from edge.outputs.stdout import json_text
from edge.system.machine import memory_bytes, zone_temperature_c

# Spectra follow one another no faster than this, whoever asks how often: loudness in bands that
# is told some 20 times a second can be turned back into words, and slow pictures of it cannot.
STATE_S = 0.2
HEALTH_S = 5.0


class Snapshots:
    """State of a monitor; for one thread.

    Parameters
    ----------
    monitor : Monitor
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._clock = Clock()
        self._started_s = self._clock.now_s()
        self._json = b""
        self._made_s = self._looked_s = float("-inf")
        self._health: dict[str, Any] = {}
        self._earlier = Counts()

    def newest(self) -> bytes:
        """JSON that is at most `STATE_S` old."""
        moment_s = time.monotonic()
        if moment_s - self._made_s >= STATE_S:
            self._json = compact(self._state(moment_s))
            self._made_s = moment_s
        return self._json

    def _state(self, moment_s: float) -> dict[str, Any]:
        now = self._monitor.now()
        if moment_s - self._looked_s >= HEALTH_S:
            self._health = self._look()
            self._looked_s = moment_s
        return {
            "time": round(time.time(), 3),
            "stream_s": round(now.stream_s, 3),
            "language": now.language,
            "name": language_name(now.language),
            "since": round(now.since, 3),
            "confidence": round(now.confidence, 4),
            "window_s": now.window_s,
            "probabilities": {label: round(p, 4) for label, p in now.probabilities.items()},
            "lost": now.lost,
            **_second(now),
            **_taught(self._monitor.taught()),
            "level": {
                "state": now.level,
                "hint": None if now.level == OK else HINTS[now.level],
                "peak_db": round(now.peak_db, 1),
                "rms_db": round(now.rms_db, 1),
                "gain_db": now.gain_db,
            },
            "spectrum_db": now.spectrum_db,
            "health": {"status": status_of(self._monitor), **self._health},
        }

    def _look(self) -> dict[str, Any]:
        """What changes slowly."""
        counts = self._monitor.counts()
        load, self._earlier = counts.load(self._earlier), counts
        source = self._monitor.source
        return {
            "input": source.name if source else None,
            "load": None if load is None else round(load, 4),
            "memory_bytes": memory_bytes("VmRSS"),
            "temperature_c": zone_temperature_c(),
            "backlog_s": round(source.backlog_s, 3) if source else 0.0,
            "dropped_s": round(source.dropped_samples / SAMPLE_RATE_HZ, 3) if source else 0.0,
            "overruns": source.overflows if source else 0,
            "lost_s": {reason: round(s, 3) for reason, s in sorted(counts.lost_s.items())},
            # Reckoned from now: at the start, the clock of a board without one may be hours off.
            "started": round(time.time() - (self._clock.now_s() - self._started_s), 3),
            "version": __version__,
        }


def _second(now: Now) -> dict[str, Any]:
    """Of second opinions, if any are asked for."""
    if now.second is None:
        return {}
    newest = now.second.newest
    return {
        "by": now.by,
        "second_opinion": None
        if newest is None
        else {
            "language": now.second.language,
            "confidence": round(float(newest.probabilities.max()), 4),
            "took_s": round(newest.took_s, 3),
            "answers": now.second.answers,
        },
    }


def _taught(facts: dict[str, Any] | None) -> dict[str, Any]:
    """Of lessons, if there are any; where they are kept is no business of a page."""
    if facts is None:
        return {}
    return {"lessons": {name: value for name, value in facts.items() if name != "path"}}


STUCK_S = 10.0  # blocks, and parts of gaps, come several times a second


def status_of(monitor: Monitor) -> str:
    """``ok``, ``lost`` (nothing is heard, but waited for) or ``stuck``."""
    if monitor.idle_s() > STUCK_S:
        return "stuck"
    return "lost" if monitor.now().lost else "ok"


def compact(value: Any) -> bytes:
    """JSON of one line, without blanks."""
    return json_text(value, (",", ":")).encode()
