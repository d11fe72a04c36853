"""Accuracy over pairs of languages, worked out by hand, and as the runtime masks."""

from __future__ import annotations

import numpy as np
import pytest

from train.corpus.cuts import Cut
from train.evaluation.pairs import pairs_report
from train.evaluation.scores import Scored

LABELS = ("de", "en", "fr", "other", "nonspeech")
LANGUAGES = LABELS[:3]


def scored(rows: list[tuple[str, list[float]]]) -> Scored:
    found = [
        Cut(language, True, f"s{number}", "home", "human", 0, 1.0, (("a.wav", 0.0, 1.0),))
        for number, (language, _) in enumerate(rows)
    ]
    return Scored(found, np.log(np.array([row for _, row in rows])), LABELS[: len(rows[0][1])])


ANSWERS = scored(
    [
        ("de", [0.5, 0.1, 0.2, 0.1, 0.1]),  # right, whatever the other language is
        ("de", [0.2, 0.1, 0.5, 0.1, 0.1]),  # taken for French; given de,en it goes to `other`
        ("en", [0.1, 0.6, 0.1, 0.1, 0.1]),
        ("en", [0.1, 0.3, 0.1, 0.1, 0.4]),  # likelier than any other language, but no speech
    ]
)


def test_pairs_by_hand() -> None:
    report = pairs_report(ANSWERS, LANGUAGES)
    assert list(report["by_pair"]) == ["de,en"]  # there is no cut in French
    pair = report["by_pair"]["de,en"]
    assert (pair["cuts"], pair["accuracy"], pair["interval"]) == (4, 1.0, [1.0, 1.0])
    # `other` has 0.3 + 0.1 of the first, which is less than 0.5, and 0.6 of the second.
    assert pair["open"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert (report["accuracy"], report["open"]) == (pair["accuracy"], pair["open"])


def test_the_mean_is_over_pairs() -> None:
    french = [("fr", [0.3, 0.1, 0.2, 0.2, 0.2])] * 3  # German likelier, English less likely
    rows = [
        (cut.language, row.tolist())
        for cut, row in zip(ANSWERS.cuts, ANSWERS.probabilities, strict=True)
    ]
    report = pairs_report(scored([*rows, *french]), LANGUAGES)
    shares = {name: pair["accuracy"] for name, pair in report["by_pair"].items()}
    assert shares == {"de,en": 1.0, "de,fr": (1 / 2 + 0) / 2, "en,fr": 1.0}
    assert report["accuracy"] == pytest.approx(2.25 / 3)
    low, high = report["interval"]
    assert low < report["accuracy"] < high


def test_without_a_class_for_others() -> None:
    """What is not expected goes to the languages that are, as on the device."""
    report = pairs_report(scored([("de", [0.2, 0.1, 0.7]), ("en", [0.1, 0.2, 0.7])]), LANGUAGES)
    assert report["open"] == report["accuracy"] == 1.0


def test_two_models_together_are_not_masked_after() -> None:
    report = pairs_report(ANSWERS, LANGUAGES, together=True)
    assert report["accuracy"] == 1.0
    assert "open" not in report
    assert "open" not in report["by_pair"]["de,en"]


def test_one_language_makes_no_pair() -> None:
    assert pairs_report(ANSWERS.take([0, 1]), LANGUAGES) == {}
