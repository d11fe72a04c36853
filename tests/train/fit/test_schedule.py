"""The learning rate goes with the root of the batch, up to its peak and down again."""

from __future__ import annotations

import pytest

from train.config import OptimiserConfig
from train.fit.schedule import learning_rates, peak_learning_rate


def test_scaling() -> None:
    assert peak_learning_rate(OptimiserConfig(steps=500)) == 2e-3
    found_with = {"steps": 500, "learning_rate": 1e-3, "learning_rate_clips": 64}
    for clips, factor in ((16, 0.5), (64, 1.0), (256, 2.0), (1024, 4.0)):
        plan = OptimiserConfig(**found_with, batch_clips=clips)  # type: ignore[arg-type]
        assert peak_learning_rate(plan) == pytest.approx(1e-3 * factor)


def test_up_and_down() -> None:
    plan = OptimiserConfig(
        steps=100, warmup_steps=10, learning_rate=1e-3, learning_rate_clips=16, batch_clips=64
    )
    rates = [float(learning_rates(plan)(step)) for step in range(101)]
    assert rates[0] == pytest.approx(2e-5)
    assert max(rates) == rates[10] == pytest.approx(2e-3)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)
