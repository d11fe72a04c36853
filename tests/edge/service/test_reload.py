"""New settings while the audio goes on: what is decided from then on, and that nothing is lost."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.belief import Opinion
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import UNKNOWN
from edge.model.modelfile import DEFAULT_MODEL
from edge.opinion import asking
from edge.opinion.expert import Expert
from edge.outputs.settings import Settings
from edge.service.reload import ReloadingListener

RELOAD_S = 20


def test_threshold_and_hold_apply_to_what_comes_next(speech: Float32Array) -> None:
    before = Settings()
    listener = ReloadingListener(before)
    applied: list[Settings] = []

    def blocks() -> Iterator[Float32Array]:
        for second, block in enumerate(np.split(speech[: 60 * SAMPLE_RATE_HZ], 60)):
            if second == RELOAD_S:
                listener.reload(lambda: replace(before, threshold=1.0, hold=2.0))
            yield block

    heard = list(listener.hear(blocks(), applied.append))
    assert [(each.threshold, each.hold) for each in applied] == [(1.0, 2.0)]
    changes = [each.change for each in heard if each.change]
    assert any(c.language != UNKNOWN for c in changes if c.decided_s < RELOAD_S)
    late = [c for c in changes if c.decided_s > RELOAD_S + 1]
    assert [c.language for c in late] in ([UNKNOWN], [])  # it is never as sure as that
    assert heard[-1].current.language == UNKNOWN
    segments = [segment for each in heard for segment in each.finished]
    assert (segments[0].start_s, segments[-1].end_s) == (0.0, 60.0)
    assert all(one.end_s == other.start_s for one, other in pairwise(segments))


def test_what_a_start_refuses_is_refused_and_learning_is_told(
    speech: Float32Array, tmp_path: Path, caplog: pytest.LogCaptureFixture, own_second: Path
) -> None:
    book = str(tmp_path / "voices")
    before = Settings(input="file.wav", lessons="")
    model = str(own_second)
    learning = replace(before, learn=True, lessons=book, second_opinion=model)
    wanted = {
        1: replace(before, learn=True),
        3: replace(learning, second_opinion=""),
        5: learning,
        7: replace(learning, second_opinion_share=0.5),
    }
    applied: list[Settings] = []
    listener = ReloadingListener(before)

    def blocks() -> Iterator[Float32Array]:
        for second, block in enumerate(np.split(speech[: 9 * SAMPLE_RATE_HZ], 9)):
            if second in wanted:
                listener.reload(functools.partial(wanted.__getitem__, second))
            yield block

    for _ in listener.hear(blocks(), applied.append):
        pass
    listener.close()
    assert applied == [wanted[5], wanted[7]]
    refused = (
        "the configuration stays as it was: learn needs a second opinion to learn from, and "
        "lessons to write to: give second_opinion and lessons (--second-opinion and --lessons)."
    )
    told = f"learning from second opinions: statistics of what is heard go to {book}."
    assert caplog.messages == [refused, refused, told]


def test_a_second_opinion_is_taken_up_and_left_without_losing_audio(
    speech: Float32Array, own_second: Path
) -> None:
    before = Settings(input="file.wav")
    listener = ReloadingListener(before)
    model = str(own_second)
    wanted = {
        10: replace(before, second_opinion=model),
        25: replace(before, second_opinion=model, second_opinion_share=0.5),
        40: replace(before, second_opinion="none.tflite"),
        45: before,
    }
    applied: list[Settings] = []

    def blocks() -> Iterator[Float32Array]:
        for second, block in enumerate(np.split(speech[: 60 * SAMPLE_RATE_HZ], 60)):
            if second in wanted:
                listener.reload(functools.partial(wanted.__getitem__, second))
            yield block

    heard = list(listener.hear(blocks(), applied.append))
    listener.close()
    assert applied == [wanted[10], wanted[25], wanted[45]]  # there is no such file at 40 s
    segments = [segment for each in heard for segment in each.finished]
    assert (segments[0].start_s, segments[-1].end_s) == (0.0, 60.0)
    assert all(one.end_s == other.start_s for one, other in pairwise(segments))
    for segment in segments:
        assert (segment.by is not None) == (11 <= segment.start_s < 46)
    answers = [each.second.answers for each in heard if each.second is not None]
    assert answers[-1] > 3


def test_audio_does_not_wait_for_an_answer_that_nobody_wants_any_longer(
    speech: Float32Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, goes_on = threading.Event(), threading.Event()
    went_on: list[bool] = []
    ask = Expert.asked

    def slowly(*question: Any) -> Opinion:
        asked.set()
        went_on.append(goes_on.wait(60.0))
        return ask(*question)

    monkeypatch.setattr(Expert, "asked", slowly)
    monkeypatch.setattr(asking, "LEAVE_S", 120.0)
    after = Settings()
    before = replace(after, second_opinion=str(DEFAULT_MODEL), second_opinion_share=1.0)
    others = set(threading.enumerate())
    listener = ReloadingListener(before)

    def blocks() -> Iterator[Float32Array]:
        for second, block in enumerate(np.split(speech[: 30 * SAMPLE_RATE_HZ], 30)):
            if second == RELOAD_S:
                assert asked.wait(60.0)
                listener.reload(lambda: after)
            if second == RELOAD_S + 2:
                goes_on.set()
            yield block

    heard = list(listener.hear(blocks(), lambda _: None))
    listener.close()
    assert went_on == [True]
    assert heard[-1].current.end_s == 30.0
    started = {thread.name for thread in set(threading.enumerate()) - others}
    assert not {"leaving", "second-opinion"} & started
