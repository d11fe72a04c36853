"""What starting costs is read from the real command, however it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.bench import startup
from edge.bench.measure import SAMPLE
from edge.bench.startup import installed_bytes, listen_once
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.model.interpreter import Graphs
from edge.model.modelfile import DEFAULT_MODEL


def test_a_recording_without_a_decision(tmp_path: Path, graphs: Graphs) -> None:
    path = tmp_path / "moment.wav"
    soundfile.write(path, np.zeros(4_000, np.float32), SAMPLE_RATE_HZ)
    start = listen_once(path, DEFAULT_MODEL, 1, graphs.runtime.name)
    assert start.first_decision_s is start.first_decision_cpu_s is None
    assert start.peak_bytes
    assert "numpy" in start.modules
    assert "matplotlib" not in start.modules


def test_a_recording_that_takes_too_long(monkeypatch: pytest.MonkeyPatch, graphs: Graphs) -> None:
    monkeypatch.setattr(startup, "REST_LIMIT_S", 0.0)
    start = listen_once(SAMPLE, DEFAULT_MODEL, 1, graphs.runtime.name)
    assert start.first_decision_s
    assert start.resident_bytes


def test_modules_where_it_is_called_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: Graphs
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert listen_once(SAMPLE, DEFAULT_MODEL, 1, graphs.runtime.name).first_decision_s


def test_settings_of_the_user_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: Graphs
) -> None:
    path = tmp_path / "moment.wav"
    soundfile.write(path, np.zeros(4_000, np.float32), SAMPLE_RATE_HZ)
    config = tmp_path / "edgelid.toml"
    config.write_text('log = "of-the-file"\n')
    monkeypatch.setenv("EDGELID_CONFIG", str(config))
    listen_once(path, DEFAULT_MODEL, 1, graphs.runtime.name)
    monkeypatch.delenv("EDGELID_CONFIG")
    monkeypatch.setenv("EDGELID_LOG", str(tmp_path / "of-the-environment"))
    listen_once(path, DEFAULT_MODEL, 1, graphs.runtime.name)
    assert {each.name for each in tmp_path.iterdir()} == {path.name, config.name}


def test_a_command_that_fails(tmp_path: Path, graphs: Graphs) -> None:
    with pytest.raises(EdgelidError, match=r"ended with status 1, saying .*does not exist.*\.$"):
        listen_once(SAMPLE, tmp_path / "missing.tflite", 1, graphs.runtime.name)


def test_a_command_that_does_not_start(monkeypatch: pytest.MonkeyPatch, graphs: Graphs) -> None:
    monkeypatch.setattr(startup.sys, "executable", "/no/such/python")
    with pytest.raises(EdgelidError, match=r"cannot be started \(No such file or directory\)"):
        listen_once(SAMPLE, DEFAULT_MODEL, 1, graphs.runtime.name)


def test_sizes_are_those_of_distributions() -> None:
    sizes = installed_bytes(["json", "numpy", "_cffi_backend", "edge", "of_nobody"])
    assert set(sizes) == {"edgelid", "numpy", "cffi", "of_nobody"}
    assert sizes["of_nobody"] is None
    package = Path(np.__file__).parent
    within = sum(path.stat().st_size for path in package.rglob("*.py"))
    assert sizes["numpy"] is None or sizes["numpy"] > within
