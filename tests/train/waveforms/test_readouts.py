"""Two readouts that learn apart are one head behind training."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from edge.errors import EdgelidError
from train.architecture import ModelConfig, Stage
from train.waveforms.readouts import Readouts, unlike_rows
from train.waveforms.whisper_languages import ROWS, classes_of

CLASSES = 4  # two languages, others, nobody speaks
SHAPE = ModelConfig(8, (Stage(8, 3, 2, 6, 1, 0),), embedding=6, hidden=7)


@pytest.fixture
def pooled() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(5, 12)).astype(np.float32)


def made(languages_hidden: int, seed: int = 1) -> Readouts:
    """With weights of which none is zero or one, statistics of normalisations included."""
    keras.utils.set_random_seed(seed)
    readouts = Readouts(SHAPE, CLASSES, languages_hidden)
    rng = np.random.default_rng(seed)
    for head in (readouts.own, readouts.languages):
        if head is not None:
            head.set_weights([rng.uniform(0.2, 1.0, w.shape) for w in head.get_weights()])
    return readouts


def test_joined_they_say_the_mean_of_both(pooled: np.ndarray) -> None:
    readouts = made(3)
    assert readouts.languages is not None
    own, other = (np.asarray(head(pooled)) for head in (readouts.own, readouts.languages))
    assert own.shape == (5, CLASSES) and other.shape == (5, CLASSES + ROWS)
    joined = np.asarray(readouts.join()(pooled))
    np.testing.assert_allclose(joined, (own + other[:, :CLASSES]) / 2, rtol=1e-5)


def test_a_head_that_was_joined_goes_on_as_two(pooled: np.ndarray) -> None:
    before = made(3)
    wanted = np.asarray(before.join()(pooled))
    after = made(3, seed=2)
    after.begin(before.join().get_weights())
    np.testing.assert_allclose(np.asarray(after.join()(pooled)), wanted, rtol=1e-5)


def test_a_head_that_was_one_becomes_the_first_of_two(pooled: np.ndarray) -> None:
    one, two = made(0), made(3)
    small = Readouts(ModelConfig(8, SHAPE.stages, embedding=6, hidden=4), CLASSES, 0)
    assert one.languages is None
    as_wide = made(0, seed=2)
    one.begin(as_wide.own.get_weights())
    np.testing.assert_allclose(np.asarray(one.own(pooled)), np.asarray(as_wide.own(pooled)))
    two.begin(small.own.get_weights())
    np.testing.assert_allclose(np.asarray(two.own(pooled)), np.asarray(small.own(pooled)))


def test_a_head_of_another_width_is_refused() -> None:
    with pytest.raises(EdgelidError, match="9 hidden units, where the configuration says 2 and 5"):
        made(5).begin([np.zeros((12, 9))])
    with pytest.raises(EdgelidError, match="languages_hidden"):
        Readouts(SHAPE, CLASSES, 7)


def test_what_says_the_same_is_not_unlike() -> None:
    rng = np.random.default_rng(5)
    told = rng.normal(size=(3, ROWS)).astype(np.float32)
    summed = np.asarray(classes_of(told, CLASSES - 2))
    said = np.concatenate([summed + 2, told - 1], axis=1)  # a softmax takes no notice of either
    labels, speaks = np.zeros(3, np.int32), np.array([True, True, True])
    assert float(unlike_rows(said, told, labels, speaks, CLASSES)) == pytest.approx(0, abs=1e-4)
    moved = said + rng.normal(size=said.shape).astype(np.float32)
    assert float(unlike_rows(moved, told, labels, speaks, CLASSES)) > 0.3


def test_where_nobody_speaks_only_the_class_counts() -> None:
    told, speaks = np.zeros((1, ROWS), np.float32), np.array([False])
    said = np.zeros((1, CLASSES + ROWS), np.float32)
    said[0, CLASSES - 1] = 50.0  # that nobody does
    said[0, CLASSES:] = np.random.default_rng(6).normal(size=ROWS)
    labels = np.zeros(1, np.int32)
    assert float(unlike_rows(said, told, labels, speaks, CLASSES)) == pytest.approx(0, abs=1e-5)


def test_other_languages_are_one_class() -> None:
    rows = ops.convert_to_tensor(np.log(np.array([[0.1, 0.2, 0.3, 0.15, 0.25]], np.float32)))
    found = np.exp(np.asarray(classes_of(rows, 2)))[0]
    np.testing.assert_allclose(found, [0.1, 0.2, 0.45, 0.25], rtol=1e-5)
    assert classes_of(rows, 4).shape == (1, 5)
