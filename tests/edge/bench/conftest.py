"""What the tests of the bench share: one real run of the command, as short as it can be."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def bench_run(
    edgelid: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The command, done, and the plot that it drew."""
    plot = tmp_path_factory.mktemp("bench") / "plot.png"
    return edgelid("bench", "--json", "--seconds", "0.6", "--plot", plot), plot


@pytest.fixture
def document(bench_run: tuple[subprocess.CompletedProcess[str], Path]) -> dict[str, Any]:
    """What it printed, to do with as one likes."""
    found: dict[str, Any] = json.loads(bench_run[0].stdout)
    return found
