"""Answers that come when a device would have them."""

from __future__ import annotations

import numpy as np

from edge.model.modelfile import MODELS, read_model
from edge.opinion.asking import ASKED, BUSY, UNAFFORDABLE, Question
from edge.opinion.expert import ExpertFile
from train.evaluation.in_its_time import InItsTime


def _asker(answer_s: float, share: float) -> InItsTime:
    path = str(MODELS / "edgelid-9.tflite")
    file = ExpertFile(path, read_model(path).labels)
    file.nominal_s = answer_s
    return InItsTime(file, share)


def test_an_answer_comes_once_it_is_worked_out() -> None:
    """And no other question is taken until then."""
    asker = _asker(0.75, 1.0)
    samples = np.random.default_rng(0).normal(0, 0.01, 16_000 * 4).astype(np.float32)
    heard, outcomes, came_s = [], [], []
    for block in asker.blocks(samples):
        heard.append(block)
        for _, opinion in asker.take():
            assert opinion.end_s == 1.0
            came_s.append(asker.heard_s)
        if asker.heard_s in (1.0, 1.5, 2.0):
            question = Question(samples[:16_000], 1.0, None, 0)
            outcomes.append(asker.ask(question, asker.heard_s))
    np.testing.assert_array_equal(np.concatenate(heard), samples)
    assert outcomes == [ASKED, BUSY, ASKED]
    assert came_s == [1.8, 2.8]  # in the first block that ends behind it
    assert asker.spent_s == 1.5


def test_it_keeps_to_its_share() -> None:
    asker = _asker(10.0, 0.25)
    question = Question(np.zeros(16_000, np.float32), 1.0, None, 0)
    assert asker.ask(question, 1.0) == ASKED
    asker.heard_s = 12.0
    assert len(asker.take()) == 1 and asker.take() == []
    assert asker.ask(question, 12.0) == UNAFFORDABLE
