"""A compact model begins with the layers of a large one, by one command."""

from __future__ import annotations

import argparse
import math
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import train.waveforms.compact_fit
import train.waveforms.inherit
import train.waveforms.judge
import train.waveforms.stem_fit
from edge.errors import EdgelidError
from tests.conftest import TINY
from train.model.checkpoint import (
    Checkpoint,
    build_model,
    load_checkpoint,
    restore_model,
    weights_of,
)
from train.waveforms.__main__ import main
from train.waveforms.bank import DEVELOPMENT, NOISE, TRAIN, Segments
from train.waveforms.checkpoint import save_parts
from train.waveforms.compact_fit import fit_compact, run_config
from train.waveforms.hearing import hear
from train.waveforms.inherit import attention_for, inherit
from train.waveforms.large import Large
from train.waveforms.stem_fit import begin_stem

CONFIG = (
    TINY[: TINY.index("[optimiser]")].replace("variants = 1", "")
    + """
[model.attention]
layers = 1
width = 16
heads = 2
head_width = 8
feed = 24
past = 6
ahead = 2
[compact]
steps = 3
batch = 8
clip_s = 2.0
windows_s = [1.0]
rate = 1e-3
weight_decay = 0.01
label_smoothing = 0.05
average_decay = 0.9
[compact.weights]
frames = 1.0
evidence = 1.0
classes = 1.0
posteriors = 1.0
statistics = 1.0
"""
)


CONVOLUTIONS = tomllib.loads(CONFIG.replace("[model.attention]", "[ignored]"))


def changed(**attention: Any) -> dict[str, Any]:
    config = tomllib.loads(CONFIG)
    config["model"]["attention"] |= attention
    return config


@pytest.fixture(scope="module")
def teacher() -> Large:
    keras.utils.set_random_seed(4)
    return Large(2, 4, 0.0, dim=128, heads=2)


@pytest.fixture(scope="module")
def begun() -> Checkpoint:
    """Convolutions alone, that have learnt."""
    keras.utils.set_random_seed(6)
    config = run_config(CONVOLUTIONS)
    return Checkpoint(config, 7, {}, weights_of(*build_model(config)))


