"""The real corpus, where there is one: its manifest holds, and its audio loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from edge.frontend import SAMPLE_RATE_HZ
from tests.synthetic import rows_of
from train.config import read_config
from train.corpus.cuts import balanced, cuts, load_cuts
from train.corpus.manifest import (
    CORPUS_VARIABLE,
    TEST,
    TRAIN,
    Clip,
    check_files,
    corpus_dir,
    open_manifest,
)
from train.features.noise import read_noise
from train.fit.training_data import check_sources, divide

CONFIG = Path(__file__).parents[3] / "train" / "configs" / "edgelid-9.toml"

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(
        not (corpus_dir() / "manifest.tsv").is_file(),
        reason=f"needs the speech corpus: set {CORPUS_VARIABLE}",
    ),
]


@pytest.fixture(scope="module")
def corpus() -> Path:
    return corpus_dir()


@pytest.fixture(scope="module")
def clips(corpus: Path) -> list[Clip]:
    return open_manifest(corpus).clips()


def test_files_are_there(corpus: Path, clips: list[Clip]) -> None:
    check_files(clips, corpus)


def test_has_what_the_shipped_model_needs(clips: list[Clip]) -> None:
    data = read_config(CONFIG).data
    rows = rows_of(clips)
    training = rows.filter(pl.col("split") == TRAIN)
    check_sources(training, data.development)
    train, held_out = divide(training, data.development)
    for some in (training[train], training[held_out], rows.filter(pl.col("split") == TEST)):
        assert set(data.languages) <= set(some["language"])


@pytest.mark.parametrize("split", ["train", "test"])
def test_cuts_load(corpus: Path, clips: list[Clip], split: str) -> None:
    some = [clip for clip in clips if clip.split == split and clip.kind == "human"]
    drawn = balanced(cuts(some, duration_s=3, seed=0), per_language=1, seed=0)
    assert len(drawn) >= 9
    for samples in load_cuts(drawn, corpus):
        assert samples.shape == (3 * SAMPLE_RATE_HZ,)
        assert np.abs(samples).max() > 1e-3


def test_noise_and_rooms_are_beside_it(corpus: Path) -> None:
    for folder in ("noise", "rir"):
        for split in ("train", "test"):
            assert read_noise(corpus.parent / folder, split)
