"""An average of models lies between them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.model.checkpoint import load_checkpoint
from train.model.shipped import TRUNK
from train.waveforms.adapters import adapt
from train.waveforms.average import average_large, averaged
from train.waveforms.checkpoint import fingerprint, load_parts, save_parts
from train.waveforms.large import Large, load_large


def test_between_both() -> None:
    before = load_checkpoint(TRUNK)
    moved = {name: value + 1 for name, value in before.arrays.items()}
    after = replace(before, arrays=moved)
    between = averaged(before, [(after, 0.75)])
    for name, value in between.arrays.items():
        np.testing.assert_allclose(value, before.arrays[name] + 0.75, rtol=1e-5)
        assert value.dtype == before.arrays[name].dtype
    assert between.scores == {}  # nobody has measured it yet


def test_between_three() -> None:
    before = load_checkpoint(TRUNK)
    runs = [
        (replace(before, arrays={k: v + move for k, v in before.arrays.items()}), share)
        for move, share in ((1.0, 0.5), (-2.0, 0.25))
    ]
    for name, value in averaged(before, [*runs, (before, 0.25)]).arrays.items():
        np.testing.assert_allclose(value, before.arrays[name], atol=1e-5)
    for name, value in averaged(before, runs[:1] * 2).arrays.items():
        np.testing.assert_allclose(value, before.arrays[name] + 1.0, rtol=1e-5, atol=1e-5)


def test_of_one_network_only() -> None:
    before = load_checkpoint(TRUNK)
    network = replace(before.config.model, hidden=before.config.model.hidden + 1)
    after = replace(before, config=replace(before.config, model=network))
    with pytest.raises(EdgelidError, match="differ in network"):
        averaged(before, [(after, 0.5)])


def test_of_whole_weights_only() -> None:
    before = load_checkpoint(TRUNK)
    name, value = next(iter(before.arrays.items()))
    lacking = replace(before, arrays={k: v for k, v in before.arrays.items() if k != name})
    longer = replace(before, arrays=before.arrays | {name: np.concatenate([value, value])})
    for after in (lacking, longer):
        with pytest.raises(EdgelidError, match="differ in their weights"):
            averaged(before, [(after, 0.5)])
    with pytest.raises(EdgelidError, match=r"the checkpoint.*(no finished model|do not fit)"):
        averaged(lacking, [(lacking, 0.5)])


def test_of_numbers_only() -> None:
    before = load_checkpoint(TRUNK)
    name, value = next(iter(before.arrays.items()))
    for bad in (np.nan, np.inf):
        after = replace(before, arrays=before.arrays | {name: np.full_like(value, bad)})
        with pytest.raises(EdgelidError, match="are not finite"):
            averaged(before, [(after, 0.5)])
    moved = replace(before, arrays={k: v + 1 for k, v in before.arrays.items()})
    with pytest.raises(EdgelidError, match="a share too large"):
        averaged(before, [(moved, 1e39)])


DIM = 64  # a head of attention of the large model is as wide
TOLD: dict[str, Any] = {"config": {"data": {"languages": ["de", "en"]}, "large": {"layers": 1}}}


def large_before(file: Path) -> Large:
    model = Large(1, 4, dim=DIM, heads=1)
    save_parts(file, model.arrays(), TOLD)
    return load_large(file)[0]


def large_after(model: Large, file: Path, rank: int, seed: int = 0) -> None:
    told = TOLD | {"scores": {"3s": 1}}
    if rank:
        told |= {"adapted": fingerprint([model.encoder])}
        adapt(model.encoder, rank)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(0, 0.1, variable.shape))
    save_parts(file, model.arrays(), told)


@pytest.mark.parametrize("is_adapted", [False, True])
def test_between_both_large_models(is_adapted: bool, tmp_path: Path) -> None:
    before, after, between = (tmp_path / f"{name}.npz" for name in ("before", "after", "between"))
    large_after(large_before(before), after, 2 if is_adapted else 0)
    average_large(before, [(after, 0.25)], between)
    weights = [load_large(file)[0].get_weights() for file in (before, after, between)]
    moved = 0.0
    for old, new, found in zip(*weights, strict=True):
        np.testing.assert_allclose(found, old + 0.25 * (new - old), atol=2e-3)
        moved = max(moved, float(np.abs(new - old).max()))
    assert moved > 0.05
    arrays, told = load_parts(between)
    assert any(name.startswith("adapter/") for name in arrays) == is_adapted
    assert told["scores"] == {} and ("adapted" in told) == is_adapted


@pytest.mark.parametrize(("ranks", "is_beside"), [((2, 3), True), ((2, 0), False)])
def test_of_two_runs(ranks: tuple[int, int], is_beside: bool, tmp_path: Path) -> None:
    before, first, second, both = (tmp_path / f"{name}.npz" for name in "abcd")
    large_before(before)
    for seed, (file, rank) in enumerate(zip((first, second), ranks, strict=True)):
        large_after(load_large(before)[0], file, rank, seed)
    average_large(before, [(first, 0.5), (second, 0.25)], both)
    files = (before, first, second, both)
    for old, a, b, found in zip(*(load_large(f)[0].get_weights() for f in files), strict=True):
        np.testing.assert_allclose(found, old + 0.5 * (a - old) + 0.25 * (b - old), atol=3e-3)
    arrays, _ = load_parts(both)
    channels = {v.shape[1] for k, v in arrays.items() if k.startswith("adapter/") and k[-1] == "a"}
    assert channels == ({5} if is_beside else set())


def test_of_one_run_only(tmp_path: Path) -> None:
    before, after, other = (tmp_path / f"{name}.npz" for name in ("before", "after", "other"))
    large_after(large_before(before), after, 2)
    large_before(other)
    with pytest.raises(EdgelidError, match="is of no run that began with"):
        average_large(other, [(after, 0.5)], tmp_path / "between.npz")


def test_of_large_models_that_are_whole_only(tmp_path: Path) -> None:
    before, after, between = (tmp_path / f"{name}.npz" for name in ("before", "after", "between"))
    large_after(large_before(before), after, 0)
    with pytest.raises(EdgelidError, match="a share too large"):
        average_large(before, [(after, 1e9)], between)
    arrays, _ = load_parts(after)
    bad = {
        "are not finite": arrays | {"large/1": arrays["large/1"] * np.nan},
        "do not fit its configuration": {k: v for k, v in arrays.items() if k != "large/1"},
        "the checkpoint is damaged": arrays | {"large/1": np.concatenate([arrays["large/1"]] * 2)},
    }
    for words, found in bad.items():
        save_parts(after, found, TOLD)
        with pytest.raises(EdgelidError, match=words):
            average_large(before, [(after, 0.5)], between)
    assert not list(tmp_path.glob("between*"))
