"""Figures of a few answers, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from train.corpus.cuts import Cut
from train.evaluation.open_set import detection_curve
from train.evaluation.scores import (
    Scored,
    among,
    compare,
    difference,
    draws_of,
    languages_report,
    open_report,
    trial_curve,
)
from train.evaluation.yardstick import Yardstick, cut_key

LABELS = ("de", "en", "other", "nonspeech")


def cut(language: str, source: str = "home", speaker: str = "anna", item: int = 0) -> Cut:
    return Cut(language, True, speaker, source, "human", item, 1.0, (("a.wav", 0.0, 1.0),))


def scored(probabilities: list[list[float]], found: list[Cut]) -> Scored:
    return Scored(found, np.log(np.array(probabilities)), LABELS[: len(probabilities[0])])


CUTS = [
    cut("de"),
    cut("de", speaker="bert"),
    cut("de", source="field", speaker="carl"),
    cut("en", source="field", speaker="dora"),
]


def test_languages_by_hand() -> None:
    report = languages_report(scored([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]], CUTS))
    assert report["cuts"] == report["speakers"] == 4
    assert report["languages"] == ["de", "en"]
    assert report["accuracy"] == 0.75
    assert report["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-4)
    assert report["macro_f1"] == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (1 + 2)) / 2, abs=1e-4)
    assert report["ece"] == pytest.approx((0.1 + 0.4 - 0.9 + 0.3) / 4 + 2 * 0.9 / 4, abs=0.3)
    assert report["confusion"] == {"de": {"de": 2, "en": 1}, "en": {"en": 1}}
    german = report["by_language"]["de"]
    assert (german["cuts"], german["speakers"], german["accuracy"]) == (3, 3, 0.6667)
    assert german["interval"] == [0.0, 1.0]
    assert report["intervals"]["balanced_accuracy"] == [0.5, 1.0]
    assert {name: row["cuts"] for name, row in report["by_source"].items()} == {
        "field": 2,
        "home": 2,
    }
    assert report["by_source"]["field"]["balanced_accuracy"] == 0.5
    assert report["by_source"]["home"]["languages"] == ["de"]
    assert sum(bin_["cuts"] for bin_ in report["reliability"]) == 4


def test_open_by_hand() -> None:
    probabilities = [[0.7, 0.1, 0.1, 0.1], [0.6, 0.2, 0.1, 0.1], [0.1, 0.7, 0.1, 0.1]]
    report = open_report(scored([*probabilities, [0.1, 0.1, 0.1, 0.7]], CUTS))
    assert report["accuracy"] == 0.5
    assert report["balanced_accuracy"] == pytest.approx(1 / 3, abs=1e-4)
    assert report["confusion"] == {"de": {"de": 2, "en": 1}, "en": {"nonspeech": 1}}


def test_speakers_of_two_sources_are_two() -> None:
    """Keys of speakers are unique within a source only."""
    found = [cut("de", source="home"), cut("de", source="home"), cut("de", source="field")]
    weights = draws_of(found)
    assert np.array_equal(weights[:, 0], weights[:, 1])
    assert not np.array_equal(weights[:, 0], weights[:, 2])


def test_among_renormalises() -> None:
    some = among(scored([[0.2, 0.3, 0.4, 0.1]], CUTS[:1]), ["de", "en"])
    assert some.labels == ("de", "en")
    np.testing.assert_allclose(np.exp(some.log_probabilities), [[0.4, 0.6]], atol=1e-12)


def test_compared_on_the_same_cuts(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    ours = scored([[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.3, 0.7]], CUTS)
    # In another order of languages, one of which is not asked for.
    answers = {CUTS[1]: [0.05, 0.15, 0.8], CUTS[3]: [0.7, 0.1, 0.2]}
    scores = {cut_key(some, tmp_path): list(np.log(row)) for some, row in answers.items()}
    both = compare(ours, Yardstick("other", ("en", "de", "fr"), scores, tmp_path))
    assert both is not None
    assert both["cuts"] == 2
    assert both["model"]["confusion"] == {"de": {"en": 1}, "en": {"en": 1}}
    assert both["yardstick"]["confusion"] == {"de": {"de": 1}, "en": {"en": 1}}
    assert [row["confidence"] for row in both["yardstick"]["reliability"]] == [0.75, 0.875]
    elsewhere = Yardstick("other", ("en", "de"), {"elsewhere": [0.0, 0.0]}, tmp_path)
    assert compare(ours, elsewhere) is None
    with pytest.raises(EdgelidError, match="does not know de"):
        compare(ours, Yardstick("other", ("en", "fr", "it"), scores, tmp_path))


def test_difference_on_the_same_draws() -> None:
    better = scored([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.3, 0.7]], CUTS)
    worse = scored([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.7, 0.3]], CUTS)
    # English is lost in every draw, whatever is drawn of German.
    assert difference(worse, better) == {"difference": -0.5, "interval": [-0.5, -0.5]}
    assert difference(better, better) == {"difference": 0.0, "interval": [0.0, 0.0]}


def test_trials_of_all_languages() -> None:
    few = scored([[0.8, 0.2], [0.4, 0.6]], CUTS[:2])
    hits, others = np.log([4, 2 / 3]), np.log([1 / 4, 3 / 2])
    assert trial_curve(few) == detection_curve(hits, others)
