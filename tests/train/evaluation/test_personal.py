"""Households that teach: what is counted, on speech of the sample that one person each speaks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from edge.lessons.correction import Correction
from edge.model.interpreter import open_graphs
from edge.model.modelfile import DEFAULT_MODEL, read_model
from train.corpus.manifest import Clip
from train.evaluation import personal
from train.evaluation.conditions import CLEAN, Sounds
from train.evaluation.personal import Evaluation, Judge, Personal, _mislabelled, targets
from train.evaluation.personal_report import curves, page, table
from train.evaluation.voices import Hearing, Voice, Windows, hear, speakers_of

SPOKEN_S = {"en": (1, 9), "es": (10, 18), "fr": (20, 28), "zh": (29, 37)}
TAUGHT_S = 10.0


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    """Of four voices that say what they say twice."""
    with FileSource(DEFAULT_MODEL.parents[1] / "samples" / "languages.opus") as source:
        speech = np.concatenate([*source.samples()])
    made = object.__new__(Evaluation)
    made._settings = Personal(DEFAULT_MODEL, Path(), households=2)
    made.model = read_model(DEFAULT_MODEL)
    made._graphs = open_graphs(made.model)
    hearing = Hearing(made.model, made._graphs, Sounds((), (), ()))
    made.voices = []
    for language, (first, last) in SPOKEN_S.items():
        samples = np.tile(speech[first * SAMPLE_RATE_HZ : last * SAMPLE_RATE_HZ], 2)
        clip = Clip("", language, "test", True, language, "sample", "tts", 16.0, "", "")
        made.voices.append(hearing.voice(language, clip, samples, [CLEAN]))
    made._by_taught = {TAUGHT_S: made.voices}
    return made


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TAUGHT_S", (TAUGHT_S,)), ("CONDITIONS", (CLEAN,)), ("ROUNDS", 2)):
        monkeypatch.setattr(personal, name, value)


def test_windows_that_do_not_overlap(evaluation: Evaluation) -> None:
    windows = evaluation.voices[0].heard[CLEAN, 3.0]
    apart = windows.apart(3.0)
    assert len(windows.start_s) > 2 * len(apart.start_s) > 2
    assert (apart.start_s[1:] >= apart.end_s[:-1] - 1e-6).all()


def test_what_was_taught_is_not_judged(evaluation: Evaluation) -> None:
    voice = evaluation.voices[0]
    windows = voice.heard[CLEAN, 3.0]
    lesson = voice.lesson("en", 0, TAUGHT_S)
    rest = windows.where(windows.start_s >= TAUGHT_S)
    assert 0 < len(lesson.windows) < len(windows.pooled)
    assert len(lesson.windows) + len(rest.pooled) <= len(windows.pooled)


def test_errors_are_those_of_the_scores() -> None:
    scores = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5]])
    windows = Windows(np.zeros(2), np.ones(2), np.array([[0, 0], [10, 0]], np.int8), scores)
    labels = ("de", "en", "other")
    assert Judge(labels).wrong("de", windows).tolist() == [False, True]
    assert Judge(labels).wrong("cs", windows).tolist() == [True, True]
    nothing = np.array([])
    silent = Windows(nothing, nothing, nothing.astype(np.int8), nothing)
    assert Judge(labels).wrong("de", silent).tolist() == []
    weights = np.zeros((2, 4))
    weights[0, 3] = 1.0
    taught = Judge(labels, Correction((*labels, "cs"), 2, weights, np.zeros(4)))
    assert taught.wrong("cs", windows).tolist() == [True, False]


def test_wrong_labels_are_a_share_of_all(evaluation: Evaluation) -> None:
    lessons = [voice.lesson(voice.language, 0, 16.0) for voice in evaluation.voices]
    languages = evaluation.model.languages
    spoilt = [*_mislabelled(lessons, languages, 0.5, np.random.default_rng(0))]
    count = sum(len(each.windows) for each in lessons)
    assert sum(len(each.windows) for each in spoilt) == count
    assert {each.language for each in spoilt} - {*SPOKEN_S}
    right = sum(len(each.windows) for each in spoilt[:1])
    assert right < len(lessons[0].windows)


def test_households_rounds_and_their_table(evaluation: Evaluation) -> None:
    found = evaluation.households(TAUGHT_S)
    assert found is not None
    assert (found["households"], found["voices"]) == (2, 4)
    for name in ("taught, 3 s", "all others"):
        assert all(0 <= share <= 1 for share in found[name])
    rounds = evaluation.rounds()
    assert len(rounds) == 2
    cost = evaluation.cost()
    assert cost["windows"] > 10 and 0 < cost["memory_mb"] < 1_000
    report: dict[str, Any] = {
        "model": "m",
        "sha256": "0" * 64,
        "split": "test",
        "households": {"10": found},
        "wrong_labels": None,
        "rounds": rounds,
        "new_languages": evaluation.new_languages(),
        "music": {"windows": 0, "taken_for_speech": 0},
        "cost": cost,
    }
    report["targets"] = targets(report)
    report["targets"] = targets(report)
    assert report["new_languages"] == {}
    assert "<h2>Lesson after lesson</h2>" in page(report)
    assert any("taught, 3 s" in line for line in table(report))


@pytest.mark.parametrize("people", [2, 3, 4])
def test_no_round_teaches_what_is_tested(
    evaluation: Evaluation, people: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, taught = evaluation.voices[:people], list[tuple[str, float, float]]()

    def lesson(voice: Voice, language: str, from_s: float, to_s: float) -> None:
        taught.append((language, from_s, to_s))

    monkeypatch.setattr(personal, "ROUNDS", 20)
    monkeypatch.setattr(Voice, "lesson", lesson)
    monkeypatch.setattr(evaluation, "_drawn", lambda _: iter([home]))
    monkeypatch.setattr(evaluation, "_learnt", lambda _: (None, 1.0))
    monkeypatch.setattr(evaluation, "_errors", lambda *_: [])
    assert len(evaluation.rounds()) == len(taught) == 20
    for voice in home:
        own = [(from_s, to_s) for language, from_s, to_s in taught if language == voice.language]
        starts, ends = zip(*own, strict=True)
        np.testing.assert_allclose(starts, (0, *ends[:-1]))
        assert ends[-1] <= TAUGHT_S + 1e-6
    assert max(to_s for *_, to_s in taught) == pytest.approx(TAUGHT_S)


def test_a_new_language_is_found(evaluation: Evaluation) -> None:
    """Chinese that is called Cantonese, which the model does not know."""
    strange: Voice = dataclasses.replace(evaluation.voices[3], language="yue", target=False)
    row = evaluation._new_language("yue", [strange], evaluation.voices[:3], 10.0)
    assert row is None or row.get("refused") or 0 <= row["found"] <= 1


def clip(name: str, language: str, source: str, speaker: str, split: str, seconds: float) -> Clip:
    return Clip(name, language, split, True, speaker, source, "human", seconds, "", "")


def test_few_development_speakers_are_taken_together() -> None:
    clips = [
        clip("a", "de", "one", "anna", "dev", 70.0),
        clip("b", "de", "one", "ben", "dev", 10.0),
        clip("c", "de", "two", "carl", "dev", 35.0),
        clip("d", "de", "two", "dora", "train", 35.0),
        clip("e", "de", "three", "emil", "dev", 5.0),
    ]
    found = {name: {each.path for each in own} for name, own in speakers_of(clips, 60.0).items()}
    assert found == {"de/one/anna": {"a"}, "de/two": {"c", "d"}, "de": {"b", "e"}}
    tested = [dataclasses.replace(each, split="test") for each in clips]
    assert len(speakers_of(tested, 60.0)) == 5


def test_speech_is_heard_once(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = DEFAULT_MODEL.parents[1] / "samples"
    clips = [clip("languages.opus", "en", "sample", "one", "test", 72.0)]
    hearing = Hearing(evaluation.model, evaluation._graphs, Sounds((), (), ()))
    first = hear(hearing, clips, samples, 90.0, tmp_path / "heard")
    monkeypatch.setattr(hearing, "voice", None)  # which would be called
    again = hear(hearing, clips, samples, 90.0, tmp_path / "heard")
    assert [voice.name for voice in again] == ["en/sample/one"]
    for key, windows in first[0].heard.items():
        for field in dataclasses.fields(Windows):
            one, other = (getattr(each, field.name) for each in (windows, again[0].heard[key]))
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


def test_another_recording_of_the_same_name_is_heard(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    hearing = Hearing(evaluation.model, evaluation._graphs, Sounds((), (), ()))
    clips = [clip("a.wav", "en", "sample", "one", "test", 4.0)]
    for seconds in (4, 5):
        soundfile.write(tmp_path / "a.wav", np.zeros(seconds * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
        (voice,) = hear(hearing, clips, tmp_path, 90.0, tmp_path / "heard")
        assert voice.said_s == seconds
    for file in (tmp_path / "heard").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EdgelidError, match=r"npz is damaged: delete it, and all is heard again"):
        hear(hearing, clips, tmp_path, 90.0, tmp_path / "heard")


def test_speech_in_another_noise_of_the_same_name_is_heard(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    noise, identities = tmp_path / "rain.wav", []
    for contents in ("rain", "rain", "more rain"):
        noise.write_text(contents)
        hearing = Hearing(evaluation.model, evaluation._graphs, Sounds((noise,), (), ()))
        identities.append(hearing.identity)
    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("folder", "message"),
    [("taken/heard", "cannot make the folder .*heard"), ("/proc", "cannot write /proc/")],
)
def test_nothing_is_heard_that_cannot_be_kept(
    evaluation: Evaluation,
    folder: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "taken").touch()
    hearing = Hearing(evaluation.model, evaluation._graphs, Sounds((), (), ()))
    monkeypatch.setattr(hearing, "voice", None)  # which would be called
    samples = DEFAULT_MODEL.parents[1] / "samples"
    clips = [clip("languages.opus", "en", "sample", "one", "test", 72.0)]
    with pytest.raises(EdgelidError, match=message):
        hear(hearing, clips, samples, 90.0, tmp_path / folder)


def report_of(taught: float, same: float, others: float, spoilt: float) -> dict[str, Any]:
    part = {
        "households": 3,
        "voices": 5,
        "refused": 0,
        "strength": 1.0,
        "taught, 3 s": [0.4, taught],
        "same languages, not taught": [0.3, same],
        "all others": [0.3, others],
    }
    more = {**part, "taught, 3 s": [0.2, 0.05]}
    return {
        "model": "m<",
        "sha256": "0" * 64,
        "split": "dev",
        "households": {"30": None, "60": part, "120": more},
        "wrong_labels": {**part, "taught, 3 s": [0.4, spoilt]},
        "rounds": [],
        "new_languages": {"cs": {"60": {"refused": True}}},
        "music": {"windows": 9, "taken_for_speech": 0},
        "cost": {"windows": 1000, "processor_s": 6.0, "memory_mb": 20.0},
    }


def test_targets_are_judged() -> None:
    good = targets(report_of(0.2, 0.3, 0.31, 0.4))
    assert [row["met"] for row in good] == [True] * 4 + [False, True]
    bad = targets(report_of(0.21, 0.301, 0.312, 0.41))
    assert [row["met"] for row in bad] == [False] * 5 + [True]


def test_a_page_of_households() -> None:
    report = report_of(0.2, 0.3, 0.31, 0.4)
    report["targets"] = targets(report)
    text = page(report)
    assert text == page(report)
    assert "m&lt;" in text and "m<:" not in text
    for part in ("Targets", "By seconds taught", "refused", "data:image/svg+xml"):
        assert part in text
    assert "times the share of errors that was left in those who could teach so long" in text
    # Of the error of those who teach 60 s, the quarter that 120 s leave of the others' error.
    drawn = curves(report)["taught, 3 s"]
    np.testing.assert_allclose(drawn, [(0, 0.4), (60, 0.2), (120, 0.1)])
    lines = table(report)
    assert any(line.startswith("MISSED") and "s of a core" in line for line in lines)
