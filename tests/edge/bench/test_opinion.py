"""The bench of a second opinion: figures that fit each other, and a fault that is told first."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge.bench.opinion import measure_opinion
from edge.bench.table import table
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, ModelFile
from tests.edge.test_cli import sentence

Edgelid = Callable[..., subprocess.CompletedProcess[str]]


def test_the_figures_fit_each_other(
    document: dict[str, Any], model: ModelFile, speech: Float32Array
) -> None:
    said: list[str] = []
    # The compact model serves as its own.
    samples = speech[: 20 * SAMPLE_RATE_HZ]
    found = measure_opinion(str(DEFAULT_MODEL), model, samples, said.append)
    assert len(said) == 3
    assert found["model"] == {"name": "edgelid-9", "size_bytes": model.size_bytes}
    answer, listening = found["answer"], found["listening"]
    assert 0 < answer["wall_ms"]["p50"] <= answer["wall_ms"]["p95"] <= answer["wall_ms"]["max"]
    expected = found["share"] * 60_000 / answer["cpu_ms"]
    assert found["affordable_a_minute"] == pytest.approx(expected)
    assert listening["audio_s"] == 20
    assert listening["answers_a_minute"] > 0
    assert listening["core_share_alone"] > 0
    lines = table({**document, "second_opinion": found})
    for label in ("second ", "one answer ", "listening "):
        assert any(line.startswith(label) for line in lines)
    assert all(len(line) <= 80 for line in lines)


def test_a_missing_model_is_told_before_anything_is_measured(
    edgelid: Edgelid, tmp_path: Path
) -> None:
    done = edgelid("bench", "--second-opinion", tmp_path / "none.tflite")
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not exist" in sentence(done)
