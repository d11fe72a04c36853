"""Files fresh from conversion: the same on every processor, and loaded by old interpreters."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings

from edge.modelfile import pack_model
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
from tests.convert.test_architectures import converted, shapes
from tests.synthetic import speech
from train.model import ModelConfig

pytestmark = pytest.mark.emulation

DRAWN = 3
KINDS = [*(f"drawn-{i}" for i in range(DRAWN)), "window"]
FAR_APART = ("cortex-a53", "cortex-a76")  # without dot products and with them


class Fresh(NamedTuple):
    """A model file, and what this machine makes of the audio with it."""

    path: Path
    answers: Path
    expected: Outputs


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    return written(speech("en", "dora", 2, 4.0), tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def drawn_shapes() -> list[ModelConfig]:
    """The same ones each time."""
    drawn: list[ModelConfig] = []

    @settings(max_examples=DRAWN, derandomize=True, database=None)
    @given(shape=shapes())
    def draw(shape: ModelConfig) -> None:
        drawn.append(shape)

    draw()
    assert len(drawn) == DRAWN
    return drawn


@pytest.fixture(scope="module", params=KINDS)
def fresh(
    request: pytest.FixtureRequest, audio: Audio, tmp_path_factory: pytest.TempPathFactory
) -> Fresh:
    folder = tmp_path_factory.mktemp("fresh")
    path = folder / "model.tflite"
    if request.param == "window":
        convert_window(request, path)
    else:
        shape = request.getfixturevalue("drawn_shapes")[KINDS.index(request.param)]
        model, _ = converted(shape)
        path.write_bytes(pack_model(model.graph, model.labels, model.description, model.filterbank))
    answers = folder / "answers.npz"
    return Fresh(path, answers, outputs_here(path, audio, answers))


def convert_window(request: pytest.FixtureRequest, path: Path) -> None:
    """The command, on a checkpoint from training, to int8."""
    import convert.cli

    run, corpus = (request.getfixturevalue(name) for name in ("tiny_run", "tiny_corpus"))
    request.getfixturevalue("short_streams")
    arguments = [str(run), "-o", str(path), "--corpus", str(corpus)]
    assert convert.cli.main([*arguments, "--mode", "window", "--windows", "1"]) == 0


@pytest.mark.parametrize("processor", FAR_APART)
def test_the_same_on_every_processor(
    pi: EmulatedPis, processor: str, fresh: Fresh, audio: Audio, tmp_path: Path
) -> None:
    found = outputs_there(pi(BOOKWORM), processor, fresh.path, audio, tmp_path / "answers.npz")
    assert found.facts["machine"] == "aarch64"
    assert_equal(found, fresh.expected)


def test_tflite_runtime_rounds_within_one_step(
    legacy_python: Path, fresh: Fresh, audio: Audio, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.npz"
    found = outputs_here(fresh.path, audio, answers, fresh.answers, python=legacy_python)
    assert (found.facts["name"], found.facts["version"]) == ("tflite-runtime", "2.14.0")
    assert_within_rounding(found, fresh.expected)
