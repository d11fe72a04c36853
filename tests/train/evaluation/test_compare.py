"""What fine-tuning changed is told language by language, and what it costs the others."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from train.corpus.manifest import open_manifest, write_parquet
from train.evaluation.compare import main
from train.fit.finetune import initial_weights
from train.model.checkpoint import Checkpoint, build_model, load_checkpoint, weights_of


@pytest.fixture
def all_swedish(tiny_run: Path, tmp_path: Path) -> Path:
    """The tiny run with Swedish as a language, which it takes everything for."""
    before = load_checkpoint(tiny_run)
    data = dataclasses.replace(before.config.data, languages=("sv", "de", "en"))
    config = dataclasses.replace(before.config, data=data)
    trunk, head = build_model(config)
    *weights, bias = initial_weights(config, tiny_run)
    bias[0] += 1000.0
    count = len(trunk.weights)
    trunk.set_weights(weights[:count])
    head.set_weights([*weights[count:], bias])
    path = tmp_path / "swedish.npz"
    Checkpoint(config, before.step, before.scores, weights_of(trunk, head)).save(path)
    return path


def test_a_new_language_and_the_others(
    tiny_run: Path,
    all_swedish: Path,
    tiny_corpus: Path,
    tiny_cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(tiny_run), str(all_swedish), "--corpus", str(tiny_corpus)]
    assert main([*arguments, "--cache", str(tiny_cache)]) == 0
    told = capsys.readouterr().out
    shares = {
        line.split()[0]: [float(share) for share in re.findall(r"([\d.]+)%", line)]
        for line in told.splitlines()
    }
    assert shares["sv"][:2] == [0, 100]
    assert shares["de"][1] == shares["en"][1] == 0
    assert "mean of the 2 that both know" in told
    mean = np.mean([shares["de"][0], shares["en"][0]])
    assert mean > 50
    assert shares["mean"] == [pytest.approx(mean, abs=0.1), 0]
    assert shares["speech"] == [100]


def test_no_test_split(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = open_manifest(tiny_corpus).where(pl.col("split") != "test").rows
    file = tmp_path / "manifest.parquet"
    write_parquet(rows.lazy(), file, tiny_corpus)
    arguments = [str(tiny_run), str(tiny_run), "--corpus", str(file), "--split", "test"]
    assert main([*arguments, "--cache", str(tmp_path / "cache")]) == 1
    error = capsys.readouterr().err
    assert "has no clips in its split test" in error
    assert error.count("\n") == 1


def test_front_ends_that_differ(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The features of one would mean something else to the other."""
    before = load_checkpoint(tiny_run)
    front_end = dataclasses.replace(before.config.front_end, low_hz=120.0)
    other = dataclasses.replace(before.config, front_end=front_end)
    dataclasses.replace(before, config=other).save(tmp_path / "other.npz")
    arguments = [str(tiny_run), str(tmp_path / "other.npz"), "--corpus", str(tiny_corpus)]
    assert main([*arguments, "--cache", str(tmp_path / "cache")]) == 1
    error = capsys.readouterr().err
    assert "cannot be compared: their front ends differ" in error
    assert error.count("\n") == 1


def test_no_run(tmp_path: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none"), str(tiny_run), "--cache", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
