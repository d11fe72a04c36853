"""What Prometheus is told, and what the dashboard asks of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edge.audio.sources import AudioSource, Sound
from edge.frontend import SAMPLE_RATE_HZ
from edge.outputs.monitor import LATENCIES_S, Monitor
from edge.outputs.web.feed import Feed
from edge.outputs.web.metrics import Metrics
from edge.outputs.web.snapshot import Snapshots
from tests.edge.outputs.web.conftest import Served, serving
from tests.prometheus import samples

DASHBOARD = Path(__file__).parents[4] / "docs/grafana-dashboard.json"


def counted(served: Served) -> dict[tuple[str, ...], float]:
    """What its page of metrics says."""
    return samples(served.ask("/metrics").body.decode())


def test_what_has_been_heard(full: Served) -> None:
    found = counted(full)
    counts = full.monitor.counts()
    assert found["edgelid_decisions_total",] == counts.hops > 400
    assert found["edgelid_changes_total",] == counts.changes > 5
    for language in ("en", "es", "fr", "zh"):
        told = found["edgelid_language_seconds_total", language]
        assert told == pytest.approx(counts.language_s[language])
    assert found["edgelid_current_language", "en"] == 1
    assert found["edgelid_gaps_total", "device lost"] == 1
    assert found["edgelid_lost_seconds_total", "device lost"] == pytest.approx(3.0)
    assert found["edgelid_listening",] == 1
    assert found["edgelid_resident_memory_bytes",] > 1e6


def test_the_latencies_are_a_histogram(served: Served) -> None:
    for busy_s in (0.0001, 0.003, 0.003, 0.3, 9.0):
        served.monitor.took(busy_s, 0.1)
    found = counted(served)
    name = "edgelid_block_latency_seconds"
    buckets = [found[f"{name}_bucket", str(bound)] for bound in LATENCIES_S]
    assert buckets == [1, 1, 3, 3, 3, 3, 3, 3, 4, 4, 4, 4]
    assert found[f"{name}_bucket", "+Inf"] == found[f"{name}_count",] == 5
    assert found[f"{name}_sum",] == pytest.approx(9.3061)


class Source(AudioSource):
    """One that has lost something."""

    name, rate_hz = "test", SAMPLE_RATE_HZ
    dropped_samples, overflows, backlog_s = 24_000, 3, 0.25

    def blocks(self) -> Sound: ...  # type: ignore[override]

    def close(self) -> None: ...


class Lossy:
    name, lost = "broker", 7


def test_what_source_and_outlets_have_lost() -> None:
    with serving(Monitor(source=Source())) as running:
        found = counted(running)
        health = running.ask("/api/v1/state").json["health"]
    assert found["edgelid_dropped_seconds_total",] == 1.5
    assert found["edgelid_overruns_total",] == 3
    assert found["edgelid_queue_seconds",] == 0.25
    assert (health["input"], health["dropped_s"], health["overruns"]) == ("test", 1.5, 3)
    monitor = Monitor()
    text = Metrics(monitor, Feed(Snapshots(monitor), monitor.live), [Lossy()]).text().decode()  # type: ignore[list-item]
    assert 'edgelid_outlet_lost_total{outlet="broker"} 7.0' in text


def test_the_dashboard_asks_for_what_there_is(full: Served) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    there = {name for name, *_ in counted(full)} | {
        # Without a sensor, or an outlet, there are none.
        "edgelid_temperature_celsius",
        "edgelid_outlet_lost_total",
    }
    for panel in dashboard["panels"]:
        expressions = [target["expr"] for target in panel.get("targets", [])]
        assert expressions or panel["type"] == "row"
        for expression in expressions:
            names = set(re.findall(r"\bedgelid_\w+", expression))
            assert names and names <= there, panel["title"]
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
