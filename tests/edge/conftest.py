"""What the tests of the runtime share: the shipped model, and speech to feed it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.audio.sources import FileSource
from edge.frontend import Float32Array
from edge.model.interpreter import Graphs, open_graphs
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, read_model
from tests.forks import TIMEOUT_S, Forks

SAMPLE = DEFAULT_MODEL.parents[1] / "samples" / "languages.opus"


@pytest.fixture(scope="session")
def sample() -> Path:
    """The recording that comes along."""
    return SAMPLE


@pytest.fixture(scope="session")
def speech() -> Float32Array:
    """The same, decoded: shape (n,), more than a minute at 16 kHz."""
    with FileSource(SAMPLE) as source:
        return np.concatenate(list(source.blocks()))


@pytest.fixture(scope="session")
def model() -> ModelFile:
    return read_model(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def own_second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped model, which so can serve as its own second opinion."""
    return Path(shutil.copy(DEFAULT_MODEL, tmp_path_factory.mktemp("second")))


@pytest.fixture(scope="session")
def graphs(model: ModelFile) -> Graphs:
    """Of that model, for one user at a time."""
    return open_graphs(model)


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For processes that import the project as this one does."""
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    return {**buffered, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture(scope="session")
def forks(environment: dict[str, str]) -> Iterator[Forks]:
    """Where the command starts without the time of its imports."""
    running = Forks(environment)
    yield running
    running.close()


@pytest.fixture(scope="session")
def edgelid(
    environment: dict[str, str], forks: Forks
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in a process of its own, until it ends."""

    def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        if options.keys() <= {"cwd", "env"}:
            return forks.run([*map(str, arguments)], **options)
        settings: dict[str, Any] = {
            "env": environment,
            "capture_output": True,
            "encoding": "utf-8",
            **options,
        }
        command = [sys.executable, "-m", "edge.cli", *map(str, arguments)]
        done: subprocess.CompletedProcess[str] = subprocess.run(
            command, check=False, timeout=TIMEOUT_S, **settings
        )
        return done

    return run
