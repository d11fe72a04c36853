"""Ranges are fitted to the answers, and nothing else of a graph changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from convert.flatbuffer import read_graphs
from convert.from_checkpoint import stream_spec
from convert.ranges import PASSING, _Heard, _Ranges, fitted_int8
from convert.streaming_graph import (
    StreamingModule,
    calibrated_graph,
    int8_graph,
    representative_samples,
    to_int8,
)
from edge.errors import EdgelidError
from edge.frontend import Float32Array
from edge.model.interpreter import Graphs, run_model
from edge.model.modelfile import FORMAT_VERSION, StreamSpec
from tests.convert.test_architectures import (
    CLIPS,
    SAMPLES,
    SHAPES,
    WINDOW_S,
    drawn,
    frames_of,
    model_file,
)

SHAPE = SHAPES[-1]  # convolutions and attention


@pytest.fixture(scope="module")
def module() -> StreamingModule:
    return drawn(SHAPE, seed=3)


@pytest.fixture(scope="module")
def clips() -> list[Float32Array]:
    """Speech, and a moment that is far from all of it."""
    found = [frames_of(SAMPLES), *map(frames_of, CLIPS[:4])]
    found[0] = found[0].copy()
    found[0][200:203] *= 8
    return found


@pytest.fixture(scope="module")
def calibrated(module: StreamingModule, clips: Sequence[Float32Array]) -> bytes:
    return calibrated_graph(module, representative_samples(module, clips))


@cache
def spec() -> StreamSpec:
    return stream_spec(drawn(SHAPE, seed=3), SHAPE, (WINDOW_S,))


def opened(graph: bytes) -> Graphs:
    graphs = run_model(model_file(graph, FORMAT_VERSION, spec()), 1)
    assert isinstance(graphs, Graphs)
    return graphs


def test_nothing_changes_where_no_range_does(
    module: StreamingModule, clips: Sequence[Float32Array], calibrated: bytes
) -> None:
    same = int8_graph(_Ranges(calibrated).scaled({}))
    for a, b in zip(
        read_graphs(same),
        read_graphs(to_int8(module, representative_samples(module, clips))),
        strict=True,
    ):
        assert a == b


def test_what_is_handed_on_has_one_range(calibrated: bytes) -> None:
    ranges = _Ranges(calibrated)
    graph = read_graphs(int8_graph(ranges.scaled(dict.fromkeys(ranges.groups, 0.5))))[0]
    before = read_graphs(int8_graph(calibrated))[0]
    scales = {
        (a.kind, b.scales[0] / c.scales[0])
        for a, old in zip(graph.operators, before.operators, strict=True)
        for b, c in zip(a.outputs, old.outputs, strict=True)
    }
    assert {round(ratio, 3) for kind, ratio in scales if kind == "SOFTMAX"} == {1.0}
    assert {round(ratio, 3) for kind, ratio in scales if kind in PASSING} == {0.5}
    for i in range(len(graph.inputs) - 1):
        assert graph.inputs[f"state_{i}"].scales == graph.outputs[f"state_{i}_next"].scales


def test_answers_come_nearer(
    module: StreamingModule, clips: Sequence[Float32Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.ranges.FACTORS", (0.3, 0.6))
    heard = _Heard(module, clips)
    plain = heard.distance(opened(to_int8(module, representative_samples(module, clips))))
    fitted = heard.distance(opened(fitted_int8(module, clips, opened)))
    assert 0 < fitted < 0.7 * plain


def test_a_range_that_no_graph_can_have(
    module: StreamingModule,
    clips: Sequence[Float32Array],
    calibrated: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left as it was."""
    monkeypatch.setattr("convert.ranges.FACTORS", (0.6,))
    asked = []

    def refusing(graph: bytes) -> Graphs:
        asked.append(graph)
        if len(asked) > 1:
            raise EdgelidError("a graph that does not fit")
        return opened(graph)

    assert read_graphs(fitted_int8(module, clips, refusing)) == read_graphs(int8_graph(calibrated))
    assert len(asked) > 10


def test_clips_that_are_shorter_than_any_window(module: StreamingModule) -> None:
    clips = [frames_of(SAMPLES)[:48], frames_of(SAMPLES)[100:150]]
    heard = _Heard(module, clips)
    assert np.isfinite(
        heard.distance(opened(to_int8(module, representative_samples(module, clips))))
    )
