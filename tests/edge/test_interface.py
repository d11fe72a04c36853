"""What `import edge` offers, and the page that explains it."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge
from edge.audio.sources import FileSource
from edge.belief import COMPACT, SECOND_OPINION
from edge.model.modelfile import DEFAULT_MODEL, SECOND_OPINIONS
from edge.offline import Classification

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "edge/samples"


def test_the_example_of_the_page_runs(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)[0]
    lines = [line for line in example.splitlines() if line]
    assert len(lines) <= 5
    shutil.copyfile(SAMPLES / "languages.opus", tmp_path / "speech.opus")
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "docs/python.md", "exec"), {})
    first, *changes = printed.getvalue().splitlines()
    assert first == "unknown"  # it is of six languages
    told = json.loads((SAMPLES / "languages.json").read_text())
    spoken = {segment["language"] for segment in told}
    found = {line.rpartition(" ")[2] for line in changes}
    assert len(found & spoken) >= 4
    for change in changes:
        assert re.fullmatch(r"[0-9.]+ s: \w+", change)


def test_nothing_is_imported_before_it_is_used(environment: dict[str, str]) -> None:
    script = (
        "import sys, edge\n"
        "assert set(edge.__all__) <= set(dir(edge))\n"
        "assert 'numpy' not in sys.modules and 'edge.interface' not in sys.modules\n"
        "edge.classify\n"
        "assert 'numpy' in sys.modules and 'ai_edge_litert' not in sys.modules\n"
        "assert not hasattr(edge, 'nonsense')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def model() -> object:
    return edge.load_model()


@pytest.fixture(scope="module")
def speech(sample: Path) -> np.ndarray:
    with FileSource(sample) as source:
        return np.concatenate(list(source.blocks()))[: 16_000 * 12]


def test_samples_and_a_file_get_the_same_answer(model: edge.interface.Model, sample: Path) -> None:
    with FileSource(sample) as source:
        samples = np.concatenate(list(source.blocks()))
    assert edge.classify(samples, model) == edge.classify(sample, model) == edge.classify(sample)


def test_samples_of_several_kinds(model: edge.interface.Model, speech: np.ndarray) -> None:
    plain = edge.classify(speech, model)
    assert isinstance(plain, Classification)
    both = np.stack([speech, speech], axis=1)
    assert edge.classify(both.astype(np.float64), model) == plain
    whole = edge.classify((speech * 32_767).astype(np.int16), model)
    assert whole.language == plain.language
    assert whole.confidence == pytest.approx(plain.confidence, abs=0.05)
    twice = edge.classify(np.repeat(speech, 2), model, rate_hz=32_000)
    assert twice.duration_s == pytest.approx(plain.duration_s, abs=0.01)
    assert set(edge.classify(speech, model, ["de", "it"]).probabilities) == set(model.labels)


def test_listeners_share_a_model_without_hearing_each_other(
    model: edge.interface.Model, speech: np.ndarray
) -> None:
    blocks = np.array_split(speech, 40)
    alone = [heard.windows for heard in edge.Listener(model).hear(blocks)]
    first, second = edge.Listener(model).hear(blocks), edge.Listener(model).hear(blocks[7:])
    together = []
    for heard in first:
        together.append(heard.windows)
        next(second, None)
    assert len(alone) == len(together) > 40
    for one, other in zip(alone, together, strict=True):
        assert [w.probabilities.tolist() for w in one] == [w.probabilities.tolist() for w in other]


def test_threads_that_share_a_model_wait_for_each_other(
    model: edge.interface.Model, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = speech, speech[16_000 * 4 :]
    alone = [edge.classify(clip, model) for clip in clips]
    found: dict[int, Classification] = {}

    def answer(number: int) -> None:
        found[number] = edge.classify(clips[number], model)

    other = threading.Thread(target=answer, args=[1])
    entered, steps, step = threading.Event(), iter(range(1_000_000)), model.graphs.step

    def hooked(*frames: Any) -> Any:
        if threading.current_thread() is other:
            entered.set()
        elif next(steps) == 20:  # in the middle of the first one
            other.start()
            if entered.wait(0.5):  # as it must not
                other.join()
        return step(*frames)

    monkeypatch.setattr(model.graphs, "step", hooked)
    answer(0)
    other.join()
    assert [found[0], found[1]] == alone


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' /proc")
def test_the_graph_of_a_large_model_is_on_disk() -> None:
    large = edge.load_model("large")
    assert large.file.graph == b""
    assert edge.load_model().file.graph  # a small one is no matter


def test_what_is_no_word_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "large").write_bytes(DEFAULT_MODEL.read_bytes())
    for path in ("./large", Path("large")):
        assert edge.load_model(path).file.sha256 == edge.load_model().file.sha256
    with pytest.raises(edge.EdgelidError, match="the path of the model is empty"):
        edge.load_model("")


def test_a_recording_with_a_second_opinion(
    model: edge.interface.Model, speech: np.ndarray, own_second: Path
) -> None:
    alone = edge.classify(speech, model)
    both = edge.classify(speech, model, second_opinion=own_second)
    assert (alone.by, alone.opinions) == (None, 0)
    assert both.opinions >= 3
    assert both.compact == (alone.language, alone.confidence)
    assert both.by in (COMPACT, SECOND_OPINION)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' /proc")
def test_a_second_opinion_is_opened_once(
    speech: np.ndarray, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often, and under whichever name, it is asked for."""
    model = edge.load_model()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(DEFAULT_MODEL.parent)
    names = "edgelid-9-large.tflite", SECOND_OPINIONS["large"], "large", "large"
    answers = [edge.classify(speech, model, second_opinion=name) for name in names]
    heard = [*edge.Listener(model, second_opinion="large").hear(sample)]
    assert len({(each.language, each.confidence, each.opinions) for each in answers}) == 1
    assert answers[0].opinions and heard[-2].second and heard[-2].second.answers
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert len({line.split(maxsplit=5)[4] for line in maps if str(tmp_path) in line}) == 1


