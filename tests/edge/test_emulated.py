"""The shipped model on the processors of Raspberry Pis, and with the interpreter of old ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.modelfile import ModelFile
from tests.emulated_pi import (
    PROCESSORS,
    ROOT,
    TIMEOUT_S,
    EmulatedPi,
    emulated_pi,
    legacy_environment,
    missing_packages,
    python_3_11,
)

pytestmark = pytest.mark.emulation

EXCERPT_S = 4.0  # emulation takes a few seconds for each

# Over the sample it is 0.08, and 0.003 on average.
MAX_PROBABILITY_DIFFERENCE = 0.1
MEAN_PROBABILITY_DIFFERENCE = 0.005

HWCAP_ASIMDDP = 1 << 20  # Linux on 64-bit ARM: dot products of int8, which newer processors have

# All that the graphs give, hop by hop: of the front end's own frames, and of the windows that are
# in a file if one is named.
OUTPUTS = """
import ctypes, json, logging, platform, sys
import numpy as np
from edge.classifier import pool, quantise
from edge.frontend import FrontEnd
from edge.interpreter import open_graphs
from edge.modelfile import DEFAULT_MODEL, read_model

logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
audio, answers, *windows = sys.argv[1:]
model = read_model(DEFAULT_MODEL)
graphs = open_graphs(model)
front_end = FrontEnd(model.description.front_end, model.filterbank)
frames = quantise(front_end.process(np.load(audio)), graphs.frames)
size = model.description.stream.hop_frames
sums = 0
hops = []
for start in range(0, len(frames) - size + 1, size):
    embeddings, weights = graphs.step(frames[start : start + size])
    x = embeddings.astype(np.int64) - graphs.embeddings.zero_point
    w = weights.astype(np.int64)[:, None] - graphs.weights.zero_point
    sums = sums + np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
    pooled = quantise(pool(sums, graphs.embeddings, graphs.weights), graphs.pooled)
    hop = {"frames": frames[start : start + size], "embeddings": embeddings, "weights": weights}
    hops.append({**hop, "pooled": pooled, **graphs._states})
told = {name: np.stack([hop[name] for hop in hops]) for name in hops[0]}
given = np.load(windows[0])["pooled"] if windows else told["pooled"]
told["scores"] = np.stack([graphs.head(pooled) for pooled in given])
np.savez(answers, **told)
capabilities = ctypes.CDLL(None).getauxval(16)  # AT_HWCAP
facts = {"machine": platform.machine(), "capabilities": capabilities, "numpy": np.__version__}
print(json.dumps({**facts, "name": graphs.runtime.name, "version": graphs.runtime.version}))
"""


class Outputs(NamedTuple):
    """Where the script ran, what was logged meanwhile, and the arrays, by name."""

    facts: dict[str, Any]
    log: str
    arrays: dict[str, npt.NDArray[np.int8]]

    @property
    def with_xnnpack(self) -> bool:
        """Whether the interpreter said so."""
        return "XNNPACK delegate for CPU" in self.log


class Audio(NamedTuple):
    """The same audio for the script and for the command."""

    array: Path
    wav: Path


def outputs(done: subprocess.CompletedProcess[str], answers: Path) -> Outputs:
    """What the script said and wrote."""
    assert done.returncode == 0, done.stdout + done.stderr
    *log, facts = done.stdout.splitlines()
    with np.load(answers) as arrays:
        return Outputs(json.loads(facts), "\n".join(log), dict(arrays))


def python_here(python: str | Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a Python of this machine with this checkout."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [python, *arguments],
        env=env,
        check=False,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What the command printed, without the clock on the wall."""
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


def listen(audio: Audio) -> list[str | Path]:
    return ["-m", "edge.cli", "listen", "--json", "--windows", "--input", audio.wav]


def classify(audio: Audio) -> list[str | Path]:
    return ["-m", "edge.cli", "classify", "--json", audio.wav]


