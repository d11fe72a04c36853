"""Figures worked out by hand, or by scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    roc_curve,
)

from edge.frontend import Float64Array
from train.evaluation.metrics import (
    accuracies,
    average_cost,
    bootstrap_weights,
    confusions,
    equal_error_rate,
    expected_calibration_error,
    fit_temperature,
    interval,
    log_likelihood_ratios,
    measures,
    reliability,
    with_intervals,
)

RNG = np.random.default_rng(4)
LANGUAGES = 4


def some(cuts: int = 60, languages: int = LANGUAGES) -> tuple[Float64Array, np.ndarray]:
    """Random answers that are right more often than not."""
    wanted = RNG.integers(0, languages, cuts)
    scores = RNG.standard_normal((cuts, languages))
    scores[np.arange(cuts), wanted] += 1.0
    exponential = np.exp(scores)
    return exponential / exponential.sum(axis=1, keepdims=True), wanted


def test_as_scikit_learn_weighted_or_not() -> None:
    probabilities, wanted = some()
    weights = np.stack([np.ones(60), RNG.integers(1, 5, 60)]).astype(float)
    found = measures(probabilities, wanted, weights)
    answers = probabilities.argmax(axis=1)
    for draw, row in enumerate(weights):
        options = {"sample_weight": row}
        expected = {
            "accuracy": accuracy_score(wanted, answers, **options),
            "balanced_accuracy": balanced_accuracy_score(wanted, answers, **options),
            "macro_f1": f1_score(wanted, answers, average="macro", **options),
        }
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value), name
        matrix = confusion_matrix(wanted, answers, **options)
        np.testing.assert_allclose(confusions(probabilities, wanted, weights)[draw], matrix)


def test_languages_without_cuts_are_left_out_of_means() -> None:
    probabilities, wanted = some()
    few = np.minimum(wanted, 1)
    found = measures(probabilities, few, np.ones((1, 60)))
    answers = probabilities.argmax(axis=1)
    f1 = f1_score(few, answers, average="macro", labels=[0, 1])
    recalls = [np.mean(answers[few == k] == k) for k in (0, 1)]
    assert found["macro_f1"][0] == pytest.approx(f1)
    assert found["balanced_accuracy"][0] == pytest.approx(np.mean(recalls))


def test_one_language_has_no_trials() -> None:
    """And nothing is divided by the number of the others."""
    with np.errstate(all="raise"):
        found = measures(np.ones((5, 1)), np.zeros(5, int), np.ones((2, 5)))
    assert sorted(found) == ["accuracy", "balanced_accuracy", "ece", "macro_f1"]


def test_error_rate_is_where_the_roc_crosses() -> None:
    probabilities, wanted = some(200)
    scores = np.round(log_likelihood_ratios(probabilities), 1).ravel()  # many are the same
    targets = (wanted[:, None] == np.arange(LANGUAGES)).ravel()
    weights = np.stack([np.ones(len(scores)), RNG.integers(0, 3, len(scores))]).astype(float)
    found = equal_error_rate(scores, targets, weights)
    for draw, row in enumerate(weights):
        alarms, hits, _ = roc_curve(targets, scores, sample_weight=row, drop_intermediate=False)
        assert np.interp(found[draw], alarms, hits) == pytest.approx(1 - found[draw], abs=1e-9)


@pytest.mark.parametrize(("scores", "expected"), [([3, 2, 1, 0], 0.0), ([0, 1, 2, 3], 1.0)])
def test_error_rate_at_its_ends(scores: list[float], expected: float) -> None:
    targets = np.array([True, True, False, False])
    assert equal_error_rate(np.array(scores, float), targets, np.ones((1, 4))) == [expected]


def test_error_rate_of_no_knowledge() -> None:
    targets = np.array([True, False, False])
    assert equal_error_rate(np.zeros(3), targets, np.ones((1, 3))) == [0.5]


def test_ratios_by_hand() -> None:
    ratios = log_likelihood_ratios(np.array([[0.7, 0.2, 0.1]]))
    np.testing.assert_allclose(ratios, np.log([[0.7 / 0.15, 0.2 / 0.4, 0.1 / 0.45]]))


def test_ratios_of_certainty() -> None:
    ratios = log_likelihood_ratios(np.array([[1.0, 1e-25, 1e-25]]))
    assert ratios[0, 0] == pytest.approx(np.log(1e25), rel=1e-3)


def test_cost_by_hand() -> None:
    # Of two cuts of language 0, one is detected as 0 alone, one as 1 and 2; that of 1 as 1; that
    # of 2 as nothing.
    ratios = np.array([[1.0, -1, -1], [-1, 1, 1], [-1, 1, -1], [-1, -1, -1]])
    cost = average_cost(ratios, np.array([0, 0, 1, 2]), np.ones((1, 4)))
    misses = (1 / 2 + 0 + 1) / 3
    alarms = (0.5 + 0.5 + 0 + 0 + 0 + 0) / 6
    assert cost == pytest.approx([0.5 * misses + 0.5 * alarms])


def test_cost_counts_a_draw_as_its_cuts() -> None:
    probabilities, wanted = some()
    ratios = log_likelihood_ratios(probabilities)
    counts = RNG.integers(1, 4, 60)
    twice = np.repeat(np.arange(60), counts)
    expected = average_cost(ratios[twice], wanted[twice], np.ones((1, len(twice))))
    assert average_cost(ratios, wanted, counts[None].astype(float)) == pytest.approx(expected)


CALIBRATION = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.4, 0.6]])
WANTED = np.array([0, 1, 1, 1, 1])


def test_calibration_error_by_hand() -> None:
    # Two bins: 0.9 twice, once right; 0.6 (of the other class) three times, always right.
    expected = 2 / 5 * abs(0.5 - 0.9) + 3 / 5 * abs(1.0 - 0.6)
    assert expected_calibration_error(CALIBRATION, WANTED) == pytest.approx(expected)


def test_calibration_error_of_weighted_cuts() -> None:
    weights = np.array([[3.0, 1, 0, 1, 0]])
    expected = 4 / 5 * abs(0.75 - 0.9) + 1 / 5 * abs(1.0 - 0.6)
    assert accuracies(CALIBRATION, WANTED, weights)["ece"] == pytest.approx([expected])


def test_reliability_by_hand() -> None:
    assert reliability(CALIBRATION, WANTED) == [
        {"cuts": 3, "confidence": 0.6, "accuracy": 1.0},
        {"cuts": 2, "confidence": 0.9, "accuracy": 0.5},
    ]


def test_calibration_error_of_certainty() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert expected_calibration_error(certain, np.array([0, 1])) == 0
    assert expected_calibration_error(certain, np.array([1, 0])) == 1


@pytest.mark.parametrize(("margin", "share"), [(4.0, 0.9), (1.0, 0.8), (0.5, 0.6)])
def test_temperature_by_hand(margin: float, share: float) -> None:
    """Always the same margin, right in a share of the cases: the best posterior is that share."""
    scores = np.array([[0.0, margin]] * 100)
    wanted = (np.arange(100) < 100 * share).astype(int)
    expected = margin / np.log(share / (1 - share))
    assert fit_temperature(scores, wanted) == pytest.approx(expected, rel=0.01)


def test_temperature_has_limits() -> None:
    scores = np.array([[0.0, 3.0]] * 10)
    assert fit_temperature(scores, np.zeros(10, int)) == pytest.approx(10.0)
    scores = np.array([[0.0, 0.5]] * 99 + [[0.5, 0.0]])
    assert fit_temperature(scores, np.ones(100, int)) == pytest.approx(0.2)


def test_nothing_wrong_makes_nothing_surer() -> None:
    """Which would tell an answer of 60 % as one of 88 %."""
    scores = np.log([[0.4, 0.6], [0.6, 0.4], [0.1, 0.9]])
    assert fit_temperature(scores, np.array([1, 0, 1])) == 1.0


def test_draws_are_of_whole_speakers() -> None:
    languages = ["de"] * 5 + ["en"] * 3
    speakers = ["a", "a", "b", "b", "c", "x", "x", "x"]
    weights = bootstrap_weights(languages, speakers, seed=1, draws=200)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert np.array_equal(weights[:, 2], weights[:, 3])
    assert np.all(weights[:, [0, 2, 4]].sum(axis=1) == 3)  # three speakers a draw
    assert len({tuple(row) for row in weights[:, [0, 2, 4]]}) == 10  # all there can be


def test_cuts_are_drawn_where_there_is_one_speaker() -> None:
    weights = bootstrap_weights(["en"] * 3, ["x"] * 3, seed=1, draws=200)
    assert np.all(weights.sum(axis=1) == 3)
    assert len({tuple(row) for row in weights}) == 10


def test_draws_are_repeatable() -> None:
    arguments = ["de", "de", "en"], ["a", "b", "c"]
    first = bootstrap_weights(*arguments, seed=1, draws=20)
    assert np.array_equal(first, bootstrap_weights(*arguments, seed=1, draws=20))
    assert not np.array_equal(first, bootstrap_weights(*arguments, seed=2, draws=20))


def test_interval_of_a_mean() -> None:
    """Of 100 speakers with a cut each, 80 of them right: the binomial interval."""
    hits = np.arange(100) < 80
    weights = bootstrap_weights(["de"] * 100, [str(i) for i in range(100)], seed=3)
    low, high = interval(weights @ hits / 100)
    assert (low, high) == pytest.approx((0.72, 0.88), abs=0.011)


def test_intervals_beside_figures() -> None:
    drawn = np.arange(1001) / 1000
    assert with_intervals({"eer": np.array([0.12345])}, {"eer": drawn}) == {
        "eer": 0.1235,
        "intervals": {"eer": [0.025, 0.975]},
    }
