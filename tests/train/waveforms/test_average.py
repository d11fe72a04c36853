"""The average of two models lies between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.model.checkpoint import load_checkpoint
from train.model.shipped import TRUNK
from train.waveforms.average import averaged


def test_between_both() -> None:
    before = load_checkpoint(TRUNK)
    moved = {name: value + 1 for name, value in before.arrays.items()}
    after = replace(before, arrays=moved)
    between = averaged(before, after, 0.75)
    for name, value in between.arrays.items():
        np.testing.assert_allclose(value, before.arrays[name] + 0.75, rtol=1e-5)
        assert value.dtype == before.arrays[name].dtype
    assert between.scores == {}  # nobody has measured it yet


def test_of_one_network_only() -> None:
    before = load_checkpoint(TRUNK)
    network = replace(before.config.model, hidden=before.config.model.hidden + 1)
    after = replace(before, config=replace(before.config, model=network))
    with pytest.raises(EdgelidError, match="differ in network"):
        averaged(before, after, 0.5)
