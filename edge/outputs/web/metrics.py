"""Metrics for Prometheus, read from the monitor when they are asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from edge import __version__
from edge.belief import COMPACT, SECOND_OPINION
from edge.frontend import SAMPLE_RATE_HZ
from edge.opinion.asking import REFUSALS
from edge.outputs.monitor import LATENCIES_S, Counts, Monitor
from edge.outputs.web.feed import Feed
from edge.system.machine import memory_bytes, zone_temperature_c

if TYPE_CHECKING:
    from edge.outputs.outlet_settings import Running

__all__ = ["CONTENT_TYPE", "Metrics"]


class Metrics(Collector):
    """What `/metrics` tells.

    Parameters
    ----------
    monitor : Monitor
    feed : Feed
    outlets : sequence of Running
        All that there are, as they come to be.
    """

    def __init__(self, monitor: Monitor, feed: Feed, outlets: Sequence[Running]) -> None:
        self._monitor = monitor
        self._feed = feed
        self._outlets = outlets
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def text(self) -> bytes:
        """In the format that Prometheus reads."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: names need no check against those of others."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All metrics, at this moment."""
        counts = self._monitor.counts()
        yield InfoMetricFamily("edgelid_build", "What runs.", {"version": __version__})
        yield from self._answers(counts)
        yield from self._second(counts)
        yield from self._losses(counts)
        yield _latencies(counts)
        memory, temperature_c = memory_bytes("VmRSS"), zone_temperature_c()
        if memory is not None:
            yield _gauge("edgelid_resident_memory_bytes", "Memory of the program.", memory)
        if temperature_c is not None:
            yield _gauge(
                "edgelid_temperature_celsius",
                "Of the processor, or its hottest part.",
                temperature_c,
            )
        yield _gauge("edgelid_web_viewers", "Who watches the event stream.", self._feed.viewers)
        lost = CounterMetricFamily(
            "edgelid_outlet_lost", "Messages that did not get through.", labels=["outlet"]
        )
        for outlet in self._outlets:
            lost.add_metric([outlet.name], outlet.lost)
        yield lost

    def _answers(self, counts: Counts) -> Iterator[Metric]:
        now = self._monitor.now()
        yield _counter("edgelid_decisions", "Answers, one a hop.", counts.hops)
        yield _counter("edgelid_changes", "Changes of the language.", counts.changes)
        seconds = CounterMetricFamily(
            "edgelid_language_seconds", "Length of finished segments.", labels=["language"]
        )
        for language, length_s in sorted(counts.language_s.items()):
            seconds.add_metric([language], length_s)
        yield seconds
        current = GaugeMetricFamily(
            "edgelid_current_language", "1 for the language now.", labels=["language"]
        )
        current.add_metric([now.language], 1)
        yield current
        yield _gauge("edgelid_confidence_ratio", "Of the language now.", now.confidence)
        yield _gauge(
            "edgelid_level_rms_decibels", "Of the newest block, full scale at 0.", now.rms_db
        )
        yield _gauge("edgelid_gain_decibels", "What quiet sound is amplified by.", now.gain_db)

    def _second(self, counts: Counts) -> Iterator[Metric]:
        """Of second opinions, if any are asked for."""
        told = self._monitor.now().second
        if told is None:
            return
        yield _counter("edgelid_second_opinions", "Answers of the large model.", told.answers)
        yield _counter("edgelid_second_opinion_seconds", "Processor time of these.", told.took_s)
        yield _counter("edgelid_second_opinions_late", "Those too late to count.", told.late)
        refused = CounterMetricFamily(
            "edgelid_second_opinions_refused",
            "How often one was wanted and not asked for.",
            labels=["reason"],
        )
        for reason in REFUSALS:
            refused.add_metric([reason], told.refused.get(reason, 0))
        yield refused
        changes = CounterMetricFamily(
            "edgelid_changes_by", "Changes of the language, by who decided.", labels=["by"]
        )
        for by in (COMPACT, SECOND_OPINION):
            changes.add_metric([by], counts.changes_by[by])
        yield changes

    def _losses(self, counts: Counts) -> Iterator[Metric]:
        source = self._monitor.source
        yield _gauge("edgelid_listening", "0 while nothing is heard.", not self._monitor.now().lost)
        gaps = CounterMetricFamily("edgelid_gaps", "Stretches that were lost.", labels=["reason"])
        lost = CounterMetricFamily(
            "edgelid_lost_seconds", "Audio that was lost, in gaps.", labels=["reason"]
        )
        for reason, number in sorted(counts.gaps.items()):
            gaps.add_metric([reason], number)
            lost.add_metric([reason], counts.lost_s[reason])
        yield gaps
        yield lost
        overruns = source.overflows if source else 0
        dropped_s = source.dropped_samples / SAMPLE_RATE_HZ if source else 0.0
        backlog_s = source.backlog_s if source else 0.0
        yield _counter("edgelid_overruns", "Losses that the audio system reported.", overruns)
        yield _counter("edgelid_dropped_seconds", "Audio that came too fast.", dropped_s)
        yield _gauge("edgelid_queue_seconds", "Audio that waits to be heard.", backlog_s)


def _latencies(counts: Counts) -> Metric:
    bounds = [*map(str, LATENCIES_S), "+Inf"]
    so_far = itertools.accumulate(counts.latencies)
    buckets = list(zip(bounds, map(float, so_far), strict=True))
    return HistogramMetricFamily(
        "edgelid_block_latency_seconds",
        "Time that a block of audio took, from its arrival until all was told of it.",
        buckets=buckets,
        sum_value=counts.busy_s,
    )


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(name, meaning, value=value)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=float(value))
