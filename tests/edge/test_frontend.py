"""The front end: the same frames from any blocks, and librosa's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.frontend import (
    Float32Array,
    FrontEnd,
    FrontEndConfig,
    frame_count,
    front_end_hash,
)
from edge.model.modelfile import DEFAULT_MODEL, read_model

CONFIG = FrontEndConfig()
FILTERBANK = read_model(DEFAULT_MODEL).filterbank
SAMPLES = 6_000


def noise(samples: int = SAMPLES) -> Float32Array:
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def front_end() -> FrontEnd:
    return FrontEnd(CONFIG, FILTERBANK)


def in_blocks(samples: Float32Array, sizes: Sequence[int]) -> Float32Array:
    """Frames of the samples, handed over in blocks of these sizes and then all that is left."""
    streaming, start, frames = front_end(), 0, []
    for size in sizes:
        frames.append(streaming.process(samples[start : start + size]))
        start += size
    frames.append(streaming.process(samples[start:]))
    return np.concatenate(frames)


# --- streaming -------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2_000), max_size=30))
def test_any_blocks_give_the_same_frames(sizes: list[int]) -> None:
    whole = front_end().process(noise())
    assert in_blocks(noise(), sizes).tobytes() == whole.tobytes()


def test_single_samples_give_the_same_frames() -> None:
    whole = front_end().process(noise(2_000))
    np.testing.assert_array_equal(in_blocks(noise(2_000), [1] * 2_000), whole)


def test_empty_blocks_change_nothing() -> None:
    whole = front_end().process(noise())
    np.testing.assert_array_equal(in_blocks(noise(), [0, 0, 500, 0, 160, 0, 0]), whole)
    assert front_end().process(np.empty(0, np.float32)).shape == (0, CONFIG.mels)


def test_a_frame_depends_on_its_own_samples_only() -> None:
    audio = noise()
    whole = front_end().process(audio)
    for index in (0, 7, len(whole) - 1):
        start = index * CONFIG.hop_samples
        (alone,) = front_end().process(audio[start : start + CONFIG.window_samples])
        np.testing.assert_array_equal(alone, whole[index])


@pytest.mark.parametrize(
    ("samples", "frames"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98)]
)
def test_number_of_frames(samples: int, frames: int) -> None:
    assert frame_count(samples, CONFIG) == frames
    given_frames = front_end().process(noise(samples))
    assert given_frames.shape == (frames, CONFIG.mels)
    assert given_frames.dtype == np.float32


def test_reset_forgets_the_stream() -> None:
    used = front_end()
    used.process(noise(777))
    used.reset()
    np.testing.assert_array_equal(used.process(noise()), front_end().process(noise()))


def test_the_callers_memory_can_be_used_again() -> None:
    streaming, buffer, frames = front_end(), np.empty(500, np.float32), []
    for start in range(0, SAMPLES, 500):
        buffer[:] = noise()[start : start + 500]
        frames.append(streaming.process(buffer))
        buffer[:] = np.nan
    np.testing.assert_array_equal(np.concatenate(frames), front_end().process(noise()))


# --- values ----------------------------------------------------------------------------------


def test_silence_is_exactly_zero() -> None:
    assert not front_end().process(np.zeros(16_000, np.float32)).any()


def test_values_stay_within_what_the_docstring_says() -> None:
    loud = front_end().process(np.sign(noise(16_000)))
    assert (loud > 0).all()
    assert loud.max() < 30


@pytest.mark.slow  # the first import of librosa compiles
def test_librosa_computes_the_same(speech: Float32Array) -> None:
    librosa = pytest.importorskip("librosa")
    audio = np.concatenate([speech[16_000:48_000], noise(16_000)])
    # librosa centres the window in the transform.
    edge = np.zeros((CONFIG.fft_samples - CONFIG.window_samples) // 2)
    expected = librosa.feature.melspectrogram(
        y=np.concatenate([edge, audio.astype(np.float64), edge]),
        sr=CONFIG.sample_rate_hz,
        n_fft=CONFIG.fft_samples,
        win_length=CONFIG.window_samples,
        hop_length=CONFIG.hop_samples,
        n_mels=CONFIG.mels,
        fmin=CONFIG.low_hz,
        fmax=CONFIG.high_hz,
        center=False,
    ).T  # (frames, mels)
    power = np.expm1(front_end().process(audio).astype(np.float64)) * CONFIG.floor
    assert power.shape == expected.shape
    np.testing.assert_allclose(power, expected, rtol=1e-4)


# --- what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 256), (63, 257), (257, 64), (64 * 257,)])
def test_a_filterbank_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        FrontEnd(CONFIG, np.ones(shape, np.float32))


def test_an_empty_filter_is_refused() -> None:
    filterbank = FILTERBANK.copy()
    filterbank[17] = 0
    with pytest.raises(ValueError, match="empty filter"):
        FrontEnd(CONFIG, filterbank)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CONFIG)])
def test_every_parameter_changes_the_hash(field: str) -> None:
    changed = dataclasses.replace(CONFIG, **{field: getattr(CONFIG, field) * 2})
    assert front_end_hash(changed, FILTERBANK) != front_end_hash(CONFIG, FILTERBANK)


def test_every_weight_changes_the_hash() -> None:
    filterbank = FILTERBANK.copy()
    filterbank[-1, -1] += 1e-3
    assert front_end_hash(CONFIG, filterbank) != front_end_hash(CONFIG, FILTERBANK)


def test_the_hash_does_not_depend_on_how_the_filterbank_lies_in_memory() -> None:
    assert front_end_hash(CONFIG, np.asfortranarray(FILTERBANK)) == front_end_hash(
        CONFIG, FILTERBANK
    )
