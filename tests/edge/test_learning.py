"""Learning from second opinions: what is sure twice, bounded, and never the model's own answers."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge import learning
from edge.belief import Opinion
from edge.classifier import StreamingClassifier, Window
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.learning import MAX_LEARNT, Learner, faded
from edge.lessons.book import (
    MAX_LESSONS,
    RECORDING,
    SECOND_OPINION,
    Book,
    Lesson,
    read_book,
    update_book,
)
from edge.model.interpreter import Graphs, Int8Array, open_on_disk
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, with_members
from edge.outputs.settings import Settings, contradictions
from edge.service.reload import ReloadingListener

Windows = list[tuple[Window, Int8Array]]


@pytest.fixture(scope="module")
def windows(model: ModelFile, graphs: Graphs, speech: Float32Array) -> Windows:
    """Of German, say, one a second."""
    classifier = StreamingClassifier(model, graphs, [3.0])
    hops = classifier.process(speech[: 40 * SAMPLE_RATE_HZ])
    found: Windows = []
    for (window,) in hops:
        if window.end_s - window.start_s >= 3.0 - 1e-6:
            found.append((window, classifier.pooled(0)))
    return found


def opinion(model: ModelFile, end_s: float, language: str, sure: float = 0.99) -> Opinion:
    rest = (1.0 - sure) / (len(model.labels) - 1)
    probabilities = np.full(len(model.labels), rest)
    probabilities[model.labels.index(language)] = sure
    return Opinion(end_s - 3.0, end_s, 3.0, probabilities, 0.1)


def feed(learner: Learner, windows: Windows, say: Callable[[float], Opinion | None]) -> int:
    """How often something was learnt."""
    learnt = 0
    for window, pooled in windows:
        if learner.remembers(window):
            learner.remember(window, pooled)
            learnt += learner.consider(say(window.end_s)) is not None
    learner.close()
    return learnt + (learner.consider(None) is not None)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "LESSON_WINDOWS", 6)
    monkeypatch.setattr(learning, "EVERY_S", 5.0)


def pending(learner: Learner) -> dict[str, int]:
    return {language: len(windows) for language, windows in learner._pending.items()}


def test_what_is_sure_twice_becomes_lessons(
    model: ModelFile, windows: Windows, tmp_path: Path, soon: None
) -> None:
    book = tmp_path / "voices"
    learner = Learner(book, model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) >= 1
    lessons = read_book(book, model).lessons
    assert {(each.language, each.origin) for each in lessons} == {("en", SECOND_OPINION)}
    assert all(len(each.windows) <= learning.MOST_OF_ONE for each in lessons)


def test_one_language_alone_is_learnt_from(
    model: ModelFile, windows: Windows, tmp_path: Path
) -> None:
    """Most households speak no other."""
    book = tmp_path / "voices"
    learner = Learner(book, model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) == 1
    (lesson,) = read_book(book, model).lessons
    assert (lesson.language, len(lesson.windows)) == ("en", learning.MOST_OF_ONE)


def test_what_was_heard_is_counted_in_time_of_the_stream(
    model: ModelFile, windows: Windows, tmp_path: Path
) -> None:
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    feed(learner, windows, lambda end_s: None)
    heard_s = windows[-1][0].end_s - windows[0][0].end_s
    assert learner._heard_s == pytest.approx(heard_s, abs=1.0)


def test_nothing_is_learnt_without_opinions(
    model: ModelFile, windows: Windows, tmp_path: Path, soon: None
) -> None:
    """The compact model's answers alone never become lessons, however sure."""
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: None) == 0
    assert pending(learner) == {}
    assert not (tmp_path / "voices").exists()


@pytest.mark.parametrize(
    "say",
    [
        lambda model, n, end_s: opinion(model, end_s, "en", 0.9),
        lambda model, n, end_s: opinion(model, end_s, "other"),
        lambda model, n, end_s: opinion(model, end_s, "nonspeech"),
        lambda model, n, end_s: opinion(model, end_s, ("en", "de")[n % 2]),
        lambda model, n, end_s: opinion(model, end_s - 60.0, "en"),
    ],
    ids=["unsure", "other", "nonspeech", "of two minds", "about what is forgotten"],
)
def test_what_teaches_nothing(
    model: ModelFile,
    windows: Windows,
    tmp_path: Path,
    soon: None,
    say: Callable[[ModelFile, int, float], Opinion],
) -> None:
    numbers = iter(range(1_000))
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: say(model, next(numbers), end_s)) == 0
    assert sum(pending(learner).values()) == 0
    assert not (tmp_path / "voices").exists()


