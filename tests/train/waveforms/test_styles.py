"""Clips take over other clips' long-term spectra, and nothing else of them."""

from __future__ import annotations

import numpy as np

from train.waveforms.styles import draw_styles, spectrum, styled


def clips() -> np.ndarray:
    """Speech-like clips, each with a tilt of its own, shape (3, 50, 16)."""
    rng = np.random.default_rng(1)
    words = rng.uniform(4, 12, (3, 50, 16))
    tilt = np.linspace(-1, 1, 16) * np.array([[-2.0], [0.0], [3.0]])
    return (words + tilt[:, None]).astype(np.float32)


def test_a_donor_lends_its_spectrum() -> None:
    spoken = clips()
    draw = {
        "donor": np.array([2, 2, 2], np.int32),
        "style": np.array([1.0, 0.5, 0.0], np.float32),
    }
    found = np.asarray(styled(spoken, draw, np.ones(3, bool)))
    own, taken = np.asarray(spectrum(spoken)), np.asarray(spectrum(found))
    np.testing.assert_allclose(taken[0], own[2], atol=0.2)
    np.testing.assert_allclose(taken[1], (own[1] + own[2]) / 2, atol=0.2)
    np.testing.assert_array_equal(found[2], spoken[2])
    # What is said, and how loud, stays.
    said = [x - x.mean(axis=1, keepdims=True) for x in (spoken[:1], found[:1])]
    assert np.corrcoef(said[0].ravel(), said[1].ravel())[0, 1] > 0.99
    np.testing.assert_allclose(found.mean(axis=(1, 2)), spoken.mean(axis=(1, 2)), atol=0.2)


def test_noise_and_silence_take_no_part() -> None:
    spoken = clips()
    spoken[0, :20] = 0
    draw = {"donor": np.array([1, 2, 0], np.int32), "style": np.ones(3, np.float32)}
    found = np.asarray(styled(spoken, draw, np.array([True, True, False])))
    assert not found[0, :20].any()
    assert (found[0, 20:] != spoken[0, 20:]).any()
    np.testing.assert_array_equal(found[1:], spoken[1:])


def test_a_share_of_clips_is_drawn() -> None:
    drawn = draw_styles(np.random.default_rng(1), 4_000, 0.5)
    assert 0.45 < np.mean(drawn["style"] > 0) < 0.55
    assert drawn["style"].max() <= 1
    assert not draw_styles(np.random.default_rng(1), 100, 0.0)["style"].any()
