"""The bench of a second opinion: figures that fit each other, and a fault that is told first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.bench.measure import SAMPLE
from edge.bench.opinion import measure_opinion
from edge.bench.table import table
from edge.bench.turns import Turn, delays, read_turns
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, ModelFile
from tests.edge.test_cli import sentence

Edgelid = Callable[..., subprocess.CompletedProcess[str]]


def test_the_figures_fit_each_other(
    monkeypatch: pytest.MonkeyPatch,
    document: dict[str, Any],
    model: ModelFile,
    speech: Float32Array,
) -> None:
    monkeypatch.setattr("edge.bench.opinion.PACED_S", 4.0)
    said: list[str] = []
    # The compact model serves as its own.
    samples = speech[: 20 * SAMPLE_RATE_HZ]
    turns = read_turns(SAMPLE, 19.0)
    found = measure_opinion(str(DEFAULT_MODEL), model, samples, turns, said.append)
    assert len(said) == 6
    assert found["model"] == {"name": "edgelid-9", "size_bytes": model.size_bytes}
    answer, listening = found["answer"], found["listening"]
    assert 0 < answer["wall_ms"]["p50"] <= answer["wall_ms"]["p95"] <= answer["wall_ms"]["max"]
    expected = found["share"] * 60_000 / answer["cpu_ms"]
    assert found["affordable_a_minute"] == pytest.approx(expected)
    assert listening["audio_s"] == 20
    assert listening["together"]["answers_a_minute"] > 0
    assert listening["changes"] == 2
    ways = [listening[name] for name in ("compact", "large", "together")]
    for way in ways:
        assert way["core_share"] > 0
        assert way["missed"] == 0
        assert 0 < way["median_delay_s"] < 8
    paced = found["real_time"]
    assert paced["hops"] == pytest.approx(paced["audio_s"] / 0.16)
    assert 3.5 < paced["audio_s"] <= 4.0
    assert 0 <= paced["deadline_misses"] <= paced["hops"]
    assert paced["late_ms_max"] > 0
    lines = table({**document, "second_opinion": found})
    for label in ("second ", "one answer ", "listening ", "compact ", "large ", "together "):
        assert sum(line.startswith(label) for line in lines) == 1
    assert all(len(line) <= 80 for line in lines)
    unknown = {"median_delay_s": None, "missed": None}
    found["listening"] = {
        **listening,
        "changes": None,
        **{name: {**listening[name], **unknown} for name in ("compact", "large", "together")},
    }
    lines = table({**document, "second_opinion": found})
    assert [line.split()[-2:] for line in lines if line.startswith("large ")] == [["–", "–"]]


def test_how_soon_changes_are_told(tmp_path: Path) -> None:
    recording = tmp_path / "speech.wav"
    assert read_turns(recording, 60.0) == []
    spans = [(0, 2, "nonspeech"), (2, 8, "en"), (9, 12, "en"), (13, 20, "de"), (22, 40, "fr")]
    told = [{"start_s": start, "end_s": end, "language": name} for start, end, name in spans]
    (tmp_path / "speech.json").write_text(json.dumps(told))
    turns = read_turns(recording, 30.0)
    assert turns == [Turn("en", 2, 13), Turn("de", 13, 22), Turn("fr", 22, 30)]
    assert read_turns(recording, 10.0) == [Turn("en", 2, 10)]
    changes = [("fr", 1.0), ("en", 4.0), ("en", 6.0), ("fr", 15.0), ("fr", 25.0)]
    assert delays(turns, changes) == {"median_delay_s": 3.0, "missed": 1}
    assert delays([], changes) == {"median_delay_s": None, "missed": None}
    for other in ("{}x", '{"language": "de"}', '[{"language": "de"}]', "[1]"):
        (tmp_path / "speech.json").write_text(other)
        assert read_turns(recording, 30.0) == []


def test_a_missing_model_is_told_before_anything_is_measured(
    edgelid: Edgelid, tmp_path: Path
) -> None:
    done = edgelid("bench", "--second-opinion", tmp_path / "none.tflite")
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not exist" in sentence(done)
