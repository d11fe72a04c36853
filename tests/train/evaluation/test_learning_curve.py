"""How accuracy grows with sources."""

import json
from pathlib import Path

import numpy as np
import pytest

from train.config import RunConfig
from train.evaluation import learning_curve
from train.evaluation.learning_curve import Examples
from train.fit.trainer import Trainer
from train.model.checkpoint import Checkpoint, weights_of


def rooms(label_of: dict[str, int], items: int, seed: int) -> Examples:
    """Speech of rooms: one statistic tells the language, a louder one the room."""
    rng = np.random.default_rng(seed)
    names = np.repeat(sorted(label_of), items)
    labels = np.array([label_of[name] for name in names])
    room = {name: rng.normal(0, 2, 6) for name in label_of}
    pooled = np.stack([room[name] for name in names]) + rng.normal(0, 0.3, (len(names), 6))
    language = (2 * labels - 1)[:, None] * 1.5 + rng.normal(0, 0.3, (len(names), 1))
    return Examples(np.hstack([language, pooled]).astype(np.float32), labels, names)


def test_more_sources_part_language_and_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning_curve, "ORDERS", 3)
    train = rooms({f"{'ab'[label]}/{i}": label for label in (0, 1) for i in range(6)}, 20, 1)
    held_out = rooms({f"{'ab'[label]}/new{i}": label for label in (0, 1) for i in range(6)}, 20, 2)
    points = learning_curve.learning_curve(train, held_out)
    assert [p["sources"] for p in points] == [1, 2, 3, 4, 5, 6]
    assert [p["items"] for p in points] == [40, 80, 120, 160, 200, 240]
    assert points[-1]["accuracy"] > points[0]["accuracy"] + 0.05
    assert all(p["lowest"] <= p["accuracy"] <= p["highest"] for p in points)
    # With all sources the order does not matter.
    assert points[-1]["lowest"] == points[-1]["highest"]


def test_a_language_with_fewer_sources_stays_with_what_it_has() -> None:
    train = rooms({"a/1": 0, "a/2": 0, "a/3": 0, "b/1": 1}, 10, 3)
    points = learning_curve.learning_curve(train, train)
    assert [p["items"] for p in points] == [20, 30, 40]


def test_command(
    tiny_config: RunConfig,
    tiny_corpus: Path,
    tiny_cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trainer = Trainer(tiny_config, 0)
    checkpoint = tmp_path / "random.npz"
    Checkpoint(tiny_config, 1, {}, weights_of(trainer.trunk, trainer.head)).save(checkpoint)
    arguments = ["--corpus", str(tiny_corpus), "--cache", str(tiny_cache)]
    report = tmp_path / "curve.json"
    assert learning_curve.main([str(checkpoint), *arguments, "--json", str(report)]) == 0
    points = json.loads(report.read_text())["points"]
    # The tiny corpus has one training source long enough for a stretch in each language.
    assert [(p["sources"], p["items"]) for p in points] == [(1, 4)]
    assert capsys.readouterr().out.startswith(" 1 sources,     4 items: ")


def test_a_report_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is said before the work, which takes hours."""
    monkeypatch.setattr(learning_curve, "load_checkpoint", None)  # which would be called
    report = tmp_path / "none" / "curve.json"
    options = ["--cache", str(tmp_path), "--json", str(report)]
    assert learning_curve.main(["random.npz", *options]) == 1
    assert f"cannot write {report}: No such file" in capsys.readouterr().err


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none.npz")
    assert learning_curve.main([missing, "--cache", str(tmp_path), "--json", "x.json"]) == 1
    assert capsys.readouterr().err.startswith("train.evaluation.learning_curve: ")
