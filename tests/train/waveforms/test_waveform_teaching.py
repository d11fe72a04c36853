"""A teacher that hears along hears the voice that is drawn, at one level."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from edge.frontend import Float32Array
from train.waveforms.large import Large
from train.waveforms.sound import samples_of
from train.waveforms.teaching import Along
from train.waveforms.voices import voices_of

TOKENS = 25


@pytest.fixture(scope="module")
def teacher() -> Large:
    keras.utils.set_random_seed(3)
    return Large(1, 3, dim=16, heads=2)


@pytest.fixture(scope="module")
def waves() -> Float32Array:
    rng = np.random.default_rng(1)
    t = np.arange(samples_of(2 * TOKENS)) / 16_000
    vowel = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 30))
    return np.stack([vowel, vowel + rng.normal(0, 0.5, len(t))]).astype(np.float32) * 0.1


def heard(teacher: Large, waves: Float32Array, draw: dict[str, Any] | None) -> Float32Array:
    along = Along(teacher, voices=draw is not None)
    constants = along.constants | {"teacher": [v.value for v in teacher.variables]}
    return np.asarray(along.tokens(waves, draw, constants, TOKENS))


def test_the_voice_that_is_drawn(teacher: Large, waves: Float32Array) -> None:
    none, higher = np.zeros(2), np.array([0.0, 0.15])
    own = voices_of(none, none, none, np.ones(2))
    other = voices_of(higher, none, none, np.ones(2))
    plain = heard(teacher, waves, None)
    assert plain.shape == (2, TOKENS, 16)
    np.testing.assert_allclose(heard(teacher, waves, own), plain, atol=1e-3)
    moved = np.abs(heard(teacher, waves, other) - plain).max(axis=(1, 2))
    assert moved[0] < 1e-3 < 0.1 < moved[1]


def test_at_one_level(teacher: Large, waves: Float32Array) -> None:
    loud = heard(teacher, waves, None)
    np.testing.assert_allclose(heard(teacher, waves * 0.2, None), loud, atol=0.05)
