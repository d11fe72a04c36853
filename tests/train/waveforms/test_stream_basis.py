"""The basis of a stream has most of it, in coordinates of alike spread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.waveforms.stream_basis import StreamBasis, fit_basis

CLIPS, LAYERS, TOKENS, DIM, RANK = 60, 3, 8, 24, 6


@pytest.fixture(scope="module")
def outputs() -> np.ndarray:
    """Of layers that use few directions, some more than others, and say where they are."""
    rng = np.random.default_rng(0)
    strengths = 2.0 ** -np.arange(RANK)
    latent = rng.normal(size=(CLIPS, LAYERS, TOKENS // 2, RANK)) * strengths
    tokens = np.repeat(latent @ rng.normal(size=(RANK, DIM)), 2, axis=2)
    tokens *= rng.uniform(0.1, 30.0, DIM)  # a few channels are large
    places = rng.normal(0, 5, (LAYERS, TOKENS, DIM))
    return (tokens + places).astype(np.float32)


@pytest.fixture(scope="module")
def basis(outputs: np.ndarray) -> StreamBasis:
    return fit_basis(iter([outputs[:40], outputs[40:]]), 2, RANK, np.random.default_rng(1))


def test_orthonormal_and_nearly_all(outputs: np.ndarray, basis: StreamBasis) -> None:
    np.testing.assert_allclose(basis.directions.T @ basis.directions, np.eye(RANK), atol=1e-5)
    np.testing.assert_allclose(basis.places, outputs[:, 0].mean(axis=0), atol=1e-4)
    assert (basis.kept > 0.999).all() and (basis.kept < 1.001).all()
    fewer = fit_basis([outputs], 2, 2, np.random.default_rng(1))
    assert (fewer.kept < 0.99).all()


def test_coordinates_tell_the_stream(outputs: np.ndarray, basis: StreamBasis) -> None:
    tokens = outputs[:, 1].reshape(CLIPS, -1, 2, DIM).mean(axis=2)
    coordinates = basis.coordinates(tokens)
    again = coordinates @ basis.directions.T * basis.deviations
    np.testing.assert_allclose(again, tokens - tokens.mean(axis=0), atol=0.05)
    # Turned, they have about the same spread, where principal components differ 32-fold.
    spread = coordinates.reshape(-1, RANK).std(axis=0)
    assert spread.max() / spread.min() < 8


def test_kept_and_refused(basis: StreamBasis, tmp_path: Path) -> None:
    file = tmp_path / "first" / "basis.npz"
    file.parent.mkdir()
    basis.save(file, "one")
    again = StreamBasis.load(file, "one", RANK)
    np.testing.assert_array_equal(again.kernel, basis.kernel)
    for teacher, width in (("two", RANK), ("one", RANK + 1)):
        with pytest.raises(EdgelidError, match="another teacher or for another width"):
            StreamBasis.load(file, teacher, width)
    file.write_bytes(b"nothing")
    with pytest.raises(EdgelidError, match="is damaged"):
        StreamBasis.load(file, "one", RANK)
