"""The monitor: what is heard now and was heard lately, to be read from other threads.

The thread that listens writes here and never waits longer than for a copy. Terminal, web page,
metrics and whoever else reads what they need, when they like.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from edge.audio.gain import decibels
from edge.audio.level import OK
from edge.audio.sources import AudioSource
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import UNKNOWN
from edge.listener import Heard
from edge.opinion.second import Told
from edge.outputs.timeline import JITTER_S, Span, Timeline

SPANS = 20_000  # of segments and gaps: a day at the pace of an excited market place
TREND_S = 1.0
TRENDS = 3_600  # an hour of probabilities
# Of the strip under the level: octave fractions from 100 Hz to 8 kHz, loud enough to look at.
BANDS = 32
LOWEST_HZ = 100.0
SPECTRUM_SAMPLES = 1_024
FLOOR_DB = -100.0
# Upper bounds of the time that a block of audio takes.
LATENCIES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Now:
    """One moment.

    Attributes
    ----------
    time : float
        Seconds since 1970.
    stream_s : float
        Stream time.
    language : str
        A class of the model, or ``unknown``.
    since : float
        Since when that is the answer, in seconds since 1970.
    confidence : float
    window_s : float
        Length of the window that the probabilities are of.
    probabilities : dict of str to float
    peak_db, rms_db : float
        Of the newest block; full scale is 0 dB.
    spectrum_db : tuple of int
        Power in `BANDS` bands of the newest block.
    level : str
        ``ok`` or what is wrong with the level, a key of `edge.audio.level.HINTS`.
    gain_db : int
        What the sound is amplified by, as it is too quiet.
    by : str or None
        Who decided on the language, where there are two.
    second : Told or None
        What has come of second opinions, if any are asked for.
    lost : bool
        Nothing is heard just now.
    """

    time: float
    stream_s: float = 0.0
    language: str = UNKNOWN
    since: float = 0.0
    confidence: float = 0.0
    window_s: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
    peak_db: float = FLOOR_DB
    rms_db: float = FLOOR_DB
    spectrum_db: tuple[int, ...] = (round(FLOOR_DB),) * BANDS
    level: str = OK
    gain_db: int = 0
    lost: bool = False
    by: str | None = None
    second: Told | None = None


@dataclass
class Counts:
    """What only grows.

    Attributes
    ----------
    hops, changes : int
    changes_by : Counter
        The same by who decided, where there are two.
    language_s : Counter
        Seconds of finished segments, by language.
    gaps, lost_s : Counter
        Number and seconds, by reason.
    blocks : int
    busy_s : float
        Time that blocks have taken; together with `waited_s`, the time that has passed.
    waited_s : float
        Time spent waiting for audio.
    latencies : list of int
        Blocks by the time they took: up to each of `LATENCIES_S`, and beyond.
    """

    hops: int = 0
    changes: int = 0
    changes_by: Counter[str] = field(default_factory=Counter)
    language_s: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)
    lost_s: Counter[str] = field(default_factory=Counter)
    blocks: int = 0
    busy_s: float = 0.0
    waited_s: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCIES_S) + 1))

    def load(self, earlier: Counts) -> float | None:
        """Share of the time since then that was spent on audio; None if none has passed."""
        busy_s, waited_s = self.busy_s - earlier.busy_s, self.waited_s - earlier.waited_s
        return busy_s / (busy_s + waited_s) if busy_s + waited_s else None


class Monitor:
    """Written by the thread that listens, read by any.

    Parameters
    ----------
    earlier : iterable of Span
        What an event log holds of before this start.
    source : AudioSource, optional
        Where the audio comes from: it counts what it loses itself.
    live : bool
        Whether it is heard as it comes, see `Timeline`.

    Attributes
    ----------
    source : AudioSource or None
    live : bool
    taught : callable
        Gives what there is to tell of lessons, or None; any thread may call it.
    """

    def __init__(
        self,
        earlier: Iterable[Span] | None = None,
        source: AudioSource | None = None,
        live: bool = False,
    ) -> None:
        self.source, self.live = source, live
        self.taught: Callable[[], dict[str, Any] | None] = lambda: None
        self._lock = threading.Lock()
        moment = time.time()
        self._now = Now(moment, since=moment)
        self._counts = Counts()
        self._timeline = Timeline(live)
        self._spans: deque[Span] = deque(earlier or (), SPANS)
        self._trends: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=TRENDS)
        self._labels: tuple[str, ...] = ()
        self._alive_s = time.monotonic()
        self._window = np.hanning(SPECTRUM_SAMPLES).astype(np.float32)
        self._edges = _band_edges()

    # --- of the thread that listens -----------------------------------------------------------

    def audio(self, samples: Float32Array) -> None:
        """Take note of a block, shape (n,), before it is heard."""
        tail = samples[-SPECTRUM_SAMPLES:]
        peak = float(np.abs(samples).max())
        power = float(np.vdot(samples, samples)) / len(samples)
        spectrum = self._spectrum(tail)
        with self._lock:
            self._now = replace(
                self._now,
                peak_db=_db(peak * peak),
                rms_db=_db(power),
                spectrum_db=spectrum,
                lost=False,
            )

    def heard(self, heard: Heard, labels: tuple[str, ...]) -> None:
        """Take note of what a hop brought."""
        moment = time.time()
        current = heard.current
        with self._lock:
            if labels != self._labels:  # of another model
                self._labels = labels
                self._trends.clear()
            now = replace(
                self._now,
                time=moment,
                stream_s=current.end_s,
                language=current.language,
                since=moment - (current.end_s - current.start_s),
                confidence=current.confidence,
                by=current.by,
            )
            if heard.windows:
                window = heard.windows[0]
                values = window.probabilities.tolist()
                now = replace(
                    now,
                    window_s=window.length_s,
                    gain_db=decibels(heard.gain),
                    second=heard.second,
                    probabilities=dict(zip(labels, values, strict=True)),
                )
                self._counts.hops += 1
                while self._trends and self._trends[-1][0] > moment:  # the clock was set back
                    self._trends.pop()
                if not self._trends or moment - self._trends[-1][0] >= TREND_S:
                    self._trends.append((moment, tuple(round(1000 * v) for v in values)))
            self._now = now

    def gap(self) -> None:
        """Take note that nothing is heard."""
        with self._lock:
            self._now = replace(
                self._now,
                time=time.time(),
                probabilities={},  # of what was heard before, and not of now
                peak_db=FLOOR_DB,
                rms_db=FLOOR_DB,
                spectrum_db=Now.spectrum_db,
                lost=True,
            )

    def took(self, busy_s: float, waited_s: float) -> None:
        """Take note of the time that a block took, and of that spent waiting for it."""
        with self._lock:
            self._alive_s = time.monotonic()
            self._counts.blocks += 1
            self._counts.busy_s += busy_s
            self._counts.waited_s += waited_s
            self._counts.latencies[int(np.searchsorted(LATENCIES_S, busy_s))] += 1

    def record(self, record: dict[str, Any]) -> None:
        """Take note of an event."""
        kind = record["type"]
        if kind == "window":
            return
        with self._lock:
            span = self._timeline.add(record)
            if span is not None:
                self._forget_the_future(span)
                self._spans.append(span)
            if kind == "change":
                self._counts.changes += 1
                if "by" in record:
                    self._counts.changes_by[record["by"]] += 1
            elif kind == "segment":
                self._counts.language_s[record["language"]] += record["end_s"] - record["start_s"]
            elif kind == "gap":
                self._counts.gaps[record["reason"]] += 1
                self._counts.lost_s[record["reason"]] += record["end_s"] - record["start_s"]
            elif kind == "level":
                self._now = replace(self._now, level=record["state"])

    def _forget_the_future(self, newest: Span) -> None:
        """Leave out what lies ahead of what was just heard: the clock was set back."""
        if self._timeline.live and any(s.end > newest.end + JITTER_S for s in self._spans):
            kept = [span for span in self._spans if span.end <= newest.end + JITTER_S]
            self._spans = deque(kept, SPANS)

    # --- of the others ------------------------------------------------------------------------

    def now(self) -> Now:
        """The newest moment."""
        with self._lock:
            return self._now

    def idle_s(self) -> float:
        """Time since a block of audio, or a part of a gap, was dealt with."""
        with self._lock:
            return time.monotonic() - self._alive_s

    def counts(self) -> Counts:
        """A copy of what has been counted."""
        with self._lock:
            c = self._counts
            return replace(
                c,
                changes_by=Counter(c.changes_by),
                language_s=Counter(c.language_s),
                gaps=Counter(c.gaps),
                lost_s=Counter(c.lost_s),
                latencies=list(c.latencies),
            )

    def spans(self, since: float = 0.0) -> list[Span]:
        """Segments and gaps that ended after a time, in seconds since 1970; the oldest first."""
        with self._lock:
            spans = [*self._spans]  # a copy takes less time than looking at each
        return [span for span in spans if span.end > since]

    def trends(
        self, since: float = 0.0
    ) -> tuple[tuple[str, ...], list[tuple[float, tuple[int, ...]]]]:
        """Labels, and their probabilities in thousandths, a second apart, after a time."""
        with self._lock:
            labels, trends = self._labels, [*self._trends]
        return labels, [trend for trend in trends if trend[0] > since]

    def _spectrum(self, samples: Float32Array) -> tuple[int, ...]:
        """Power of up to `SPECTRUM_SAMPLES` samples in bands, in dB."""
        window = self._window[: len(samples)]
        spectrum = np.abs(np.fft.rfft(samples * window, SPECTRUM_SAMPLES)) ** 2
        sums = np.add.reduceat(spectrum, self._edges)
        # The Hann window passes 3/8 of the power, and the negative frequencies are the other half.
        power = sums * (2 / (0.375 * SPECTRUM_SAMPLES**2))
        level = 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))
        return tuple(np.rint(level).astype(int).tolist())


def _band_edges() -> np.ndarray:
    """First bins of the bands, each with one bin at least."""
    edges_hz = np.geomspace(LOWEST_HZ, SAMPLE_RATE_HZ / 2, BANDS + 1)[:-1]
    bins = np.rint(edges_hz * SPECTRUM_SAMPLES / SAMPLE_RATE_HZ).astype(int)
    for index in range(1, BANDS):
        bins[index] = max(bins[index], bins[index - 1] + 1)
    return bins


def _db(power: float) -> float:
    return max(FLOOR_DB, 10 * float(np.log10(power))) if power > 0 else FLOOR_DB
