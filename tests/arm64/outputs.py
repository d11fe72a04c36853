"""What `guest_outputs.py` and the commands say, here and elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.arm64.emulated_pi import ROOT, TIMEOUT_S, EmulatedPi

GUEST = Path(__file__).with_name("guest_outputs.py")


class Audio(NamedTuple):
    """The same audio for the script and for the commands."""

    array: Path
    wav: Path


class Outputs(NamedTuple):
    """Where the script ran, what was logged meanwhile, and the arrays, by name."""

    facts: dict[str, Any]
    log: str
    arrays: dict[str, npt.NDArray[Any]]

    @property
    def with_xnnpack(self) -> bool:
        """Whether the interpreter said so."""
        return "XNNPACK delegate for CPU" in self.log


def written(samples: Float32Array, folder: Path) -> Audio:
    """Write audio to a folder."""
    audio = Audio(folder / "audio.npy", folder / "audio.wav")
    np.save(audio.array, samples)
    soundfile.write(audio.wav, samples, SAMPLE_RATE_HZ, subtype="PCM_16")
    return audio


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


def outputs_here(
    model: Path, audio: Audio, answers: Path, *windows: Path, python: str | Path = sys.executable
) -> Outputs:
    """Of a model, with the interpreter of an environment of this machine."""
    arguments = [GUEST, model, audio.array, answers, *windows]
    return _outputs(python_here(python, *arguments), answers)


def outputs_there(
    pi: EmulatedPi, processor: str, model: Path, audio: Audio, answers: Path, *windows: Path
) -> Outputs:
    """Of a model, on an emulated processor."""
    arguments = [GUEST, model, audio.array, answers, *windows]
    return _outputs(pi.python(processor, *arguments), answers)


def _outputs(done: subprocess.CompletedProcess[str], answers: Path) -> Outputs:
    assert done.returncode == 0, done.stdout + done.stderr
    *log, facts = done.stdout.splitlines()
    with np.load(answers) as arrays:
        return Outputs(json.loads(facts), "\n".join(log), dict(arrays))


def assert_equal(found: Outputs, expected: Outputs) -> None:
    """To the bit, and that it says something."""
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert len(np.unique(array)) > 1, f"{name} says nothing"
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


def assert_within_rounding(found: Outputs, expected: Outputs) -> None:
    """Of a model that streams, where kernels round in another way.

    What lies next to the frames, and the head given the same windows, are within one step. Through
    all layers of the trunk, each of which rounds, the steps add up: there, only the mean is small.
    """
    np.testing.assert_array_equal(found.arrays["frames"], expected.arrays["frames"])
    nearest = [name for name in ("state_0_next", "state_1_next") if name in expected.arrays]
    for name in (*nearest, "scores"):
        assert _steps_apart(found, expected, name).max() <= 1, name
    # It has been 0.4 over the whole sample, and 1.3 over the excerpt on a processor of 32 bits.
    assert _steps_apart(found, expected, "pooled").mean() < 2


def _steps_apart(found: Outputs, expected: Outputs, name: str) -> npt.NDArray[np.int64]:
    """Difference of each output, in quantisation steps."""
    ours, theirs = (o.arrays[name].astype(np.int64) for o in (found, expected))
    apart: npt.NDArray[np.int64] = np.abs(ours - theirs)
    return apart


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a command printed, without the clock on the wall."""
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines
    return [{k: v for k, v in line.items() if k != "time"} for line in lines]


def listen(audio: Audio) -> list[str | Path]:
    """Arguments of Python for the command."""
    return ["-m", "edge.cli", "listen", "--json", "--windows", "--input", audio.wav]


def classify(audio: Audio) -> list[str | Path]:
    """Arguments of Python for the command."""
    return ["-m", "edge.cli", "classify", "--json", audio.wav]
