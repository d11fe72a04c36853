"""The shipped model on the processors of Raspberry Pis, and with the interpreter of old ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.model.modelfile import DEFAULT_MODEL, read_model
from tests.arm64.emulated_pi import (
    BOOKWORM,
    BOOKWORM_32_BIT,
    PROCESSORS,
    PROCESSORS_32_BIT,
    TRIXIE,
    EmulatedPis,
    System,
)
from tests.arm64.outputs import (
    Audio,
    Outputs,
    assert_within_rounding,
    classify,
    listen,
    outputs_here,
    outputs_there,
    python_here,
    records,
)

pytestmark = pytest.mark.emulation

# Over the sample it is 0.149, where an answer changes, and below 0.005 on average.
MAX_PROBABILITY_DIFFERENCE = 0.18
MEAN_PROBABILITY_DIFFERENCE = 0.005

HWCAP_ASIMDDP = 1 << 20  # Linux on 64-bit ARM: dot products of int8, which newer processors have

systems = pytest.mark.parametrize(
    "system", [pytest.param(system, id=system.release) for system in (BOOKWORM, TRIXIE)]
)
processors = pytest.mark.parametrize("processor", PROCESSORS)


@pytest.fixture(scope="module")
def expected(excerpt: Audio) -> Outputs:
    """What this machine makes of the excerpt."""
    return outputs_here(DEFAULT_MODEL, excerpt, excerpt.array.with_name("answers.npz"))


# --- the processors of 64-bit Raspberry Pis --------------------------------------------------


@systems
@processors
def test_outputs_of_the_graphs_are_within_rounding(
    pi: EmulatedPis,
    system: System,
    processor: str,
    excerpt: Audio,
    expected: Outputs,
    tmp_path: Path,
) -> None:
    """The softmax of attention has tables of its own on 64-bit ARM; all else is the same."""
    answers, windows = tmp_path / "answers.npz", excerpt.array.with_name("answers.npz")
    found = outputs_there(pi(system), processor, DEFAULT_MODEL, excerpt, answers, windows)
    assert found.facts["machine"] == "aarch64"
    assert found.facts["python"].startswith(f"{system.python}.")
    # The processors have different kernels.
    has_dot_product = bool(found.facts["capabilities"] & HWCAP_ASIMDDP)
    assert has_dot_product == (processor == "cortex-a76")
    assert found.facts["name"] == "ai-edge-litert"
    assert found.with_xnnpack
    assert expected.with_xnnpack
    assert len(expected.arrays["scores"]) > 20
    assert all(array.dtype == np.int8 for array in expected.arrays.values())
    assert_within_rounding(found, expected)


@systems
@processors
@pytest.mark.parametrize("command", [listen, classify])
def test_the_command_says_the_same(
    pi: EmulatedPis,
    system: System,
    processor: str,
    command: Callable[[Audio], Any],
    excerpt: Audio,
) -> None:
    """Languages and times to a hop, and nearly all probabilities."""
    there = records(pi(system).python(processor, *command(excerpt)))
    here = records(python_here(sys.executable, *command(excerpt)))
    for kind in ("change", "segment"):
        ours, theirs = ([r for r in each if r.get("type") == kind] for each in (here, there))
        assert [r["language"] for r in theirs] == [r["language"] for r in ours]
        starts_s = [r["start_s"] for r in ours]
        assert [r["start_s"] for r in theirs] == pytest.approx(starts_s, abs=0.17)
    ours, theirs = (
        [r for r in each if r.get("type") in ("window", None)] for each in (here, there)
    )
    differences = [
        abs(probability - one["probabilities"][label])
        for one, other in zip(ours, theirs, strict=True)
        for label, probability in other["probabilities"].items()
    ]
    assert np.max(differences) < MAX_PROBABILITY_DIFFERENCE
    assert np.mean(differences) < MEAN_PROBABILITY_DIFFERENCE


# --- the interpreter of 32-bit Raspberry Pi OS -----------------------------------------------


@pytest.mark.parametrize("processor", PROCESSORS_32_BIT)
def test_32_bits_round_within_one_step(
    pi: EmulatedPis, processor: str, excerpt: Audio, expected: Outputs, tmp_path: Path
) -> None:
    answers, windows = tmp_path / "answers.npz", excerpt.array.with_name("answers.npz")
    there = pi(BOOKWORM_32_BIT)
    found = outputs_there(there, processor, DEFAULT_MODEL, excerpt, answers, windows)
    assert found.facts["machine"] == "armv7l"
    assert (found.facts["name"], found.facts["version"]) == ("tflite-runtime", "2.14.0")
    assert_within_rounding(found, expected)


def test_tflite_runtime_rounds_within_one_step(
    legacy_python: Path, recording: Audio, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.npz", tmp_path / "theirs.npz"
    expected = outputs_here(DEFAULT_MODEL, recording, ours)
    found = outputs_here(DEFAULT_MODEL, recording, theirs, ours, python=legacy_python)
    assert (found.facts["name"], found.facts["version"]) == ("tflite-runtime", "2.14.0")
    assert found.facts["numpy"].startswith("1.")
    assert not found.with_xnnpack
    assert expected.with_xnnpack
    assert_within_rounding(found, expected)


def test_tflite_runtime_probabilities(legacy_python: Path, recording: Audio) -> None:
    ours = records(python_here(sys.executable, *listen(recording)))
    theirs = records(python_here(legacy_python, *listen(recording)))
    labels = read_model(DEFAULT_MODEL).labels
    differences = [
        [abs(a["probabilities"][label] - b["probabilities"][label]) for label in labels]
        for a, b in zip(
            (r for r in ours if r["type"] == "window"),
            (r for r in theirs if r["type"] == "window"),
            strict=True,
        )
    ]
    # One of a thousand windows lies between two languages, where a step of an output tells.
    assert np.max(differences) < 0.3
    assert np.quantile(np.max(differences, axis=1), 0.99) < MAX_PROBABILITY_DIFFERENCE
    assert np.mean(differences) < MEAN_PROBABILITY_DIFFERENCE
    ours_whole, theirs_whole = (
        records(python_here(python, *classify(recording)))[0]
        for python in (sys.executable, legacy_python)
    )
    assert theirs_whole["language"] == ours_whole["language"]
