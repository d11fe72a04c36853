"""Numbers of half the size are for the trunk's arithmetic in training, and for nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest

from train.config import RunConfig
from train.fit.loop import fit
from train.fit.training_data import Corpus
from train.model.checkpoint import load_checkpoint, restore_model
from train.model.precision import AUTO, BFLOAT16, FLOAT16, FLOAT32, by_capability, choose


def test_choice() -> None:
    assert choose(FLOAT16) == FLOAT16
    assert by_capability([]) == FLOAT32  # no GPU
    assert by_capability([(6, 1)]) == FLOAT32
    assert by_capability([(7, 5), (8, 6)]) == FLOAT16
    assert by_capability([(8, 0), (9, 0)]) == BFLOAT16
    assert choose(AUTO) in (FLOAT32, FLOAT16, BFLOAT16)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [BFLOAT16, FLOAT16])
def test_a_mixed_run(
    tiny_config: RunConfig, tiny_data: Corpus, tmp_path: Path, precision: str
) -> None:
    """It learns; what it saves is float32; and it goes on in float32 if it must."""
    best = fit(tiny_config, tmp_path / "run", tiny_data, precision=precision)
    assert best
    assert best.scores["select"] >= 0.75
    assert keras.config.dtype_policy().name == FLOAT32
    last = load_checkpoint(tmp_path / "run" / "last.npz")
    for checkpoint in (best, last):
        for name, array in checkpoint.arrays.items():
            assert array.dtype == np.float32 or not array.ndim, name
    assert ("scale/factor" in last.arrays) == (precision == FLOAT16)
    trunk, _ = restore_model(best)
    assert trunk(np.zeros((1, 32, 1, tiny_config.model.mels), np.float32))[0].dtype == "float32"
    longer = dataclasses.replace(tiny_config.optimiser, steps=tiny_config.optimiser.steps + 1)
    (tmp_path / "longer").mkdir()
    config = dataclasses.replace(tiny_config, optimiser=longer)
    dataclasses.replace(last, config=config).save(tmp_path / "longer" / "last.npz")
    fit(config, tmp_path / "longer", tiny_data)
    assert load_checkpoint(tmp_path / "longer" / "last.npz").step == longer.steps
