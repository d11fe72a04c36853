"""Models for second opinions that are small enough to be asked at every turn."""

from __future__ import annotations

import pytest

from edge.model.modelfile import DEFAULT_MODEL, ModelFile, read_model
from tests.fuzz.seeds import LENGTHS_SEED, STREAM_SEED, WINDOW_SEED


@pytest.fixture(scope="session")
def expert_path() -> str:
    """One that streams: the compact model serves as its own second opinion."""
    return str(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def small() -> ModelFile:
    """A compact model that knows the classes of the next one."""
    return read_model(STREAM_SEED)


@pytest.fixture(scope="session")
def window_path() -> str:
    """A model of whole windows."""
    return str(WINDOW_SEED)


@pytest.fixture(scope="session")
def lengths_path() -> str:
    """One of whole windows that takes several lengths: 10 to 40 frames."""
    return str(LENGTHS_SEED)
