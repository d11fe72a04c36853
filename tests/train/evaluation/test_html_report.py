"""The page holds what the report says, and needs nothing else; the plots show the figures."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from edge.errors import EdgelidError
from train.corpus.cuts import Cut
from train.evaluation import plots
from train.evaluation.html_report import page, write_html
from train.evaluation.open_set import detection_curve, noise_report, operating_point
from train.evaluation.pairs import pairs_report
from train.evaluation.report import spoken
from train.evaluation.scores import (
    Scored,
    among,
    compare,
    difference,
    languages_report,
    open_report,
)
from train.evaluation.yardstick import Yardstick, cut_key

LABELS = ("de", "en", "other", "nonspeech")
VOID = {"meta", "img", "br"}


def answers(seed: int) -> Scored:
    """Answers for eight speakers of two sources, of which most are right."""
    rng = np.random.default_rng(seed)
    cuts = [
        Cut(language, True, f"s{n}", f"{n % 2}-source", "human", 0, 3.0, ((f"{n}.wav", 0.0, 3.0),))
        for language in ("de", "en")
        for n in range(8)
    ]
    scores = rng.standard_normal((16, 4))
    scores[np.arange(16), [LABELS.index(cut.language) for cut in cuts]] += 1.5
    return Scored(cuts, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True)), LABELS)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    corpus = tmp_path_factory.mktemp("corpus")
    everything, noisy = answers(1), answers(2)
    closed, worse = (among(some, LABELS[:2]) for some in (everything, noisy))
    for cut in closed.cuts:
        (corpus / cut.pieces[0][0]).touch()
    scores = {cut_key(cut, corpus): [-0.1, -2.3] for cut in closed.cuts[::2]}
    oracle = Yardstick("Oracle, large", ("de", "en"), scores, corpus)
    durations = {
        "1": {
            "languages": languages_report(worse),
            "open": open_report(noisy),
            "pairs": pairs_report(noisy, LABELS[:2]),
            "synthetic": languages_report(among(answers(3), LABELS[:2])),
        },
        "3": {
            "languages": languages_report(closed),
            "open": open_report(everything),
            "pairs": pairs_report(everything, LABELS[:2]),
            "synthetic": languages_report(among(answers(4), LABELS[:2])),
            "yardstick": compare(closed, oracle),
        },
    }
    known = everything.probabilities[:, :2].max(axis=1)
    weights = np.ones((5, 16))
    point = operating_point(0.5, known, 1 - known, weights, weights)
    strangers = {
        "known": 16,
        "strangers": 16,
        "at_decoder_confidence": point,
        "at_10_percent_rejected": point,
        "known_at_10_percent_rejected": point | {"threshold": 0.875},
    }
    return {
        "model": "little <one>",
        "sha256": "ab" * 32,
        "bytes": 123456,
        "labels": list(LABELS),
        "split": "test",
        "manifest_sha256": "cd" * 32,
        "seed": 0,
        "per_language": 8,
        "bootstrap_draws": 1000,
        "yardstick": "Oracle, large",
        "condition_duration_s": 3.0,
        "durations": durations,
        "conditions": {
            "clean": {
                "title": "clean",
                **durations["3"]["languages"],
                "from_clean": difference(closed, closed),
                "open": durations["3"]["open"],
            },
            "noise-5": {
                "title": "noise, 5 dB",
                **durations["1"]["languages"],
                "from_clean": difference(worse, closed),
                "open": durations["1"]["open"],
                "recordings": {
                    **durations["1"]["languages"],
                    "from_clean": difference(worse, closed),
                    "open": durations["1"]["open"],
                },
            },
        },
        "detection_curve": detection_curve(known, 1 - known),
        "ceiling": {
            "model": "large & slow",
            "durations": {
                duration: {"languages": languages_report(among(some, LABELS[:2]))}
                for duration, some in (("1", answers(5)), ("3", answers(6)))
            },
            "open_set": {"at_10_percent_rejected": point},
        },
        "held_out": {"de": ["1-source"]},
        "open_set": {
            **strangers,
            "recordings": strangers,
            "equal_error_rate": 0.25,
            "by_language": {"sv": {"cuts": 16, "accepted": 0.5}},
            "curve": detection_curve(known, 1 - known),
        },
        "noise": noise_report(known, {"rain": 1 - known}, 0.5),
        "streams": {
            "streams": 2,
            "minutes": 10.25,
            "decoder": {"window_s": 3.0, "stay_s": 30.0, "confidence": 0.6},
            "changes": 26.0,
            "median_delay_s": 1.75,
            "p95_delay_s": 9.5,
            "missed": 0.125,
            "false_changes_per_hour": 14.5,
            "error_rate": 0.375,
            "unknown_share": 0.0625,
            "median_border_error_s": 0.25,
            "p95_border_error_s": 5.5,
            "recordings": {
                "error_rate": 0.34375,
                "unknown_share": 0.078125,
                "median_border_error_s": 0.125,
            },
        },
        "streams_of_two": {
            "streams": 2,
            "minutes": 30.5,
            "decoder": {"window_s": 3.0, "stay_s": 30.0, "confidence": 0.6},
            "changes": 77.0,
            "median_delay_s": 1.25,
            "p95_delay_s": 8.5,
            "missed": 0.0625,
            "false_changes_per_hour": 6.5,
            "error_rate": 0.1875,
            "unknown_share": 0.03125,
            "median_border_error_s": None,
            "p95_border_error_s": None,
        },
    }


@pytest.fixture(scope="module")
def text(report: dict[str, Any]) -> str:
    return page(report)


class Page(HTMLParser):
    """Checks that elements close in order, and collects text and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.cells: list[int] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not {"href", "onload", "srcset"} & {name for name, _ in attrs}
        assert tag not in ("script", "link", "iframe")
        if tag == "img":
            self.images.append(dict(attrs))
        if tag == "tr":
            self.cells.append(0)
        if tag in ("td", "th"):
            self.cells[-1] += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "table":
            assert len(set(self.cells)) == 1, "every row has a cell a column"
            self.cells.clear()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_a_page_of_its_own(text: str) -> None:
    found = Page(text)
    assert found.open == []
    assert not re.search(r"https?://|@import|url\(", text.replace("http://www.w3.org", ""))
    assert len(found.images) == 6
    for image in found.images:
        assert image["alt"]
        kind, _, data = str(image["src"]).partition(",")
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")