def test_a_teacher_that_is_wrong_a_fifth_of_the_time(
    model: ModelFile, windows: Windows, tmp_path: Path
) -> None:
    """Being asked twice, it teaches less than half as much that is wrong."""
    rng = np.random.default_rng(2)
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    taught = {"en": 0, "wrong": 0}

    def say(end_s: float) -> Opinion:
        wrong = rng.random() < 0.2
        language = str(rng.choice([x for x in model.languages if x != "en"])) if wrong else "en"
        return opinion(model, end_s, language)

    for _ in range(8):
        learner.reset()
        feed(learner, windows, say)
        for language, count in pending(learner).items():
            taught["en" if language == "en" else "wrong"] += count
        learner._pending = {}
    assert taught["en"] > 20
    assert taught["wrong"] / sum(taught.values()) < 0.1


def test_old_ones_fade_and_what_people_taught_stays(model: ModelFile) -> None:
    book = Book.of_model(model)
    values = np.zeros((50, book.channels), np.int8)
    book = book.with_lesson(Lesson("nl", 0.0, RECORDING, values))
    for number in range(20):
        book = book.with_lesson(Lesson("de", number, SECOND_OPINION, values))
        book = book.with_lesson(Lesson("fr", number, SECOND_OPINION, values[:5]))
    after = faded(book, 24)
    learnt = [each for each in after.lessons if each.origin == SECOND_OPINION]
    assert sum(len(each.windows) for each in learnt) + 24 <= MAX_LEARNT
    assert after.lessons[0].language == "nl"
    assert sum(each.language == "fr" for each in learnt) == 20
    assert learnt[-2].taught_s == 19.0


def test_no_room_is_made_of_what_people_taught(model: ModelFile) -> None:
    book = Book.of_model(model)
    values = np.zeros((100, book.channels), np.int8)
    for number in range(19):
        book = book.with_lesson(Lesson("nl", number, RECORDING, values))
    for number in range(2):
        book = book.with_lesson(Lesson("de", number, SECOND_OPINION, values[:50]))
    after = faded(book, 24)
    after = after.with_lesson(Lesson("fr", 99.0, SECOND_OPINION, values[:24]))
    assert sum(len(each.windows) for each in after.lessons if each.origin == RECORDING) == 1_900
    full = Book.of_model(model)
    for number in range(20):
        full = full.with_lesson(Lesson("nl", number, RECORDING, values))
    with pytest.raises(EdgelidError, match="full of what people taught"):
        faded(full, 24)
    many = Book.of_model(model)
    for number in range(MAX_LESSONS):
        many = many.with_lesson(Lesson("nl", number, RECORDING, values[:1]))
    with pytest.raises(EdgelidError, match="full of what people taught"):
        faded(many, 2)


def test_labels_that_no_book_takes_are_not_learnt(
    model: ModelFile, windows: Windows, tmp_path: Path, soon: None
) -> None:
    labels = ["zh-CN" if label == "zh" else label for label in model.labels]
    learner = Learner(tmp_path / "voices", model, labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "zh")) == 0
    assert pending(learner) == {}
    assert not (tmp_path / "voices").exists()


def test_a_lesson_that_costs_too_much_is_dropped(
    model: ModelFile, windows: Windows, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.lessons.adapting.MAX_COST", -1.0)
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "pt")) == 0
    assert not (tmp_path / "voices").exists()


def test_it_learns_with_a_model_whose_graph_is_on_disk(
    windows: Windows, tmp_path: Path, soon: None
) -> None:
    """As that of a large one is."""
    model, _ = open_on_disk(DEFAULT_MODEL)
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) >= 1


def test_nothing_is_learnt_with_another_model_in_the_place_of_the_one_that_is_heard(
    model: ModelFile,
    windows: Windows,
    tmp_path: Path,
    soon: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(with_members(DEFAULT_MODEL.read_bytes(), {"more": b""}))
    learner = Learner(tmp_path / "voices", replace(model, path=path), model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) == 0
    assert caplog.messages[0].endswith("has changed meanwhile: start again.")


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (EdgelidError("the disk is full."), "the disk is full."),
        (MemoryError(), "MemoryError()"),
        (ZeroDivisionError("division by zero"), "division by zero"),
    ],
)
def test_whatever_learning_fails_of_is_told(
    model: ModelFile,
    windows: Windows,
    tmp_path: Path,
    soon: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    words: str,
) -> None:
    def broken(*arguments: object) -> None:
        raise failure

    monkeypatch.setattr(learning, "adapt", broken)
    learner = Learner(tmp_path / "voices", model, model.labels, at_once=True)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) == 0
    assert caplog.messages[0] == f"nothing is learnt: {words}"


