"""Events as spans of the time of day.

Records count seconds of the stream, which is exact; people ask when something was. What ties the
two together is every record that is written the moment that its stream time is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from edge.languages import UNKNOWN

# Records whose `time` is when the stream had come as far as this key says.
_MOMENTS = {"start": "start_s", "change": "decided_s", "level": "heard_s", "gap": "end_s"}
DRIFT = 0.01  # of a stream against the clock: more than that of any device
JITTER_S = 1.0
PACE_S = 5.0  # of stream, between two moments, before they tell how fast it is heard


@dataclass(frozen=True)
class Span:
    """A stretch of one language, or of audio that was lost.

    Attributes
    ----------
    type : str
        ``segment`` or ``gap``.
    name : str
        Language of a segment, reason of a gap.
    start, end : float
        Seconds since 1970, UTC.
    confidence : float or None
        Of a segment.
    """

    type: str
    name: str
    start: float
    end: float
    confidence: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON, to the millisecond."""
        return {**asdict(self), "start": round(self.start, 3), "end": round(self.end, 3)}


class Timeline:
    """Turns records into spans, in the order they come.

    A recording that is heard faster than it would play lies behind its beginning at the pace of
    its audio. Of a stream that is heard as it comes, every moment tells what the clock says now,
    also behind one that was set.

    Parameters
    ----------
    live : bool
        Whether the stream is known to be heard as it comes; else a record ``start``, or two
        moments, tell.

    Attributes
    ----------
    live : bool
        Whether it is known by now.
    """

    def __init__(self, live: bool = False) -> None:
        self.live = self._always_live = live
        self._last: tuple[float, float] | None = None  # moment of the stream, and the clock then
        self._origin: float | None = None  # of stream time, in seconds since 1970
        self._known_s = 0.0  # the moment of the stream that tells so
        self._end_s = 0.0  # of the newest span, in the stream

    def add(self, record: dict[str, Any]) -> Span | None:
        """Take note of a record; returns the span that it completes.

        Gaps that were bridged are within a segment, and none of their own.
        """
        kind = record["type"]
        if (moment := _MOMENTS.get(kind)) is not None:
            self._learn(record[moment], seconds_of(record["time"]), kind == "start")
            if kind == "start":
                self.live = self._always_live or record.get("live") is True
        if kind == "segment":
            return self._span(record, record["language"], record["confidence"])
        if kind == "gap" and not record["bridged"]:
            return self._span(record, record["reason"], None)
        return None

    def _learn(self, moment_s: float, time: float, anew: bool) -> None:
        """Take note of when the stream has come how far."""
        origin = time - moment_s
        if self._origin is None or anew or moment_s < self._known_s:
            self._end_s = 0.0
            self.live = self._always_live
        else:
            self.live = self.live or self._at_pace(moment_s, time)
            early_s, heard_s = self._origin - origin, moment_s - self._known_s
            # Were it earlier by more than was heard, the clock would have been set back.
            if not self.live and JITTER_S + DRIFT * heard_s < early_s <= heard_s + JITTER_S:
                self._last = moment_s, time
                return
        self._origin, self._known_s, self._last = origin, moment_s, (moment_s, time)

    def _at_pace(self, moment_s: float, time: float) -> bool:
        """Whether as much time has passed since the moment before as was heard."""
        if self._last is None:
            return False
        heard_s, passed_s = moment_s - self._last[0], time - self._last[1]
        return heard_s >= PACE_S and abs(passed_s - heard_s) <= JITTER_S + DRIFT * heard_s

    def _span(self, record: dict[str, Any], name: str, confidence: float | None) -> Span:
        if record["start_s"] < self._end_s - JITTER_S:
            self._origin = None  # of another stream
        self._end_s = record["end_s"]
        origin = self._origin
        if origin is None:  # a stream of one segment: its end is when it is told
            origin = seconds_of(record["time"]) - record["end_s"]
        times = origin + record["start_s"], origin + record["end_s"]
        return Span(record["type"], name, *times, confidence)


def spans(records: Iterable[dict[str, Any]]) -> Iterator[Span]:
    """Spans of the records of a log, in their order."""
    timeline = Timeline()
    for record in records:
        if (span := timeline.add(record)) is not None:
            yield span


def change_of(record: dict[str, Any], language: str) -> dict[str, Any] | None:
    """What a record changes of the answer `language`, as a record ``change``; None for nothing.

    A segment ends where a change begins another, or because the audio does: then nothing is known.
    """
    if record["type"] == "change":
        return record
    if record["type"] == "segment" and record["language"] == language != UNKNOWN:
        end_s = record["end_s"]
        return {
            "type": "change",
            "language": UNKNOWN,
            "previous": language,
            "start_s": end_s,
            "decided_s": end_s,
            "confidence": 0.0,
            "time": record["time"],
        }
    return None


def seconds_of(time: str) -> float:
    """Seconds since 1970 of a record's ``time``."""
    return datetime.fromisoformat(time).timestamp()


def time_of(seconds: float) -> str:
    """ISO 8601 in UTC, as records have it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
