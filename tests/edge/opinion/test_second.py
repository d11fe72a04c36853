"""A listener with a second opinion: what it asks, what it tells, and what it never holds up."""

from __future__ import annotations

import itertools
import logging
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.own_description import front_end_of
from edge.audio.sources import Gap, Sound
from edge.belief import COMPACT, SECOND_OPINION
from edge.classifier import Window
from edge.decoder import Change, Decoder, Segment
from edge.features import audio_samples
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.listener import Heard, Listener
from edge.model.interpreter import Graphs, run_model
from edge.model.modelfile import DecoderDefaults, ModelFile, pack_model, read_model
from edge.opinion import asking
from edge.opinion.expert import Expert, ExpertFile, Span
from edge.opinion.second import RecentAudio, SecondOpinion
from tests.waiting import PATIENCE_S, wait_until

HASTY = DecoderDefaults(window_s=1.0, stay_s=5.0, confidence=0.4)


def blocks(samples: Float32Array, length: int = 1_600) -> Iterator[Float32Array]:
    return (samples[start : start + length] for start in range(0, len(samples), length))


def hear(
    model: ModelFile,
    graphs: Graphs,
    audio: Iterable[Sound],
    second: SecondOpinion | None,
    decoder: DecoderDefaults = HASTY,
) -> list[Heard]:
    graphs.reset()
    listener = Listener(model, graphs, decoder, second=second)
    try:
        return list(listener.hear(audio))
    finally:
        listener.close()


def answers(heard: list[Heard]) -> list[tuple[Change | None, tuple[Segment, ...], Segment]]:
    """All but the time that opinions took."""
    return [
        (each.change and replace(each.change, took_s=None), each.finished, each.current)
        for each in heard
    ]


def windows(heard: list[Heard]) -> list[tuple[float, bytes]]:
    found: list[Window] = [window for each in heard for window in each.windows]
    return [(window.end_s, window.probabilities.tobytes()) for window in found]


# --- at once: files ---------------------------------------------------------------------------


@pytest.fixture
def at_once(expert_path: str, model: ModelFile) -> SecondOpinion:
    return SecondOpinion.of(ExpertFile(expert_path, model.labels), model, 0.25, at_once=True)


def test_a_file_has_the_same_answers_however_it_is_read(
    model: ModelFile, graphs: Graphs, speech: Float32Array, expert_path: str
) -> None:
    part = speech[: 30 * SAMPLE_RATE_HZ]
    found = []
    for length in (1_600, 777, len(part)):
        second = SecondOpinion.of(ExpertFile(expert_path, model.labels), model, 0.25, at_once=True)
        heard = hear(model, graphs, blocks(part, length), second)
        told = heard[-2].second
        assert told is not None
        assert told.answers > 3
        found.append((answers(heard), told.answers))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "values",
    [
        {"sr": 22_050, "n_fft": 2048, "hop_length": 512},
        {"sr": 44_100, "n_fft": 1024, "hop_length": 512, "center": False},
        {"sr": 8_000, "n_fft": 256, "hop_length": 80},
        {"sr": 16_000, "n_fft": 512, "hop_length": 160},
        {"sr": 16_000, "n_fft": 400, "hop_length": 160, "center": False},
    ],
    ids=lambda values: f"{values['sr']} Hz",
)
def test_what_has_come_behind_a_window_does_not_count(values: dict[str, Any]) -> None:
    """It is more or less as audio is cut on its way here."""
    config = front_end_of({**values, "n_mels": 20, "scale": "db"}, "here")
    span = Span(1.0, 1.0, 1.0, 1_000)
    for frames in range(30, 90):
        heard_samples = audio_samples(config, frames)
        end_s = frames * config.hop_samples / config.sample_rate_hz
        found = []
        for more_samples in (0, 1, 2, 5_000):
            audio = RecentAudio(config, span, 1.0)
            samples = np.arange(heard_samples + more_samples, dtype=np.float32)
            for part in blocks(samples, 10_000):
                audio.add(part)
            found.append(audio.of(end_s - 0.1, end_s))
        # As far as the window reaches, or almost: the last sample may be one that others lack.
        assert 0 <= heard_samples - 1 - found[0][-1] <= 2
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