def test_it_learns_beside_the_audio(
    model: ModelFile, windows: Windows, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "LEAVE_S", 120.0)  # a busy machine is no fault
    learner = Learner(tmp_path / "voices", model, model.labels)
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) >= 1


def test_it_needs_a_teacher_and_a_book() -> None:
    assert not [*contradictions(Settings())]
    for settings in (Settings(learn=True), Settings(learn=True, lessons="voices")):
        assert [*contradictions(settings)] == [
            "learn needs a second opinion to learn from, and lessons to write to: give "
            "second_opinion and lessons (--second-opinion and --lessons)."
        ]


def test_listening_and_learning(
    speech: Float32Array, tmp_path: Path, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with the large model that comes along; without, nothing is written."""
    monkeypatch.setattr("edge.opinion.moments.CONFIRM_S", 2.0)
    book = tmp_path / "voices"
    settings = Settings(
        input="file.wav", second_opinion="large", second_opinion_share=1.0, lessons=str(book)
    )
    with pytest.raises(EdgelidError, match="does not exist"):
        ReloadingListener(settings)
    with contextlib.closing(ReloadingListener(replace(settings, learn=True))) as listener:
        heard = [*listener.hear(np.split(speech, 80), lambda _: None)]
        model = listener.model
    assert heard[-1].current is not None
    lessons = read_book(book, model).lessons
    assert lessons and {each.origin for each in lessons} == {SECOND_OPINION}


def test_another_language_that_people_taught_meanwhile_is_not_taken_up(
    model: ModelFile, windows: Windows, tmp_path: Path, soon: None
) -> None:
    book = tmp_path / "voices"
    learner = Learner(book, model, model.labels, at_once=True)
    lesson = Lesson("gsw", 0.0, RECORDING, np.stack([pooled for _, pooled in windows[:12]]))
    update_book(book, model, lambda known: known.with_lesson(lesson))
    assert feed(learner, windows, lambda end_s: opinion(model, end_s, "en")) == 0
    assert len(read_book(book, model).lessons) > 1
    assert learner.written is None


def test_a_reload_keeps_what_has_learnt_by_itself_and_takes_up_what_people_taught(
    model: ModelFile,
    windows: Windows,
    speech: Float32Array,
    tmp_path: Path,
    own_second: Path,
) -> None:
    book = tmp_path / "voices"
    settings = Settings(
        input="file.wav", second_opinion=str(own_second), lessons=str(book), learn=True
    )
    rows = [pooled for _, pooled in windows[:12]]
    listener = ReloadingListener(settings)

    def learn() -> None:
        learner = listener._listener._learner  # type: ignore[attr-defined]
        learner._pending = {"en": rows}
        learner._learn()

    def teach() -> None:
        lesson = Lesson("de", 0.0, RECORDING, np.stack(rows))
        update_book(book, model, lambda known: known.with_lesson(lesson))

    def reload() -> None:
        listener.reload(lambda: settings)

    steps = {1: learn, 2: reload, 4: teach, 5: reload, 7: reload}
    listening = []

    def blocks() -> Iterator[Float32Array]:
        for second, block in enumerate(np.split(speech[: 9 * SAMPLE_RATE_HZ], 9)):
            steps.get(second, lambda: None)()
            yield block
            listening.append(listener._listener)

    with contextlib.closing(listener):
        for _ in listener.hear(blocks(), lambda _: None):
            pass
    assert len(read_book(book, model).lessons) >= 2
    assert listening[0] is listening[4]
    assert len(set(listening)) == 2


def test_every_start_says_so(
    edgelid: Callable[..., subprocess.CompletedProcess[str]], sample: Path, tmp_path: Path
) -> None:
    book = tmp_path / "voices"
    words = ("listen", "--json", "--input", sample, "--learn", "--lessons", book)
    done = edgelid(*words, "--second-opinion", "large")
    assert done.returncode == 0, done.stderr
    assert "learning from second opinions: statistics of what is heard go to" in done.stderr
    assert all(json.loads(line) for line in done.stdout.splitlines())
    done = edgelid(*words)
    assert done.returncode == 78
    assert "learn needs a second opinion" in done.stderr