def test_a_file_waits_for_second_opinions(
    model: edge.interface.Model, sample: Path, own_second: Path
) -> None:
    listener = edge.Listener(model, second_opinion=own_second)
    answers = [
        [(heard.current.language, heard.current.by) for heard in listener.hear(sample)]
        for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert SECOND_OPINION in {by for _, by in answers[0]}
    last = list(listener.hear(sample))[-2].second
    assert last is not None
    assert last.answers > 5


def test_blocks_have_the_second_opinions_that_come_in_time(
    model: edge.interface.Model, speech: np.ndarray, own_second: Path
) -> None:
    answers = 0
    others = set(threading.enumerate())  # of tests before

    def blocks() -> Iterator[np.ndarray]:
        while not answers:  # however long that takes here
            yield from np.array_split(speech, 40)

    listener = edge.Listener(model, second_opinion=own_second, second_opinion_share=1)
    for heard in listener.hear(blocks()):
        answers = heard.second.answers if heard.second else answers
    for thread in set(threading.enumerate()) - others:
        assert thread.name != "second-opinion"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"second_opinion": "none.tflite"}, "does not exist"),
        ({"second_opinion": ""}, "the path of the model is empty"),
        ({"second_opinion": "large", "second_opinion_share": 0}, "second_opinion_share"),
        ({"second_opinion": "large", "second_opinion_share": 1.1}, "second_opinion_share"),
    ],
)
def test_second_opinions_that_cannot_be_had(
    model: edge.interface.Model, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(edge.EdgelidError, match=words):
        edge.Listener(model, **options)


def test_a_model_is_no_second_opinion_of_its_own(
    model: edge.interface.Model, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DEFAULT_MODEL.parent)
    for name in (DEFAULT_MODEL, str(DEFAULT_MODEL), DEFAULT_MODEL.name):
        for call in (edge.Listener, functools.partial(edge.classify, speech)):
            with pytest.raises(edge.EdgelidError, match="is the same model as the first"):
                call(model=model, second_opinion=name)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, 60, math.nan])
def test_a_threshold_that_is_none(
    model: edge.interface.Model, speech: np.ndarray, threshold: float
) -> None:
    words = f"^threshold must be from 0 to 1, not {threshold:g}.$"
    with pytest.raises(edge.EdgelidError, match=words):
        edge.classify(speech, model, threshold=threshold)
    with pytest.raises(edge.EdgelidError, match=words):
        edge.Listener(model, threshold=threshold)


@pytest.mark.parametrize("hold_s", [-1, 30.1, math.nan])
def test_a_hold_that_is_none(model: edge.interface.Model, hold_s: float) -> None:
    with pytest.raises(edge.EdgelidError, match=f"^hold_s must be from 0 to 30, not {hold_s:g}.$"):
        edge.Listener(model, hold_s=hold_s)


