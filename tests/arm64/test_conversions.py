"""Files fresh from conversion: the same on every processor, and with old interpreters."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import convert.cli
from convert.flatbuffer import read_graphs
from edge.model.modelfile import pack_model, read_model
from tests.arm64.emulated_pi import BOOKWORM, EmulatedPis
from tests.arm64.outputs import (
    Audio,
    Outputs,
    assert_equal,
    assert_within_rounding,
    outputs_here,
    outputs_there,
    written,
)
from tests.convert.test_architectures import CONVOLUTIONS, converted
from tests.synthetic import speech

pytestmark = pytest.mark.emulation

FAR_APART = ("cortex-a53", "cortex-a76")  # without dot products and with them


class Fresh(NamedTuple):
    """A model file, and what this machine makes of the audio with it."""

    path: Path
    answers: Path
    expected: Outputs


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    return written(speech("en", "dora", 2, 4.0), tmp_path_factory.mktemp("audio"))


@pytest.fixture(
    scope="module", params=CONVOLUTIONS, ids=["one stage", "two stages", "three stages"]
)
def drawn(
    request: pytest.FixtureRequest, audio: Audio, tmp_path_factory: pytest.TempPathFactory
) -> Fresh:
    path = tmp_path_factory.mktemp("drawn") / "drawn.tflite"
    model, _ = converted(request.param)
    path.write_bytes(pack_model(model.graph, model.labels, model.description, model.filterbank))
    return fresh(path, audio)


@pytest.fixture(scope="module")
def window(
    tiny_run: Path,
    tiny_corpus: Path,
    short_streams: None,
    audio: Audio,
    tmp_path_factory: pytest.TempPathFactory,
) -> Fresh:
    """What the command makes of a checkpoint from training, in int8."""
    path = tmp_path_factory.mktemp("window") / "window.tflite"
    arguments = [str(tiny_run), "-o", str(path), "--corpus", str(tiny_corpus)]
    assert convert.cli.main([*arguments, "--mode", "window", "--windows", "1"]) == 0
    return fresh(path, audio)


def fresh(path: Path, audio: Audio) -> Fresh:
    answers = path.with_suffix(".npz")
    return Fresh(path, answers, outputs_here(path, audio, answers))


@pytest.mark.parametrize("processor", FAR_APART)
def test_a_stream_is_the_same_on_every_processor(
    pi: EmulatedPis, processor: str, drawn: Fresh, audio: Audio, tmp_path: Path
) -> None:
    found = outputs_there(pi(BOOKWORM), processor, drawn.path, audio, tmp_path / "answers.npz")
    assert found.facts["machine"] == "aarch64"
    assert_equal(found, drawn.expected)


@pytest.mark.parametrize("processor", FAR_APART)
def test_a_window_is_the_same_on_every_processor(
    pi: EmulatedPis, processor: str, window: Fresh, audio: Audio, tmp_path: Path
) -> None:
    found = outputs_there(pi(BOOKWORM), processor, window.path, audio, tmp_path / "answers.npz")
    assert found.facts["machine"] == "aarch64"
    assert_equal(found, window.expected)


def test_tflite_runtime_rounds_streams_within_one_step(
    legacy_python: Path, drawn: Fresh, audio: Audio, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.npz"
    found = outputs_here(drawn.path, audio, answers, drawn.answers, python=legacy_python)
    assert (found.facts["name"], found.facts["version"]) == ("tflite-runtime", "2.14.0")
    assert_within_rounding(found, drawn.expected)


def test_tflite_runtime_rounds_windows_nearly_alike(
    legacy_python: Path, window: Fresh, audio: Audio, tmp_path: Path
) -> None:
    """Through all layers, each of which rounds, steps add up: only their mean is below one."""
    answers = tmp_path / "answers.npz"
    found = outputs_here(window.path, audio, answers, python=legacy_python)
    assert (found.facts["name"], found.facts["version"]) == ("tflite-runtime", "2.14.0")
    (graph,) = read_graphs(read_model(window.path).graph)
    (scale,) = graph.outputs["scores"].scales
    steps = np.abs(found.arrays["scores"] - window.expected.arrays["scores"]) / scale
    assert steps.size > 40
    assert steps.mean() < 1
