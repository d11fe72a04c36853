"""What page and Prometheus are told of second opinions, and that without them it is nothing."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import edge.outputs.web
from edge.belief import COMPACT, SECOND_OPINION
from edge.cli.schema import EVENT_SCHEMA
from edge.frontend import Float32Array
from edge.listener import Listener
from edge.model.interpreter import Graphs
from edge.model.modelfile import DEFAULT_MODEL, ModelFile
from edge.opinion.expert import ExpertFile
from edge.opinion.second import SecondOpinion
from edge.outputs.monitor import Monitor
from edge.outputs.stdout import heard_records
from tests.edge.outputs.web.conftest import serving
from tests.edge.outputs.web.test_web_metrics import counted

OPENAPI = json.loads((Path(edge.outputs.web.__file__).parent / "openapi.json").read_text())


def listened(
    model: ModelFile, graphs: Graphs, speech: Float32Array, second: SecondOpinion | None
) -> Monitor:
    monitor = Monitor()
    events = jsonschema.Draft202012Validator(json.loads(EVENT_SCHEMA.read_text()))
    graphs.reset()
    listener = Listener(model, graphs, model.description.decoder, second=second)
    for heard in listener.hear([speech]):
        monitor.heard(heard, model.labels)
        for record in heard_records(heard, model.labels, windows=False):
            events.validate(record)
            monitor.record(record)
    return monitor


def assert_described(state: object) -> None:
    schema = {**OPENAPI["components"]["schemas"]["State"], "components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(schema).validate(state)


def test_with_one(model: ModelFile, graphs: Graphs, speech: Float32Array) -> None:
    # The compact model serves as its own.
    second = SecondOpinion.of(
        ExpertFile(str(DEFAULT_MODEL), model.labels), model, 0.25, at_once=True
    )
    monitor = listened(model, graphs, speech, second)
    told = second.told()
    with serving(monitor) as running:
        found, state = counted(running), running.ask("/api/v1/state").json
    assert found["edgelid_second_opinions_total",] == told.answers > 5
    assert found["edgelid_second_opinion_seconds_total",] == pytest.approx(told.took_s)
    assert found["edgelid_second_opinions_late_total",] == 0
    for reason in ("busy", "budget", "gone"):
        assert found["edgelid_second_opinions_refused_total", reason] == 0
    by = [found["edgelid_changes_by_total", name] for name in (COMPACT, SECOND_OPINION)]
    assert sum(by) == found["edgelid_changes_total",]
    assert by[1] > 0  # the first may be none: on this speech the other one is asked in time
    assert_described(state)
    assert state["by"] in (COMPACT, SECOND_OPINION)
    assert state["second_opinion"]["language"] == told.language
    assert state["second_opinion"]["answers"] == told.answers


def test_without(model: ModelFile, graphs: Graphs, speech: Float32Array) -> None:
    with serving(listened(model, graphs, speech, None)) as running:
        found, state = counted(running), running.ask("/api/v1/state").json
    assert not [name for name, *_ in found if "second" in name and "opinion" in name]
    assert not [name for name, *_ in found if "changes_by" in name]
    assert not {"by", "second_opinion"} & {*state}
    assert_described(state)