def test_thresholds_and_holds_at_their_ends(
    model: edge.interface.Model, speech: np.ndarray
) -> None:
    for threshold in (0, 1):
        assert edge.classify(speech, model, threshold=threshold).probabilities
        assert edge.Listener(model, threshold=threshold, hold_s=30 * threshold)


def test_a_gain(model: edge.interface.Model, speech: np.ndarray) -> None:
    quiet = (np.rint(speech[16_000:176_000] * 10 ** (-52 / 20) * 32_768)).astype(np.int16)
    automatic = edge.classify(quiet, model)
    assert automatic == edge.classify(16 * quiet, model, gain_db=0)
    assert automatic == edge.classify(quiet, model, gain_db=20 * math.log10(16))
    assert automatic != edge.classify(quiet, model, gain_db=0)
    gains = {heard.gain for heard in edge.Listener(model).hear([quiet])}
    assert {1.0, 16.0} < gains
    assert {heard.gain for heard in edge.Listener(model, gain_db=0).hear([quiet])} == {1.0}
    for call in (edge.classify, edge.Listener):
        with pytest.raises(edge.EdgelidError, match="a gain of 61 dB is not possible"):
            call(*([quiet] if call is edge.classify else []), model=model, gain_db=61)


@pytest.mark.parametrize(
    ("samples", "rate_hz", "words"),
    [
        (np.zeros(0, np.float32), 16_000, "gave no audio"),
        (np.zeros((2, 2, 2), np.float32), 16_000, "shape"),
        (np.zeros((9, 0), np.float32), 16_000, "shape"),
        (np.zeros((2, 16_000), np.float32), 16_000, "give them as"),
        (np.zeros(16_000, np.int64), 16_000, "int16 or floating point"),
        (np.full(16_000, np.nan, np.float32), 16_000, "finite"),
        (np.zeros(16_000, np.float32), 10, "10 Hz is not possible"),
    ],
)
def test_what_is_no_audio(
    model: edge.interface.Model, samples: np.ndarray, rate_hz: int, words: str
) -> None:
    with pytest.raises(edge.EdgelidError, match=words):
        edge.classify(samples, model, rate_hz=rate_hz)


def test_samples_that_were_scaled_wrongly_are_told_once(
    model: edge.interface.Model, speech: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    integers = (20_000 * speech[:32_000]).astype(np.float32)
    for _ in edge.Listener(model, gain_db=0).hear(np.split(integers, 4)):
        pass
    edge.classify(speech[:32_000], model)
    told = [each for each in caplog.messages if "scaled wrongly" in each]
    assert len(told) == 1


def test_languages_by_their_names(model: edge.interface.Model, speech: np.ndarray) -> None:
    part = speech[: 10 * 16_000]
    by_code = edge.classify(part, model, ["de", "zh"])
    assert edge.classify(part, model, ["German", "zh-CN"]) == by_code
    assert edge.Listener(model, ["German"])


def test_languages_that_can_be_read_only_once(model: edge.interface.Model) -> None:
    assert edge.Listener(model, iter(["de", "en"]))  # type: ignore[arg-type]


def test_unknown_languages_and_files(model: edge.interface.Model, tmp_path: Path) -> None:
    with pytest.raises(edge.EdgelidError, match="xx"):
        edge.Listener(model, ["xx"])
    for call in (edge.Listener, functools.partial(edge.classify, tmp_path / "none.wav")):
        with pytest.raises(edge.EdgelidError, match=r"must be a list, such as \['de'\]"):
            call(model=model, languages="de")
        with pytest.raises(edge.EdgelidError, match="must be a list of text"):
            call(model=model, languages=["de", None])
    for wrong in ({"path": "a\0b"}, {"lessons": "a\0b"}):
        with pytest.raises(edge.EdgelidError, match="cannot be read"):
            edge.load_model(**wrong)
    with pytest.raises(edge.EdgelidError):
        edge.load_model(tmp_path / "none.tflite")
    with pytest.raises(edge.EdgelidError):
        list(edge.Listener(model).hear(tmp_path / "none.wav"))


def test_a_folder_is_no_file(model: edge.interface.Model, sample: Path) -> None:
    """Though there are recordings in it."""
    words = "is a folder: give an audio file in it"
    with pytest.raises(edge.EdgelidError, match=words):
        edge.classify(sample.parent, model)
    with pytest.raises(edge.EdgelidError, match=words):
        list(edge.Listener(model).hear(sample.parent))