def test_what_it_says(report: dict[str, Any], text: str) -> None:
    said = " ".join(Page(text).text)
    row = report["durations"]["3"]["languages"]
    for words in (
        "little <one>",
        "ab" * 32,
        "cd" * 32,
        "at most 8 cuts",
        f"{row['balanced_accuracy']:.1%}",
        f"{row['cavg']:.3f}",
        "on the 8 common cuts of 3 s",
        "Oracle",
        "noise, 5 dB",
        "0-source",
        "Pairs of languages",
        "the right one is the likelier",
        "Speech that machines made",
        f"{report['durations']['3']['synthetic']['balanced_accuracy']:.1%}",
        "large & slow on the same cuts",
        f"{report['ceiling']['durations']['3']['languages']['balanced_accuracy']:.1%}",
        "the development sources",
        "rain",
        "sv",
        "the same, all languages together",
        "0.88",
        "1.8 s",
        "12.5%",
        "37.5%",
        "14.5",
        "two languages each",
        "edgelid classify: the decoder's confidence",
        "The same as edgelid classify hears it, several times.",
        "6.5",
        "0.25 s",
        "34.4% in error, 7.8% unknown, begins and ends 0.12 s off in the median",
    ):
        assert words in said, words


def test_what_was_not_measured_is_left_out(report: dict[str, Any]) -> None:
    left_out = ("open_set", "noise", "streams", "streams_of_two", "ceiling", "held_out")
    less = {k: v for k, v in report.items() if k not in left_out}
    less["conditions"] = {"clean": report["conditions"]["clean"]}
    less["per_language"] = less["yardstick"] = None
    less["durations"] = {"3": {k: report["durations"]["3"][k] for k in ("languages", "open")}}
    found = Page(page(less))
    text = " ".join(found.text)
    for words in (
        "Oracle", "noise, 5 dB", "What it does not know", "conversation", "sample", "Pairs",
        "machines", "by itself", "development",
    ):  # fmt: skip
        assert words not in text
    assert len(found.images) == 4


