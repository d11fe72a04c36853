"""The answers, held against the OpenAPI file that describes them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import edge.outputs.web
from edge.audio.sources import Gap, Sound
from edge.outputs.monitor import Monitor
from edge.outputs.timeline import Span
from edge.outputs.web import api, snapshot
from tests.edge.outputs.web.conftest import PRIVATE_PATHS, Answer, Served, serving

OPENAPI = json.loads((Path(edge.outputs.web.__file__).parent / "openapi.json").read_text())


def fits(answer: Answer, path: str) -> Any:
    """The answer, if it is one of those described."""
    described = OPENAPI["paths"][path]["get"]["responses"][str(answer.status)]
    if "$ref" in described:
        described = OPENAPI["components"]["responses"][described["$ref"].rpartition("/")[2]]
    kind = answer.headers["content-type"].partition(";")[0]
    schema = described["content"][kind]["schema"]
    value = answer.json if kind == "application/json" else answer.body.decode()
    whole = {**schema, "components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(whole).validate(value)
    return value


def test_the_openapi_file_describes_all_that_can_be_asked_for(full: Served) -> None:
    answer = full.ask("/api/v1/openapi.json")
    assert (answer.status, answer.json) == (200, OPENAPI)
    assert set(OPENAPI["paths"]) == PRIVATE_PATHS | {"/healthz"}
    jsonschema.Draft202012Validator.check_schema(
        {"$defs": OPENAPI["components"]["schemas"], "components": OPENAPI["components"]}
    )


def test_state(full: Served) -> None:
    state = fits(full.ask("/api/v1/state"), "/api/v1/state")
    assert (state["language"], state["name"]) == ("en", "English")
    assert sum(state["probabilities"].values()) == pytest.approx(1, abs=0.01)
    assert state["health"]["memory_bytes"] > 1e6
    assert state["health"]["lost_s"] == {"device lost": 3.0}


def test_the_load_is_of_the_time_since_it_was_asked_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "STATE_S", 0.0)
    monkeypatch.setattr(snapshot, "HEALTH_S", 0.0)
    for busy_s, load in ((0.001, 0.01), (0.019, 0.19)):
        served.monitor.took(busy_s, 0.1 - busy_s)
        state = fits(served.ask("/api/v1/state"), "/api/v1/state")
        assert state["health"]["load"] == pytest.approx(load)


def test_how_long_it_has_been_running_is_no_matter_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which may be set right only once the network is there."""
    monkeypatch.setattr("time.time", lambda: 1_000.0)
    snapshots = snapshot.Snapshots(Monitor())
    monkeypatch.setattr("time.time", lambda: 100_000.0)
    state = json.loads(snapshots.newest())
    assert state["time"] - state["health"]["started"] == pytest.approx(0.0, abs=30.0)


def test_state_before_anything_is_heard(served: Served) -> None:
    state = fits(served.ask("/api/v1/state"), "/api/v1/state")
    assert (state["language"], state["probabilities"], state["lost"]) == ("unknown", {}, False)


def test_segments(full: Served) -> None:
    told = fits(full.ask("/api/v1/segments"), "/api/v1/segments")
    spans = sorted(full.monitor.spans(), key=lambda span: span.end)
    assert told["segments"] == [span.as_dict() for span in spans]
    assert [span["name"] for span in told["segments"]].count("device lost") == 1
    later = full.ask(f"/api/v1/segments?since={spans[2].end}").json["segments"]
    assert later == told["segments"][3:]
    assert full.ask("/api/v1/segments?since=9e12").json == {"segments": [], "next": None}


def test_many_segments_come_in_parts() -> None:
    spans = [Span("segment", "de", float(i), i + 1.0, 0.5) for i in range(2_500)]
    with serving(Monitor(spans)) as running:
        found: list[dict[str, Any]] = []
        since: float | None = 0.0
        while since is not None:
            answer = fits(running.ask(f"/api/v1/segments?since={since}"), "/api/v1/segments")
            assert len(answer["segments"]) <= api.MOST_SEGMENTS
            found += answer["segments"]
            since = answer["next"]
    assert found == [span.as_dict() for span in spans]


def test_probabilities(full: Served) -> None:
    told = fits(full.ask("/api/v1/probabilities"), "/api/v1/probabilities")
    assert len(told["names"]) == len(told["labels"]) == len(told["points"][0]) - 1
    assert sum(told["points"][0][1:]) == pytest.approx(1000, abs=10)
    newest = told["points"][-1][0]
    assert full.ask(f"/api/v1/probabilities?since={newest + 0.001}").json["points"] == []


@pytest.mark.parametrize("path", ["/api/v1/segments", "/api/v1/probabilities"])
@pytest.mark.parametrize("since", ["x", "nan", "inf", "-inf", "1e999", "%00", "1,5", ""])
def test_a_time_that_is_none(full: Served, path: str, since: str) -> None:
    answer = full.ask(f"{path}?since={since}")
    assert answer.status == 400
    fits(answer, path)


def test_health(
    served: Served,
    hear: Callable[[Served, Iterable[Sound]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fits(served.ask("/healthz"), "/healthz") == {"status": "ok"}
    hear(served, [np.zeros(1600, np.float32), Gap(16_000, "device lost")])
    served.monitor.gap()
    assert fits(served.ask("/healthz"), "/healthz") == {"status": "lost"}
    monkeypatch.setattr(snapshot, "STUCK_S", -1.0)
    answer = served.ask("/healthz")
    assert (answer.status, fits(answer, "/healthz")) == (503, {"status": "stuck"})


def test_pictures_of_the_sound_do_not_follow_fast(served: Served) -> None:
    """However often someone asks: fast enough ones could be turned back into words."""
    generator = np.random.default_rng(1)
    start_s = time.monotonic()
    spectra = []
    while len(spectra) < 50 or len(set(spectra)) < 2:
        served.monitor.audio(generator.standard_normal(800, np.float32))
        spectra.append(str(served.ask("/api/v1/state").json["spectrum_db"]))
    lasted_s = time.monotonic() - start_s
    assert len(set(spectra)) <= lasted_s / snapshot.STATE_S + 1


def test_files_are_sent_once(full: Served) -> None:
    for path, (_, kind) in api.FILES.items():
        first = full.ask(path)
        assert (first.status, first.headers["content-type"]) == (200, kind)
        again = full.ask(path, If_None_Match=first.headers["etag"])
        assert (again.status, again.body) == (304, b"")


def test_the_page_is_small_and_complete(full: Served) -> None:
    pages = {path: full.ask(path).body for path in api.FILES if not path.startswith("/api")}
    assert sum(map(len, pages.values())) < 200_000
    for path, body in pages.items():
        assert b"http" not in body.replace(b"http://www.w3.org/2000/svg", b""), path


def test_head(full: Served) -> None:
    for path in ("/", "/api/v1/state", "/api/v1/events", "/metrics"):
        answer = full.ask(path, "HEAD")
        assert (answer.status, answer.body) == (200, b"")
