"""A new run begins with the trunk of another, and with what its head knows already."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import train
import train.fit.loop
from edge.errors import EdgelidError
from train.cli import main
from train.config import RunConfig, read_config
from train.fit.finetune import initial_weights
from train.fit.loop import Beginning, fit
from train.fit.training_data import Corpus, Place, open_corpus
from train.model.checkpoint import load_checkpoint, restore_model
from train.model.shipped import TRUNK

PACKAGE = Path(train.__file__).parent


@pytest.fixture(scope="module")
def wider(tiny_config: RunConfig) -> RunConfig:
    """Swedish, which was ``other``, becomes a language."""
    data = dataclasses.replace(tiny_config.data, languages=("sv", "de", "en"))
    plan = dataclasses.replace(
        tiny_config.optimiser, steps=8, evaluate_every_steps=4, learning_rate=2e-3
    )
    return dataclasses.replace(tiny_config, data=data, optimiser=plan)


@pytest.fixture(scope="module")
def wider_data(wider: RunConfig, tiny_corpus: Path, tiny_cache: Path) -> Corpus:
    return open_corpus(wider, Place((tiny_corpus,), tiny_cache))


@pytest.mark.parametrize("name", ["", "best.npz"])
def test_rows_by_label(wider: RunConfig, tiny_run: Path, name: str) -> None:
    trunk, head = restore_model(load_checkpoint(tiny_run))
    weights = initial_weights(wider, tiny_run / name)
    kept = [*trunk.get_weights(), *head.get_weights()[:-2]]
    for found, wanted in zip(weights[:-2], kept, strict=True):
        np.testing.assert_array_equal(found, wanted)
    kernel, bias = head.get_weights()[-2:]  # of de, en, other, nonspeech
    rows = [2, 0, 1, 2, 3]
    np.testing.assert_array_equal(weights[-2], kernel[:, rows])
    np.testing.assert_array_equal(weights[-1], bias[rows])


def test_from_a_run_that_goes_on(tiny_config: RunConfig, tiny_run: Path) -> None:
    last = load_checkpoint(tiny_run / "last.npz")
    weights = initial_weights(tiny_config, tiny_run / "last.npz")
    for i, array in enumerate(weights):
        np.testing.assert_array_equal(array, last.arrays[f"average/{i}"])


def test_from_the_shipped_checkpoint() -> None:
    config = read_config(PACKAGE / "configs" / "finetune-malayalam.toml")
    weights = initial_weights(config, TRUNK)
    assert weights[-1].shape == (12,)


@pytest.mark.parametrize("part", ["model", "front_end"])
def test_another_network(wider: RunConfig, tiny_run: Path, part: str) -> None:
    if part == "model":
        other = dataclasses.replace(wider, model=dataclasses.replace(wider.model, hidden=17))
    else:
        front_end = dataclasses.replace(wider.front_end, high_hz=7000.0)
        other = dataclasses.replace(wider, front_end=front_end)
    with pytest.raises(EdgelidError, match=r"its \[model\] and \[front_end\] must be those"):
        initial_weights(other, tiny_run)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["", "trunk", "known"])
def test_fine_tuning(
    wider: RunConfig,
    wider_data: Corpus,
    tiny_run: Path,
    tmp_path: Path,
    freeze: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is frozen stays, to the bit; a run that goes on needs no telling how it began."""
    beginning = Beginning(init=tiny_run, freeze=freeze)
    best = fit(wider, tmp_path / "whole", wider_data, beginning)
    assert best
    before, _ = restore_model(load_checkpoint(tiny_run))
    after, head = restore_model(best)
    same = [
        np.array_equal(*pair)
        for pair in zip(before.get_weights(), after.get_weights(), strict=True)
    ]
    assert all(same) == bool(freeze)
    begun = initial_weights(wider, tiny_run)[len(before.weights) :]
    moved = [one != two for one, two in zip(begun, head.get_weights(), strict=True)]
    rows = np.array([True, False, False, False, False])  # sv, de, en, other, nonspeech
    if freeze == "known":
        assert not any(each.any() for each in moved[:-2])
        assert (moved[-2].any(0) == rows).all() and (moved[-1] == rows).all()
    else:
        assert all(each.any() for each in moved)

    update, calls = train.fit.loop._update, []

    def interrupted(*arguments: object) -> tuple[float, float, float]:
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train.fit.loop, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(wider, tmp_path / "parts", wider_data, beginning)
    fit(wider, tmp_path / "parts", wider_data)
    one, two = (load_checkpoint(tmp_path / name / "last.npz") for name in ("whole", "parts"))
    assert one.arrays.keys() == two.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(two.arrays[name], array, err_msg=name)


def test_nothing_new(
    tiny_config: RunConfig, tiny_data: Corpus, tiny_run: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgelidError, match="knows all these languages"):
        fit(tiny_config, tmp_path, tiny_data, Beginning(init=tiny_run, freeze="known"))


def test_a_frozen_trunk_has_no_teacher(
    wider: RunConfig, wider_data: Corpus, tiny_run: Path, tmp_path: Path
) -> None:
    plan = dataclasses.replace(wider.optimiser, teacher_weight=1.0)
    config = dataclasses.replace(wider, optimiser=plan)
    with pytest.raises(EdgelidError, match="learns nothing from a teacher"):
        fit(config, tmp_path, wider_data, Beginning(init=tiny_run, freeze="trunk"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze", "trunk"], "give it with --init"),
        (["--init", "a", "--start", "b"], "give one"),
    ],
)
def test_options_that_do_not_go_together(
    tiny_toml: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fit", str(tiny_toml), "--run", str(tmp_path / "run"), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
