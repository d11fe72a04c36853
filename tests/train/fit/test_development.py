"""What picks checkpoints is what a device would answer."""

from __future__ import annotations

from pathlib import Path

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
