"""The tables of the model card are those of its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from train.evaluation.model_card import main, tables

ROOT = Path(__file__).parents[3]
NAMES = ("edgelid-9", "edgelid-9-large", "edgelid-9-xlarge")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_report_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / f"docs/results/{name}-test.json")]) == 0
    starts = ("| ", "- ") if name == "edgelid-9" else "| "  # the others tell the rest in sentences
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith(starts)]
    assert len(rows) > 20
    card = (ROOT / f"edge/models/{name}.md").read_text().splitlines()
    assert [row for row in rows if row not in card] == []


def test_what_newer_reports_have() -> None:
    report = json.loads((ROOT / "docs/results/edgelid-9-test.json").read_text())
    for entry in report["durations"].values():
        del entry["pairs"]  # as in a report of before
    before = list(tables(report))
    # All cuts of 3 s again as three languages' pairs, as synthetic speech, and by a large model.
    report["condition_duration_s"] = 3.0
    entry = report["durations"]["3"]
    by_pair = {"de,en": 0.91, "de,fr": 0.75, "en,fr": 0.83}
    entry["pairs"] = {
        "accuracy": 0.83,
        "interval": [0.8, 0.85],
        "open": 0.6,
        "open_interval": [0.5, 0.7],
        "by_pair": {name: {"accuracy": share} for name, share in by_pair.items()},
    }
    entry["synthetic"] = entry["languages"] | {"cuts": 12, "balanced_accuracy": 0.995}
    report["ceiling"] = {
        "model": "large",
        "durations": {"3": {"languages": entry["languages"], "pairs": {"accuracy": 0.97}}},
        "open_set": report["open_set"],
    }
    found = list(tables(report))
    assert [line for line in before if line not in found] == []
    for line in (
        "| 3 s | 83.0 % (80.0 to 85.0) | 60.0 % (50.0 to 70.0) | de,fr: 75.0 % |",
        "| pairs, 3 s | en | fr |",
        "| de | 91 % | 75 % |",
        "| en |  | 83 % |",
    ):
        assert line in found
    assert any(line.startswith("| 3 s |") and "99.5 %" in line for line in found)
    assert any(line.endswith("| 83.0 % | 97.0 % |") for line in found)
    assert any(line.startswith("- large alone, at ") for line in found)


def test_what_a_report_may_lack() -> None:
    report = json.loads((ROOT / "docs/results/edgelid-9-test.json").read_text())
    whole = list(tables(report))
    del report["open_set"], report["noise"]
    longest = list(report["durations"])[-1]
    del report["durations"][longest]["languages"]["by_language"]["it"]
    found = list(tables(report))
    lacking = [line for line in whole if line not in found]
    # Three of strangers and as many of `edgelid classify`, one of noise, one of languages.
    assert len(lacking) == 8
    (row,) = [line for line in found if line not in whole]
    assert row.startswith(f"| {longest} s | ") and row.count(" – ") == 1


def test_languages_with_short_speech_alone() -> None:
    """Each has a column, though the first duration has no cut of it."""
    report = json.loads((ROOT / "docs/results/edgelid-9-test.json").read_text())
    whole = list(tables(report))
    report["durations"] = dict(reversed(report["durations"].items()))
    longest = next(iter(report["durations"].values()))["languages"]
    longest["languages"].remove("it")
    del longest["by_language"]["it"]
    head = "| speech | de | en | es | fr | it | nl | pt | ru | zh |"
    assert head in whole and head in list(tables(report))


def test_the_yardstick_has_its_own_name() -> None:
    report = json.loads((ROOT / "docs/results/edgelid-9-test.json").read_text())
    told = report["durations"]["3"]["languages"]
    report["yardstick"] = "Oracle, large"
    report["durations"]["3"]["yardstick"] = {"cuts": 9, "model": told, "yardstick": told}
    found = list(tables(report))
    assert "| speech | cuts | this model | Oracle |" in found
    assert any(line.startswith("| 3 s, Oracle | ") for line in found)


def test_one_language() -> None:
    report = json.loads((ROOT / "docs/results/edgelid-9-test.json").read_text())
    whole = list(tables(report))
    for entry in report["durations"].values():
        del entry["languages"]["cavg"], entry["languages"]["eer"]
    changed = [line for line in tables(report) if line not in whole]
    assert len(changed) == len(report["durations"])
    assert all(line.count("| – | – |") == 1 for line in changed)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"durations": {"3": 1}}'])
def test_what_is_no_report(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    assert main([str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is no report of" in captured.err
    assert captured.err.count("\n") == 1


def test_a_report_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "cannot be read" in capsys.readouterr().err
