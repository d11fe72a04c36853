"""The tables of the model card are those of its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from train.evaluation.model_card import main

ROOT = Path(__file__).parents[3]
NAMES = ("edgelid-9", "edgelid-9-large")


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_report_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / f"docs/results/{name}-test.json")]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    card = (ROOT / f"edge/models/{name}.md").read_text().splitlines()
    assert [row for row in rows if row not in card] == []


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
