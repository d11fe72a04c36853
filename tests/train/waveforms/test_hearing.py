"""A hearing is gone on with by who began it, or by anybody where it does not tell who that was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras import ops

from edge.errors import EdgelidError
from train.waveforms.bank import TRAIN, Segments
from train.waveforms.hearing import BATCH, WINDOW_TOKENS, Hearing, keep_tokens

LABELS = ["de", "other", "nonspeech"]


@pytest.fixture
def bank() -> Segments:
    names = ("role", "language", "source", "speaker", "kind", "coded")
    people = (("de", "s0"), ("sv", "s1"))
    rows = [
        dict(zip(names, (TRAIN, language, "home", who, "human", False), strict=True))
        for language, who in people
    ]
    samples = np.random.default_rng(1).integers(-900, 900, 32_000).astype(np.int16)
    return Segments(samples, np.array([0, 16_000]), np.array([16_000, 16_000]), rows)


def hear(bank: Segments, folder: Path, dim: int, teacher: str, value: float = 1.0) -> None:
    def tokens(log_mel: Any) -> Any:
        return ops.full((BATCH, WINDOW_TOKENS, dim), value)

    keep_tokens(bank, LABELS, tokens, dim, folder, 60.0, teacher)


def test_who_heard_is_not_made_up(bank: Segments, tmp_path: Path) -> None:
    """A hearing that does not tell stays anybody's, though one who tells goes on with it."""
    hear(bank, tmp_path, 4, "one")
    assert Hearing.load(tmp_path, bank).teacher == "one"
    file = tmp_path / "progress.json"
    told = json.loads(file.read_text())
    del told["teacher"]
    file.write_text(json.dumps(told))
    hear(bank, tmp_path, 4, "two", 2.0)
    found = Hearing.load(tmp_path, bank, "one")
    assert found.teacher is None
    assert (found.tokens == 1.0).all()


def test_a_hearing_that_cannot_be_kept_is_not_begun(bank: Segments, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match=r"cannot make the folder .*file: File exists"):
        hear(bank, tmp_path / "file", 4, "one")
    (tmp_path / "h" / "tokens.npy").mkdir(parents=True)
    with pytest.raises(EdgelidError, match=r"cannot write .*tokens.npy: it is a folder"):
        hear(bank, tmp_path / "h", 4, "one")


@pytest.mark.parametrize("whose", ["one", None])
def test_tokens_of_another_width_are_refused(
    whose: str | None, bank: Segments, tmp_path: Path
) -> None:
    hear(bank, tmp_path, 4, "one")
    file = tmp_path / "progress.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"teacher": whose}))
    with pytest.raises(EdgelidError, match="was heard by another teacher, or is damaged"):
        hear(bank, tmp_path, 5, "one")
    assert Hearing.load(tmp_path, bank).tokens.shape == (100, 4)
