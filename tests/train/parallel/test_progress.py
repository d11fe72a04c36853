"""Bars are for people who look."""

from __future__ import annotations

import io

import pytest

from train.parallel.progress import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "is_shown", "is_drawn"),
    [(Terminal(), True, True), (Terminal(), False, False), (io.StringIO(), True, False)],
    ids=["terminal", "unwanted", "file"],
)
def test_a_bar_is_for_a_terminal(stream: io.StringIO, is_shown: bool, is_drawn: bool) -> None:
    assert list(bar([1, 2], "counting", is_shown=is_shown, file=stream)) == [1, 2]
    assert ("counting: 100%" in stream.getvalue()) == is_drawn
    with bar(None, "adding", 4, is_shown=is_shown, file=stream) as progress:
        progress.update(4)
    assert ("adding: 100%" in stream.getvalue()) == is_drawn
