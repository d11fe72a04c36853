"""What the tests of emulated Raspberry Pis share: the systems, and audio to feed them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.bench.measure import SAMPLE
from edge.frontend import SAMPLE_RATE_HZ
from tests.arm64.emulated_pi import (
    EmulatedPis,
    emulated_pi,
    legacy_environment,
    missing_packages,
    python_3_11,
)
from tests.arm64.outputs import Audio, written
from train.corpus.cuts import read_audio

EXCERPT_S = 4.0  # emulation takes a few seconds for each


@pytest.fixture(scope="session")
def emulation_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all processes of a run: a system takes long to build."""
    if missing := missing_packages():
        pytest.skip(f"needs from apt: {' '.join(missing)}")
    of_run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_run = of_run.parent
    folder = of_run / "emulation"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def pi(emulation_folder: Path) -> EmulatedPis:
    """Gives one with a system, and builds that once."""
    return lambda system: emulated_pi(emulation_folder, system)


@pytest.fixture(scope="session")
def legacy_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment with tflite-runtime."""
    base = python_3_11()
    if base is None:
        pytest.skip("needs a Python 3.11 with venv: there is no later tflite-runtime")
    return legacy_environment(base, tmp_path_factory.mktemp("legacy"))


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """All of the sample."""
    return written(read_audio(SAMPLE), tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="session")
def excerpt(tmp_path_factory: pytest.TempPathFactory) -> Audio:
    """Its first seconds."""
    samples = read_audio(SAMPLE)[: round(EXCERPT_S * SAMPLE_RATE_HZ)]
    return written(samples, tmp_path_factory.mktemp("excerpt"))