def written(samples: Float32Array, folder: Path) -> Audio:
    audio = Audio(folder / "audio.npy", folder / "audio.wav")
    np.save(audio.array, samples)
    soundfile.write(audio.wav, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    return audio


@pytest.fixture(scope="module")
def recording(speech: Float32Array, tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """All of the sample."""
    return written(speech, tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="module")
def excerpt(speech: Float32Array, tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """Its first seconds."""
    samples = speech[: round(EXCERPT_S * SAMPLE_RATE_HZ)]
    return written(samples, tmp_path_factory.mktemp("excerpt"))


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> EmulatedPi:
    if missing := missing_packages():
        pytest.skip(f"needs from apt: {' '.join(missing)}")
    return emulated_pi(tmp_path_factory.mktemp("pi"))


@pytest.fixture(scope="module")
def expected(excerpt: Audio) -> Outputs:
    """What this machine makes of the excerpt."""
    answers = excerpt.array.with_name("answers.npz")
    return outputs(python_here(sys.executable, "-c", OUTPUTS, excerpt.array, answers), answers)


# --- the processors of 64-bit Raspberry Pis --------------------------------------------------


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_int8_output_is_the_same(
    pi: EmulatedPi, processor: str, excerpt: Audio, expected: Outputs, tmp_path: Path
) -> None:
    answers = tmp_path / "answers.npz"
    done = pi.python(processor, "-c", OUTPUTS, excerpt.array, answers)
    found = outputs(done, answers)
    assert found.facts["machine"] == "aarch64"
    # The two processors have different kernels.
    has_dot_product = bool(found.facts["capabilities"] & HWCAP_ASIMDDP)
    assert has_dot_product == (processor == "cortex-a76")
    assert found.facts["name"] == "ai-edge-litert"
    assert found.with_xnnpack
    assert expected.with_xnnpack
    assert found.arrays.keys() == expected.arrays.keys()
    assert len(expected.arrays["scores"]) > 20
    for name, array in expected.arrays.items():
        assert array.dtype == np.int8
        assert len(np.unique(array)) > 10, f"{name} says little"
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("command", [listen, classify])
def test_the_command_says_the_same(
    pi: EmulatedPi, processor: str, command: Any, excerpt: Audio
) -> None:
    there = records(pi.python(processor, *command(excerpt)))
    assert there == records(python_here(sys.executable, *command(excerpt)))


# --- the interpreter of 32-bit Raspberry Pi OS -----------------------------------------------


class Legacy(NamedTuple):
    """The environment of tflite-runtime; what it makes of the sample; what XNNPACK does."""

    python: Path
    found: Outputs
    expected: Outputs


@pytest.fixture(scope="module")
def legacy(recording: Audio, tmp_path_factory: pytest.TempPathFactory) -> Legacy:
    base = python_3_11()
    if base is None:
        pytest.skip("needs a Python 3.11 with venv: there is no later tflite-runtime")
    folder = tmp_path_factory.mktemp("legacy")
    python = legacy_environment(base, folder / "environment")
    ours, theirs = folder / "ours.npz", folder / "theirs.npz"
    here = python_here(sys.executable, "-c", OUTPUTS, recording.array, ours)
    expected = outputs(here, ours)
    there = python_here(python, "-c", OUTPUTS, recording.array, theirs, ours)
    return Legacy(python, outputs(there, theirs), expected)


def steps_apart(legacy: Legacy, name: str) -> npt.NDArray[np.int64]:
    """Difference of each output, in quantisation steps."""
    found, expected = (o.arrays[name].astype(np.int64) for o in (legacy.found, legacy.expected))
    apart: npt.NDArray[np.int64] = np.abs(found - expected)
    return apart


def test_tflite_runtime_rounds_within_one_step(legacy: Legacy) -> None:
    facts = legacy.found.facts
    assert (facts["name"], facts["version"]) == ("tflite-runtime", "2.14.0")
    assert facts["numpy"].startswith("1.")
    assert not legacy.found.with_xnnpack
    assert legacy.expected.with_xnnpack
    np.testing.assert_array_equal(legacy.found.arrays["frames"], legacy.expected.arrays["frames"])
    # What lies next to the frames, and the head given the same windows. Through all layers of the
    # trunk, each of which rounds in its own way, the steps add up: there, only the mean is small.
    for name in ("state_0", "state_1", "scores"):
        assert steps_apart(legacy, name).max() <= 1, name
    assert steps_apart(legacy, "pooled").mean() < 1


def test_tflite_runtime_probabilities(legacy: Legacy, recording: Audio, model: ModelFile) -> None:
    ours = records(python_here(sys.executable, *listen(recording)))
    theirs = records(python_here(legacy.python, *listen(recording)))
    differences = [
        [abs(a["probabilities"][label] - b["probabilities"][label]) for label in model.labels]
        for a, b in zip(
            (r for r in ours if r["type"] == "window"),
            (r for r in theirs if r["type"] == "window"),
            strict=True,
        )
    ]
    assert np.max(differences) < MAX_PROBABILITY_DIFFERENCE
    assert np.mean(differences) < MEAN_PROBABILITY_DIFFERENCE
    ours_whole, theirs_whole = (
        records(python_here(python, *classify(recording)))[0]
        for python in (sys.executable, legacy.python)
    )
    assert theirs_whole["language"] == ours_whole["language"]