def test_the_compact_answer_stays_visible(
    model: ModelFile, graphs: Graphs, speech: Float32Array, at_once: SecondOpinion
) -> None:
    alone = hear(model, graphs, blocks(speech), None)
    both = hear(model, graphs, blocks(speech), at_once)
    assert windows(both) == windows(alone)
    assert all(each.second is None and each.current.by is None for each in alone)
    assert {each.current.by for each in both} <= {COMPACT, SECOND_OPINION}


def test_it_is_told_who_decided_and_how_long_that_took(
    model: ModelFile, graphs: Graphs, speech: Float32Array, at_once: SecondOpinion
) -> None:
    heard = hear(model, graphs, blocks(speech), at_once)
    changes = [each.change for each in heard if each.change is not None]
    assert {change.by for change in changes} == {COMPACT, SECOND_OPINION}
    for change in changes:
        assert (change.took_s is not None) == (change.by == SECOND_OPINION)
    told = heard[-2].second
    assert told is not None
    assert told.took_s > 0
    assert told.newest is not None
    assert told.language in model.labels


def test_less_of_a_core_is_fewer_opinions(
    model: ModelFile, graphs: Graphs, speech: Float32Array, expert_path: str
) -> None:
    counts = []
    for share in (0.01, 0.25):
        file = ExpertFile(expert_path, model.labels)
        file.nominal_s = 1.0
        second = SecondOpinion.of(file, model, share, at_once=True)
        told = hear(model, graphs, blocks(speech), second)[-2].second
        assert told is not None
        counts.append(told.answers)
        assert told.answers <= np.ceil(len(speech) / SAMPLE_RATE_HZ / 60) * share * 60
    assert counts[0] == 0 < counts[1]


