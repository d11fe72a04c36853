"""What page and terminal are told of lessons, and that without them it is nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge.lessons.adapting import Brought
from edge.lessons.book import RECORDING, Book, Lesson
from edge.lessons.telling import line_of, told
from edge.model.modelfile import ModelFile
from edge.outputs.monitor import Monitor
from tests.edge.outputs.web.conftest import serving
from tests.edge.outputs.web.test_second_opinion import assert_described


def test_with_lessons(model: ModelFile, tmp_path: Path) -> None:
    empty = Book.of_model(model)
    windows = np.zeros((7, empty.channels), np.int8)
    book = empty.with_lesson(Lesson("nl", 1_700_000_000.0, RECORDING, windows))
    facts = told(tmp_path / "secret-name", book, Brought(0.2, 0.205, 0.4, 0.1, 0.85))
    monitor = Monitor()
    monitor.taught = lambda: facts
    with serving(monitor) as running:
        state = running.ask("/api/v1/state").json
        assert running.ask("/api/v1/state", method="POST").status in (404, 405)
    assert_described(state)
    assert state["lessons"] == {
        "lessons": 1,
        "windows": 7,
        "languages": {"nl": 7},
        "taught": "2023-11-14T22:13:20+00:00",
        "errors": {"taught": [0.4, 0.1], "others": [0.2, 0.205]},
        "strength": 0.85,
    }
    assert line_of(facts) == "taught nl, 2023-11-14: errors 40% to 10%"
    assert line_of(told(tmp_path, empty)) == "nothing taught"


def test_without() -> None:
    with serving(Monitor()) as running:
        state = running.ask("/api/v1/state").json
    assert_described(state)
    assert "lessons" not in state
