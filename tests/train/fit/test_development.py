"""What picks checkpoints is what a device would answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from train.config import RunConfig
from train.fit.development import DevelopmentSet, score
from train.fit.training_data import Corpus
from train.model.checkpoint import load_checkpoint, restore_model


def test_a_model_that_answers_nothing_but_other_is_no_good(
    tiny_run: Path, tiny_data: Corpus
) -> None:
    config = load_checkpoint(tiny_run).config
    stretches = DevelopmentSet.of(config, tiny_data.rows, tiny_data.development, tiny_data.features)
    trunk, head = restore_model(load_checkpoint(tiny_run))
    before = score(trunk, head, stretches)
    *weights, bias = head.get_weights()
    bias[config.data.labels.index("other")] += 1000.0
    head.set_weights([*weights, bias])
    after = score(trunk, head, stretches)
    assert after["3s"] == before["3s"] > 0.5  # as if `other` could not be answered
    assert before["select"] > 0.5
    assert after["select"] == 0.3333  # of de, en and other


def shortened(corpus: Corpus, *languages: str) -> pl.DataFrame:
    """The rows of a corpus in which each clip of these languages is a speaker of its own."""
    speaker = pl.col("speaker").cast(pl.String)
    alone = pl.format("{} {}", speaker, pl.int_range(pl.len()))
    is_short = pl.col("language").cast(pl.String).is_in(list(languages))
    return corpus.rows.with_columns(
        pl.when(is_short).then(alone).otherwise(speaker).cast(pl.Categorical).alias("speaker")
    )


def test_short_clips_are_scored_on_the_length_they_have(
    tiny_config: RunConfig,
    tiny_run: Path,
    tiny_data: Corpus,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The clips of the attic last 2.1 s."""
    rows = shortened(tiny_data, "de", "en", "sv")
    short = DevelopmentSet.of(tiny_config, rows, tiny_data.development, tiny_data.features)
    assert "nobody held out says more than 2.0 s of de, en" in caplog.text
    assert short.length_s == 2.0
    assert np.bincount(short.labels).tolist() == [6, 6, 6]  # every clip
    scores = score(*restore_model(load_checkpoint(tiny_run)), short)
    assert list(scores)[:2] == ["1s", "2s"]
    assert scores["2s"] > 0.5
    assert scores["select"] > 0.5


def test_one_language_of_short_clips_takes_part(
    tiny_config: RunConfig, tiny_data: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    rows = shortened(tiny_data, "en")
    short = DevelopmentSet.of(tiny_config, rows, tiny_data.development, tiny_data.features)
    assert "2.0 s of en:" in caplog.text
    assert set(short.labels.tolist()) == {0, 1, 2}


def test_a_language_of_words_is_named(
    tiny_config: RunConfig, tiny_data: Corpus, caplog: pytest.LogCaptureFixture
) -> None:
    languages = tiny_data.rows["language"][tiny_data.development]
    held_out = tiny_data.development[(languages != "en").to_numpy()]
    found = DevelopmentSet.of(tiny_config, tiny_data.rows, held_out, tiny_data.features)
    assert "no development speech of en: it takes no part" in caplog.text
    assert found.length_s == 5.0