def test_one_language(report: dict[str, Any]) -> None:
    """There is no other to tell it from: no cost, no error rate, no curve of these."""
    left_out = ("open_set", "noise", "detection_curve", "ceiling")
    less = {k: v for k, v in report.items() if k not in left_out}
    some = answers(1)
    german = some.take([i for i, cut in enumerate(some.cuts) if cut.language == "de"])
    closed = among(german, ["de"])
    told = {"languages": languages_report(closed), "open": open_report(german)}
    less["durations"] = {"3": told}
    less["conditions"] = {
        name: {**row, **told["languages"], "open": told["open"]}
        for name, row in report["conditions"].items()
    }
    for row in less["conditions"].values():
        del row["cavg"], row["eer"]
    found = Page(page(less))
    text = " ".join(found.text)
    # A duration, two conditions and two sources have two each.
    assert [part.strip() for part in found.text].count("–") == 10
    assert "nan" not in text.lower()
    assert "Detection-error" not in text


def test_a_language_with_short_speech_alone(report: dict[str, Any]) -> None:
    """It has a row, which says that nothing is known of longer speech."""
    some = answers(1)
    german = some.take([i for i, cut in enumerate(some.cuts) if cut.language == "de"])
    closed = languages_report(among(german, LABELS[:2]))
    told = {"languages": closed, "open": open_report(german)}
    less = {k: v for k, v in report.items() if k not in ("open_set", "noise", "ceiling")}
    less["durations"] = {"1": report["durations"]["1"], "3": told}
    short = report["durations"]["1"]["languages"]["by_language"]["en"]
    cells = ("en", "–", "–", f"{short['accuracy']:.1%}", "–")
    assert "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>" in page(less)
    assert spoken({"durations": {"1": told, "3": report["durations"]["1"]}}) == ["de", "en"]


def test_written_the_same_every_time(report: dict[str, Any], text: str, tmp_path: Path) -> None:
    write_html(tmp_path / "report.html", report)
    assert (tmp_path / "report.html").read_text("utf-8") == text


def test_written_whole_or_not_at_all(
    report: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.evaluation.html_report.page", lambda _: "page")
    with pytest.raises(EdgelidError, match="cannot write"):
        write_html(tmp_path / "none" / "report.html", report)


@pytest.mark.parametrize("name", ["edgelid-9", "edgelid-9-large", "edgelid-9-xlarge"])
def test_what_is_published_is_of_its_report(name: str) -> None:
    """But for the plots, whose bytes are those of one version of matplotlib."""
    results = Path(__file__).parents[3] / "docs/results"
    made = page(json.loads((results / f"{name}-test.json").read_text()))
    published = (results / f"{name}-test.html").read_text("utf-8")
    assert re.sub(' src="[^"]*"', "", published) == re.sub(' src="[^"]*"', "", made)


@pytest.fixture
def axes() -> Axes:
    return Figure().add_subplot()


def test_durations_are_plotted(report: dict[str, Any], axes: Axes) -> None:
    plots.accuracy_by_duration(report)(axes)
    ours, theirs = (np.array(container[0].get_xydata()) for container in axes.containers)
    expected = [
        [float(key), entry["languages"]["balanced_accuracy"] * 100]
        for key, entry in report["durations"].items()
    ]
    np.testing.assert_allclose(ours, expected)
    both = report["durations"]["3"]["yardstick"]["yardstick"]
    np.testing.assert_allclose(theirs, [[3, both["balanced_accuracy"] * 100]])


def test_noise_is_plotted(report: dict[str, Any], axes: Axes) -> None:
    plots.accuracy_by_noise(report["conditions"], {"noise-5": 5.0})(axes)
    values = [row["balanced_accuracy"] * 100 for row in report["conditions"].values()]
    np.testing.assert_allclose(axes.containers[0][0].get_ydata(), values)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["clean", "5 dB"]


def test_confusion_is_plotted(axes: Axes) -> None:
    plots.confusion({"de": {"de": 3, "other": 1}, "en": {"en": 2}}, list(LABELS))(axes)
    shown = axes.images[0].get_array()
    np.testing.assert_allclose(shown, [[75, 0, 25], [0, 100, 0]])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["de", "en", "other"]


def test_trade_off_is_plotted(axes: Axes) -> None:
    plots.detection_trade_off({"a": [[0.1, 0.0, 0.9], [0.5, 0.2, 0.4]]}, {"here": (0.2, 0.4)})(axes)
    np.testing.assert_allclose(axes.lines[0].get_xdata()[1], norm.ppf(0.4))
    np.testing.assert_allclose(axes.lines[0].get_ydata()[1], norm.ppf(0.2))
    assert np.isfinite(axes.lines[0].get_xydata()).all()
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [[norm.ppf(0.4), norm.ppf(0.2)]])
