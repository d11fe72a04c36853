"""Second voices beside clips, and clips that follow upon others."""

from __future__ import annotations

from typing import Any

import numpy as np

from train.waveforms.company import continued, draw_company, labels_at, with_second


def test_a_second_voice_is_as_much_below_the_first_as_drawn() -> None:
    rng = np.random.default_rng(1)
    loudness = np.array([[0.5], [0.01], [0.1]])
    waves = (rng.normal(size=(3, 4_000)) * loudness).astype(np.float32)
    draw: dict[str, Any] = {
        "second": np.array([1, 2, 4], np.int32),  # the last one is the second of the batch
        "second_gain": np.array([0.5, 0.0, 0.1], np.float32),
    }
    found = np.asarray(with_second(waves, draw, np.zeros(3, bool)))
    added = found - waves
    np.testing.assert_allclose(added[0] / waves[1], 0.5 * 50, rtol=0.1)
    np.testing.assert_array_equal(added[1], 0)
    np.testing.assert_allclose(np.std(added[2]), 0.01, rtol=0.05)
    # Noise has none, and is none.
    for alone in ([True, False, True], [False, True, False]):
        np.testing.assert_array_equal(with_second(waves, draw, np.array(alone)), waves)


def test_another_clip_goes_on() -> None:
    x = np.arange(3 * 8).reshape(3, 8, 1).astype(np.float32)
    draw: dict[str, Any] = {
        "next": np.array([2, 0, 4], np.int32),
        "turn": np.array([1, 4, 3], np.int32),
        "labels": np.array([5, 6, 7], np.int32),
    }
    found = np.asarray(continued(x, draw, 2))[..., 0]
    assert found[0].tolist() == [0, 1, *x[2, 2:, 0]]
    assert found[1].tolist() == x[1, :, 0].tolist()
    assert found[2].tolist() == [*x[2, :6, 0], *x[1, 6:, 0]]
    for place, labels in ((0, [5, 6, 7]), (1, [7, 6, 7]), (3, [7, 6, 6]), (4, [7, 5, 6])):
        assert np.asarray(labels_at(np.full(3, place), draw)).tolist() == labels
    assert labels_at(np.zeros(3), {"labels": draw["labels"]}) is draw["labels"]


def test_shares_of_clips_are_drawn() -> None:
    drawn = draw_company(np.random.default_rng(1), 4_000, 100, 0.4, 0.3)
    beside, behind = drawn["second_gain"] > 0, drawn["turn"] < 100
    assert 0.35 < beside.mean() < 0.45 and 0.25 < behind.mean() < 0.35
    assert 0.09 < drawn["second_gain"][beside].min() < drawn["second_gain"].max() < 0.71
    assert 15 <= drawn["turn"].min() <= drawn["turn"][behind].max() <= 85
    nobody = draw_company(np.random.default_rng(1), 100, 100, 0.0, 0.0)
    assert not nobody["second_gain"].any() and (nobody["turn"] == 100).all()
