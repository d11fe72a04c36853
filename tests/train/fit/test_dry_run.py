"""What a run would cost is counted right, and nothing is written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from train.architecture import Attention
from train.cli import main
from train.config import RunConfig
from train.fit.dry_run import activation_count
from train.model.checkpoint import build_model


@pytest.mark.slow
def test_dry_run(
    tiny_toml: Path,
    tiny_config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGELID_CORPUS", str(tmp_path / "none"))
    assert main(["fit", str(tiny_toml), "--dry-run", "--precision", "mixed_bfloat16"]) == 0
    assert not os.listdir(tmp_path)
    out = capsys.readouterr().out
    trunk, head = build_model(tiny_config)
    counts = [f"{sum(w.size for w in model.get_weights()):,}" for model in (trunk, head)]
    assert f"parameters   trunk {counts[0]}, head {counts[1]}\n" in out
    assert "1 worker(s); mixed_bfloat16\nbatch        1 part(s) of 16 clips\n" in out
    assert f"time         {tiny_config.optimiser.steps} steps of " in out


@pytest.mark.slow
def test_workers_share_the_batch(
    tiny_toml: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(count: int) -> int:
        workers = ", ".join(f'"host:{port}"' for port in range(1, count + 1))
        task = '"task": {"type": "worker", "index": 0}'
        monkeypatch.setenv("TF_CONFIG", f'{{"cluster": {{"worker": [{workers}]}}, {task}}}')
        return main(["fit", str(tiny_toml), "--dry-run"])

    assert told(4) == 0
    out = capsys.readouterr().out
    assert "4 worker(s)" in out
    assert "4 part(s) of 4 clips" in out
    assert told(3) == 1
    assert "batch_clips is 16, which must be a multiple of 3" in capsys.readouterr().err


@pytest.mark.slow
def test_the_largest_seed(tiny_toml: Path, tmp_path: Path) -> None:
    """A step seeds its dropout with it, in 32 bits with a sign."""
    file = tmp_path / "run.toml"
    file.write_text(tiny_toml.read_text().replace("seed = 3", "seed = 4294967295"))
    assert main(["fit", str(file), "--dry-run"]) == 0


def test_activations(tiny_config: RunConfig) -> None:
    """Of 8 frames, by hand."""
    stem = 8 * 32 + 3 * 4 * 16  # its input, then convolution, normalisation, rectified
    second = 4 * 16 + 2 * 2 * 16 + 3 * 2 * 16
    blocks = 6 * 4 * 16 + 6 * 2 * 16
    assert activation_count(tiny_config.model, 8) == stem + second + blocks + 2 * 12


@pytest.mark.parametrize(("frames", "each"), [(8, 2 * 4 * 9), (400, 2 * 4 + 2 * 4)])
def test_activations_of_attention(tiny_config: RunConfig, frames: int, each: int) -> None:
    """Of a few frames keys and values are there for each in reach, of which there are 8."""
    shape = Attention(layers=2, width=6, heads=2, head_width=2, feed=10, past=5, ahead=2)
    model = tiny_config.model
    rate = frames // 4
    weights = 2 * (8 if frames == 8 else 7 + rate)
    found = activation_count(replace(model, attention=shape), frames)
    more = rate * (6 + 2 * (each + weights + 2 * 6 + 10))
    assert found == activation_count(model, frames) + more
