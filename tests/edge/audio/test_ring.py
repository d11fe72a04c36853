"""The ring between two threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge.audio.ring import Ring
from edge.frontend import Float32Array
from tests.edge.fake_sounddevice import ramp


@pytest.mark.parametrize("seed", range(20))
def test_ring_keeps_the_newest_frames(seed: int) -> None:
    """Against a list, over random reads and writes, also of more than the ring holds."""
    rng = np.random.default_rng(seed)
    capacity, channels = int(rng.integers(1, 20)), int(rng.integers(1, 4))
    ring = Ring(capacity, channels)
    expected = np.zeros((0, channels), np.float32)
    position = written = 0
    for _ in range(300):
        if rng.random() < 0.7:
            frames = rng.random((int(rng.integers(0, 2 * capacity)), channels), np.float32)
            written += len(frames)
            assert ring.write(frames) == written
            expected = np.concatenate([expected, frames])
            position += max(0, len(expected) - capacity)
            expected = expected[-capacity:]
        else:
            until = int(rng.integers(position, position + capacity + 1))
            first, frames = ring.read(until)
            assert first == position
            np.testing.assert_array_equal(frames, expected[: until - position])
            expected = expected[until - position :]
            position += len(frames)


def test_ring_between_two_threads() -> None:
    """Whatever the threads do when: every frame is read once, in order, or counted as dropped."""
    ring = Ring(1_000, 1)
    total = 300_000
    done = threading.Event()

    def write() -> None:
        for start in range(0, total, 150):
            ring.write(ramp(start, start + 150))
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    numbers: list[Float32Array] = []
    position = dropped = 0
    while True:
        last_round = done.is_set()
        first, frames = ring.read(total)
        dropped += first - position
        position = first + len(frames)
        numbers.append(frames[:, 0] * 2**20)
        if last_round:
            break
    writer.join()
    heard = np.concatenate(numbers)
    assert len(heard) + dropped == total
    assert (np.diff(heard) > 0).all()
    assert heard[-1] == total - 1
    for part in numbers:
        assert (np.diff(part) == 1).all()  # what is dropped is dropped between reads
