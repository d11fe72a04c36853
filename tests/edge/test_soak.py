"""Listening for weeks holds no more memory than listening for minutes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.edge.soak import soak

# 312 hops a half: one number kept for each of them would show.
INTERVAL_S, INTERVALS = 50.0, 12
# numpy keeps buffers below 1 kB for later, a few of each size, and stretches of new lengths go on
# bringing new sizes for hours: some ten blocks an interval.
MOST_BLOCKS = 150


@pytest.mark.slow
@pytest.mark.parametrize("segments", ["one", "many"])
def test_memory_stays_as_it_is(speech: Float32Array, segments: str) -> None:
    silence = np.zeros(10 * SAMPLE_RATE_HZ, np.float32)
    heard = silence if segments == "one" else speech
    blocks = np.array_split(heard, len(heard) // 1600)
    held = list(soak(itertools.cycle(blocks), INTERVAL_S, INTERVALS))
    assert held[-1].heard_s >= INTERVAL_S * INTERVALS
    settled = held[INTERVALS // 2]
    hops = (held[-1].heard_s - settled.heard_s) / 0.16
    assert hops > 10 * MOST_BLOCKS
    assert held[-1].allocated_blocks - settled.allocated_blocks < MOST_BLOCKS
