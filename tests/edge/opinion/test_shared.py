"""One large model for several streams: one interpreter, one budget, and to each its own answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.belief import Opinion
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import ModelFile
from edge.opinion.asking import ASKED, BUSY, UNAFFORDABLE, Asker, Question
from edge.opinion.shared import SharedAsker, SharedFile
from tests.waiting import wait_until


@pytest.fixture
def file(window_path: str, small: ModelFile) -> SharedFile:
    return SharedFile(window_path, small.labels)


@pytest.fixture
def shared(file: SharedFile) -> Iterator[SharedAsker]:
    asker = SharedAsker(file, 1.0)
    yield asker
    asker.close()


def question(speech: Float32Array, end_s: float, stream: int = 0) -> Question:
    end = round(end_s * SAMPLE_RATE_HZ)
    return Question(speech[max(0, end - 3 * SAMPLE_RATE_HZ) : end], end_s, None, stream)


def answer(desk: Asker) -> tuple[int, Opinion]:
    """What comes at a desk."""
    (only,) = wait_until(desk.take)
    return only


def ask(desk: Asker, asked: Question) -> None:
    """Ask until there is nothing else to be answered."""
    outcome = wait_until(lambda: (found := desk.ask(asked, 0.0)) != BUSY and found)
    assert outcome == ASKED


def test_a_model_is_opened_once(file: SharedFile) -> None:
    assert file.open() is file.open()


def test_each_has_the_answers_to_its_own_questions(
    shared: SharedAsker, file: SharedFile, speech: Float32Array
) -> None:
    desks = [shared.desk() for _ in range(3)]
    asked = [question(speech, 5.0 + number, stream=number) for number in range(3)]
    for desk, each in zip(desks, asked, strict=True):
        ask(desk, each)
    for desk, each in reversed(list(zip(desks, asked, strict=True))):
        stream, opinion = answer(desk)
        expected = file.open().asked(each.samples, each.end_s, None)
        assert (stream, opinion.end_s) == (each.stream, each.end_s)
        assert opinion.probabilities.tolist() == expected.probabilities.tolist()


def test_who_has_left_has_none_and_holds_up_nobody(
    shared: SharedAsker, speech: Float32Array
) -> None:
    gone, other = shared.desk(), shared.desk()
    ask(gone, question(speech, 5.0))
    gone.close()
    ask(other, question(speech, 6.0))
    assert answer(other)[1].end_s == 6.0
    assert gone.take() == []


def test_the_budget_is_for_all(shared: SharedAsker, speech: Float32Array) -> None:
    one, other = shared.desk(), shared.desk()
    ask(one, question(speech, 5.0))
    answer(one)
    one.afford(1e-9)
    assert other.ask(question(speech, 5.0), 0.0) == UNAFFORDABLE