@pytest.fixture(scope="module")
def bank() -> Segments:
    """Noise in gusts in place of speech: of three languages to train on, of two held out."""
    rng = np.random.default_rng(5)
    size, names = 80_000, ("role", "language", "source", "speaker", "kind", "coded")
    rows = [
        dict(zip(names, row, strict=True))
        for row in (
            (TRAIN, "de", "home", "s0", "human", False),
            (TRAIN, "en", "home", "s1", "human", False),
            (TRAIN, "sv", "home", "s2", "human", False),
            (NOISE, "", "hum", "", "nature", False),
            (DEVELOPMENT, "de", "attic", "s3", "human", False),
            (DEVELOPMENT, "en", "attic", "s4", "human", False),
        )
    ]
    gusts = np.repeat(rng.uniform(0, 6000, len(rows) * size // 1600), 1600)
    samples = np.rint(gusts * rng.uniform(-1, 1, len(gusts))).astype(np.int16)
    lengths = np.full(len(rows), size)
    return Segments(samples, np.cumsum(lengths) - lengths, lengths, rows)


@pytest.fixture
def small(
    bank: Segments,
    teacher: Large,
    begun: Checkpoint,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """Arguments of the command, in a folder that has what they name."""
    monkeypatch.setattr(train.waveforms.inherit, "PER_LANGUAGE", 3)
    monkeypatch.setattr(train.waveforms.inherit, "OTHERS", 3)
    monkeypatch.setattr(train.waveforms.stem_fit, "BATCH", 8)
    monkeypatch.chdir(tmp_path)
    bank.save(Path("bank"))
    Path("c.toml").write_text(CONFIG)
    save_parts(
        Path("large.npz"),
        teacher.arrays(),
        {"config": {"data": {"languages": ["de", "en"]}, "large": {"layers": 2}}},
    )
    begun.save(Path("before.npz"))
    given = ["c.toml", "--bank", "bank", "--teacher", "large.npz", "--start", "before.npz"]
    return ["inherit", *given, "--hearing", "first", "--limit-s", "0.1", "--output", "start.npz"]


@pytest.mark.slow
def test_the_command(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.waveforms", *small])
    assert main() == 0
    said = capsys.readouterr().out
    assert "4 of 4 convolutions taken over" in said and "layer 2:" in said
    checkpoint = load_checkpoint(Path("start.npz"))
    assert checkpoint.step == 0
    trunk, _ = restore_model(checkpoint)
    frames = np.random.default_rng(6).uniform(0, 10, (1, 80, 1, 32)).astype(np.float32)
    embeddings, gates, _ = trunk(frames)
    assert np.isfinite(np.asarray(embeddings)).all() and np.ptp(np.asarray(gates)) < 1e-6
    assert np.abs(trunk.attention[0].distance.numpy()).max() > 0
    # Given again, it hears and learns nothing anew, and comes to the same.
    assert main() == 0
    assert "step" not in capsys.readouterr().out
    again = load_checkpoint(Path("start.npz")).arrays
    for name, value in checkpoint.arrays.items():
        np.testing.assert_allclose(again[name], value, atol=1e-4, err_msg=name)
    # With other convolutions, or whatever else, it would not be the same run.
    config = Path("c.toml")
    config.write_text(config.read_text().replace("rate = 1e-3", "rate = 2e-3"))
    assert main() == 1
    assert "start.state.npz is damaged or of another run" in capsys.readouterr().err


@pytest.mark.slow
def test_what_reads_inherited_layers_learns_first(
    small: list[str], bank: Segments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.waveforms.judge, "LENGTHS_S", (1.0,))
    monkeypatch.setattr(train.waveforms.compact_fit, "NEW_STEPS", 2)
    config = tomllib.loads(CONFIG)
    before, head = build_model(run_config(config))
    Checkpoint(run_config(config), 0, {}, weights_of(before, head)).save(Path("start.npz"))
    hear(bank, Path("large.npz"), Path("hearing"), "float32", 1e9)
    paths = {"teacher": "large.npz", "hearing": "hearing", "start": "start.npz", "output": "c.npz"}
    numbers = {"steps": 1, "limit_s": 1e9, "batch_scale": 1.0, "evaluate_every_s": 1e9}
    numbers |= {"log_every": 1, "most": 2, "towers": 1}
    given = {name: Path(path) for name, path in paths.items()}
    fit_compact(config, bank, argparse.Namespace(**given, **numbers, precision="float32"))
    after, scores = restore_model(load_checkpoint(Path("c.npz")))

    def moved(mine: Any, theirs: Any) -> float:
        return float(np.abs(mine.numpy() - theirs.numpy()).max())

    # One step at a hundredth of the rate is all that the others have had.
    layers = zip(before.attention[0].variables, after.attention[0].variables, strict=True)
    assert max(moved(*pair) for pair in layers) < 1e-4
    assert moved(before.embedding.kernel, after.embedding.kernel) > 1e-3
    assert moved(before.weight.kernel, after.weight.kernel) > 1e-3
    assert moved(head.scores.kernel, scores.scores.kernel) > 1e-3


def test_convolutions_of_the_same_shape_are_taken_over(begun: Checkpoint) -> None:
    trunk, _ = build_model(begun.config)
    assert begin_stem(trunk, begun) == len(trunk.temporal)
    for mine, theirs in zip(trunk.temporal, restore_model(begun)[0].temporal, strict=True):
        np.testing.assert_array_equal(mine.get_weights()[0], theirs.get_weights()[0])
    stages = tuple(replace(stage, channels=12) for stage in begun.config.model.stages)
    other, _ = build_model(replace(begun.config, model=replace(begun.config.model, stages=stages)))
    with pytest.raises(EdgelidError, match="no convolution of --start has the shape"):
        begin_stem(other, begun)


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        ({"layers": 2}, "has 2 layers of attention, where 1 inherit"),
        ({"heads": 4}, "has 4 heads of attention, where the teacher has 2"),
        ({"width": 129}, "attention.width is 129 in the configuration, where the teacher has 128"),
        ({"head_width": 65}, "attention.head_width is 65"),
        ({"feed": 513}, "attention.feed is 513"),
        ({"past": 98}, "attends to 101 frames at once, where the teacher hears 100"),
    ],
)
def test_what_cannot_inherit(teacher: Large, attention: dict[str, Any], words: str) -> None:
    with pytest.raises(EdgelidError, match=words):
        attention_for(run_config(changed(**attention)), teacher)


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        (("[model.attention]", "[ignored]"), {}, "has no layers of attention"),
        (('["de", "en"]', '["en", "de"]'), {}, "differ in their languages"),
        (
            ("[compact]", "[other]"),
            {},
            "compact: the setting 'steps' is missing",
        ),
        (("", ""), {"limit_s": 0.0}, "must be above 0"),
        (("", ""), {"limit_s": math.nan}, "must be above 0 and finite"),
        (("", ""), {"limit_s": math.inf}, "must be above 0 and finite"),
        (("", ""), {"hear_limit_s": math.nan}, "must be above 0 and finite"),
        (("", ""), {"teacher": "none.npz"}, "there is no checkpoint none-0.npz"),
        (("", ""), {"hearing": "bank"}, "has another hearing: give a folder of its own"),
        (("", ""), {"hearing": "c.toml"}, "cannot make the folder c.toml: File exists"),
        (("", ""), {"start": "none.npz"}, "there is no checkpoint none.npz"),
    ],
)
def test_one_sentence(
    small: list[str],
    bank: Segments,
    config: tuple[str, str],
    options: dict[str, Any],
    words: str,
) -> None:
    Path("bank/progress.json").write_text("{}")
    usual = {"teacher": "large.npz", "start": "before.npz", "hearing": "first"}
    paths = {name: Path(options.get(name, path)) for name, path in usual.items()}
    numbers = {"limit_s": 0.1, "hear_limit_s": 1.0, "towers": 1}
    numbers |= {name: value for name, value in options.items() if name in numbers}
    given = argparse.Namespace(output=Path("start.npz"), **paths, **numbers)
    with pytest.raises(EdgelidError, match=words):
        inherit(tomllib.loads(CONFIG.replace(*config)), bank, given)