def test_without_a_budget_the_compact_model_decides(
    model: ModelFile,
    graphs: Graphs,
    speech: Float32Array,
    expert_path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever is not affordable is told to the decoder, at that hop, and nothing else is."""
    told: list[str] = []
    file = ExpertFile(expert_path, model.labels)
    file.nominal_s = 1.0
    second = SecondOpinion.of(file, model, 0.05, at_once=True)
    ask = second._asker.ask

    def asked(question: asking.Question, now_s: float) -> str:
        told.append(ask(question, now_s))
        return told[-1]

    monkeypatch.setattr(second._asker, "ask", asked)
    monkeypatch.setattr(Decoder, "stand_alone", lambda self: told.append("alone"))
    hear(model, graphs, blocks(speech), second)
    assert {asking.ASKED, asking.UNAFFORDABLE} < set(told)
    follows = [b for a, b in itertools.pairwise([*told, ""]) if a == asking.UNAFFORDABLE]
    assert set(follows) == {"alone"}
    assert told.count("alone") == told.count(asking.UNAFFORDABLE)


def test_behind_a_long_gap_nothing_counts_that_was_before(
    model: ModelFile, graphs: Graphs, speech: Float32Array, at_once: SecondOpinion
) -> None:
    part = speech[20 * SAMPLE_RATE_HZ : 28 * SAMPLE_RATE_HZ]
    audio = [*blocks(part), Gap(5 * SAMPLE_RATE_HZ, "device lost"), *blocks(part)]
    heard = hear(model, graphs, audio, at_once)
    segments = [segment for each in heard for segment in each.finished]
    behind = [(s.language, s.start_s - 13, s.end_s - 13) for s in segments if s.start_s >= 13]
    before = [(s.language, s.start_s, s.end_s) for s in segments if s.end_s <= 8]
    assert [name for name, *_ in behind] == [name for name, *_ in before]
    np.testing.assert_allclose([s[1:] for s in behind], [s[1:] for s in before], atol=1e-9)


def test_a_model_of_whole_windows_beside_a_small_one(
    small: ModelFile, window_path: str, speech: Float32Array
) -> None:
    second = SecondOpinion.of(ExpertFile(window_path, small.labels), small, 0.5, at_once=True)
    listener = Listener(small, run_model(small, 1), small.description.decoder, second=second)
    heard = list(listener.hear(blocks(speech[: 20 * SAMPLE_RATE_HZ])))
    told = heard[-2].second
    assert told is not None
    assert told.answers > 0
    assert told.late == 0


# --- in the background: what comes when it likes -------------------------------------------------


class Gated(ExpertFile):
    """A file that takes as long to open as is wanted."""

    gate = threading.Event()

    def open(self) -> Expert:
        self.gate.wait()
        return super().open()


def test_audio_never_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
    model: ModelFile,
    graphs: Graphs,
    speech: Float32Array,
    expert_path: str,
) -> None:
    monkeypatch.setattr(Gated, "gate", threading.Event())
    alone = hear(model, graphs, blocks(speech), None)
    second = SecondOpinion.of(Gated(expert_path, model.labels), model, 1.0)

    def audio() -> Iterator[Float32Array]:
        yield from blocks(speech)
        told = second.told()  # all that went by before there was any answer
        assert told.answers == 0
        # At most once a second, for a second at least.
        assert 10 < told.refused["busy"] <= len(speech) / SAMPLE_RATE_HZ + 1
        Gated.gate.set()
        until_s = time.monotonic() + PATIENCE_S
        while second.told().answers < 2:
            assert time.monotonic() < until_s, "no answer comes"
            yield from blocks(speech[16_000:160_000])

    heard = hear(model, graphs, audio(), second)
    without = windows(alone)[: len(speech) // SAMPLE_RATE_HZ * 6]
    assert windows(heard)[: len(without)] == without
    early = [each.current for each in heard if each.current.end_s < 60]
    assert {segment.by for segment in early} == {COMPACT}
    expected = [each.current for each in alone if each.current.end_s < 60]
    assert [replace(segment, by=None) for segment in early] == expected


def test_a_model_that_cannot_be_run_leaves_listening_as_it_is(
    model: ModelFile,
    graphs: Graphs,
    speech: Float32Array,
    expert_path: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "gone.tflite"
    shutil.copy(expert_path, path)
    second = SecondOpinion.of(ExpertFile(str(path), model.labels), model, 0.25)
    path.unlink()  # it was there at the start
    with caplog.at_level(logging.WARNING, "edge.opinion"):
        graphs.reset()
        listener = Listener(model, graphs, HASTY, second=second)
        for _ in listener.hear(until_gone(speech, second)):
            pass
        listener.close()
    (record,) = caplog.records
    assert "listening goes on without a second opinion" in record.message
    assert "does not exist" in record.message


def until_gone(speech: Float32Array, second: SecondOpinion) -> Iterator[Float32Array]:
    until_s = time.monotonic() + PATIENCE_S
    while not second.told().refused.get("gone"):
        assert time.monotonic() < until_s, "it is not gone"
        yield from blocks(speech[16_000:160_000])


class Broken(ExpertFile):
    """A file that fails in a way that nobody has thought of."""

    def open(self) -> Expert:
        raise RuntimeError("what was that?")


def test_whatever_it_fails_of_is_told_and_it_is_gone(
    model: ModelFile, expert_path: str, caplog: pytest.LogCaptureFixture, speech: Float32Array
) -> None:
    asker = asking.InBackground(Broken(expert_path, model.labels), 1.0)
    question = asking.Question(speech[16_000:64_000], 3.0, None, 0)
    with caplog.at_level(logging.WARNING, "edge.opinion"):
        assert asker.ask(question, 0.0) == asking.ASKED
        asker.close()  # waits for the thread
    (record,) = caplog.records
    assert "listening goes on without a second opinion: what was that?" in record.message
    assert asker.ask(question, 3.0) == asking.GONE


def test_a_thread_that_does_not_start_is_no_end_of_listening(
    model: ModelFile,
    expert_path: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    asker = asking.InBackground(ExpertFile(expert_path, model.labels), 1.0)
    question = asking.Question(np.zeros(48_000, np.float32), 3.0, None, 0)
    monkeypatch.setattr(threading.Thread, "start", start)
    with caplog.at_level(logging.WARNING, "edge.opinion"):
        assert asker.ask(question, 0.0) == asker.ask(question, 3.0) == asking.GONE
        asker.close()
    (record,) = caplog.records
    assert "listening goes on without a second opinion: can't start new" in record.message


def test_a_machine_that_is_too_slow_is_told_once(
    model: ModelFile, expert_path: str, caplog: pytest.LogCaptureFixture, speech: Float32Array
) -> None:
    asker = asking.InBackground(ExpertFile(expert_path, model.labels), 1e-6 + 0.01)
    asker._budget._expected_s = 0.1
    asker._budget._longest_s = 0.1
    with caplog.at_level(logging.WARNING, "edge.opinion"):
        for number in range(2):
            asker._budget._spent.clear()
            question = asking.Question(speech[16_000:64_000], 3.0, None, number)
            assert asker.ask(question, 0.0) == asking.ASKED
            wait_until(asker.take)
    asker.close()
    (record,) = caplog.records
    assert "less often than it should be" in record.message


def test_an_answer_about_other_languages_counts_for_none(
    model: ModelFile, expert_path: str, speech: Float32Array
) -> None:
    """Which it was asked about before they were changed."""
    file = ExpertFile(expert_path, model.labels)
    second = SecondOpinion.of(file, model, 1.0, ["en"], at_once=True)
    decoder = Decoder(model.labels, HASTY, 0.16, second_opinion=True)
    question = asking.Question(speech[:48_000], 3.0, ("en",), second._stream)
    assert second._asker.ask(question, 3.0) == asking.ASKED
    second.expect(["en"])
    assert second._stream == question.stream
    second.expect(["de", "en"])
    second._consider(decoder)
    told = second.told()
    assert (told.answers, told.late, told.newest) == (1, 1, None)
    assert second._moments._asked_s == 0.0  # what was heard may be asked about anew


def test_an_answer_about_an_earlier_stream_counts_for_none(
    model: ModelFile, graphs: Graphs, speech: Float32Array, expert_path: str
) -> None:
    second = SecondOpinion.of(ExpertFile(expert_path, model.labels), model, 1.0, at_once=True)
    graphs.reset()
    listener = Listener(model, graphs, HASTY, second=second)
    for _ in listener.hear(blocks(speech[: 5 * SAMPLE_RATE_HZ])):
        pass
    asker = second._asker
    question = asking.Question(speech[16_000:64_000], 3.0, None, stream=-1)
    assert asker.ask(question, 5.0) == asking.ASKED
    before = listener._decoder.belief
    late = second.told().late
    second._consider(listener._decoder)
    np.testing.assert_array_equal(listener._decoder.belief, before)
    assert second.told().late == late + 1


def test_reading_a_model_twice_gives_the_same_nominal_cost(expert_path: str) -> None:
    labels = read_model(expert_path).labels
    assert ExpertFile(expert_path, labels).nominal_s == ExpertFile(expert_path, labels).nominal_s


def test_narrow_weights_are_no_less_work(expert_path: str, tmp_path: Path) -> None:
    """What an answer is reckoned to take goes by their number, which older files do not tell."""
    model = read_model(expert_path)
    assert ExpertFile(expert_path, model.labels).nominal_s == 3e-8 * model.graph_bytes
    told = replace(model.description, weights=2 * model.graph_bytes)
    path = tmp_path / "narrow.tflite"
    path.write_bytes(pack_model(model.graph, model.labels, told, model.filterbank))
    assert ExpertFile(str(path), model.labels).nominal_s == 6e-8 * model.graph_bytes
