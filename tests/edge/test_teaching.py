"""Teaching on the command line, and listening with what was taught."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge.cli import main
from edge.config import ConfigError
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.lessons.book import Book, pack_book, read_book
from edge.model.interpreter import Graphs
from edge.model.modelfile import SECOND_OPINIONS, ModelFile, read_model
from edge.outputs.settings import Settings, check_use
from edge.service.reload import ReloadingListener
from edge.teaching import LessonExtractor, lesson_of, taught, teach

Command = Callable[..., subprocess.CompletedProcess[str]]


def write(path: Path, samples: Float32Array) -> Path:
    soundfile.write(path, samples, SAMPLE_RATE_HZ)
    return path


@pytest.fixture(scope="module")
def galician(speech: Float32Array, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spanish of the sample, which shall be another language."""
    part = speech[10 * SAMPLE_RATE_HZ : 18 * SAMPLE_RATE_HZ]
    return write(tmp_path_factory.mktemp("spoken") / "galician.wav", np.tile(part, 2))


@pytest.fixture(scope="module")
def voices(
    model: ModelFile, graphs: Graphs, galician: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from edge.audio.sources import FileSource

    path = tmp_path_factory.mktemp("book") / "my-voices.edgelid"
    with FileSource(galician) as source:
        given = LessonExtractor(model, graphs).hear(source)
    teach(path, model, graphs, lesson_of("gl", "recording", [given]))
    return path


def test_teach_list_undo_and_forget(edgelid: Command, galician: Path, tmp_path: Path) -> None:
    book = tmp_path / "voices"
    done = edgelid("teach", "Galician", galician, "--lessons", book)
    assert done.returncode == 0, done.stderr
    assert "windows of Galician" in done.stdout and "errors on other people" in done.stdout
    done = edgelid("teach", "es", galician.parent, "--lessons", book, "--json")
    record = json.loads(done.stdout)
    assert (record["language"], record["from"]) == ("es", "recording")
    assert set(record["errors"]) == {"taught", "others"}
    listed = edgelid("teach", "--list", "--lessons", book, "--json").stdout.splitlines()
    assert [json.loads(line)["language"] for line in listed] == ["gl", "es"]
    assert edgelid("teach", "--undo", "--lessons", book).returncode == 0
    assert "Galician" in edgelid("teach", "--list", "--lessons", book).stdout
    assert "never taught" in edgelid("teach", "--forget", "es", "--lessons", book).stderr
    assert edgelid("teach", "--forget", "all", "--lessons", book).returncode == 0
    assert "nothing has been taught" in edgelid("teach", "--list", "--lessons", book).stdout
    assert "no lesson to undo" in edgelid("teach", "--undo", "--lessons", book).stderr


def test_much_is_taught_from_all_of_it(
    model: ModelFile,
    graphs: Graphs,
    speech: Float32Array,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from edge.audio.sources import FileSource

    monkeypatch.setattr("edge.teaching.MAX_LESSON_WINDOWS", 12)
    files = [
        write(tmp_path / f"{start}.wav", speech[start * SAMPLE_RATE_HZ :][: 20 * SAMPLE_RATE_HZ])
        for start in (10, 40)
    ]
    given = []
    for file in files:
        with FileSource(file) as source:
            given.append(LessonExtractor(model, graphs).hear(source))
    assert [each.heard_s for each in given] == pytest.approx([20.0, 20.0])
    every = [window.tobytes() for each in given for window in each.windows]
    places = [every.index(row.tobytes()) for row in lesson_of("es", "recording", given).windows]
    assert (len(places), places[0], places[-1]) == (12, 0, len(every) - 1)
    steps = {other - one for one, other in pairwise(places)}
    assert max(steps) - min(steps) <= 1
    book = tmp_path / "voices"
    assert main(["teach", "es", *map(str, files), "--lessons", str(book)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"learnt 12 of {len(every)} windows of Spanish, from 40 s; 12 are in")


def test_what_was_taught_is_heard(
    edgelid: Command, galician: Path, voices: Path, tmp_path: Path
) -> None:
    with_lessons = edgelid("classify", "--json", "--lessons", voices, galician)
    answer = json.loads(with_lessons.stdout)
    without = json.loads(edgelid("classify", "--json", galician).stdout)
    assert "gl" not in without["probabilities"]
    assert answer["probabilities"]["gl"] > 0.05
    done = edgelid("listen", "--json", "--lessons", voices, "--input", galician)
    assert done.returncode == 0, done.stderr
    config = tmp_path / "edgelid.toml"
    config.write_text(f'lessons = "{voices}"\ninput = "{galician}"\noutput = "json"\n')
    assert edgelid("listen", "--config", config).stdout.count("segment") == done.stdout.count(
        "segment"
    )
    told = json.loads(edgelid("info", "--json", "--lessons", voices).stdout)
    assert told["lessons"]["languages"] == {"gl": told["lessons"]["windows"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give a language to teach"),
        (("de", "--list"), "give a language to teach"),
        (("nonspeech", "SPEECH"), "no language to teach"),
        (("not a language", "SPEECH"), "no language to teach"),
        (("de", "SILENCE"), "no speech"),
        (("de", "NOISE"), "no speech"),
        (("de", "nowhere.wav"), "nowhere.wav"),
        (("de", "SPEECH", "--model", str(SECOND_OPINIONS["large"])), "takes whole windows"),
        (("--list", "--lessons", "nowhere"), "does not exist"),
        (("de", "SPEECH", "--lessons", "SPEECH"), "no lesson book"),
        (("de", "SPEECH", "--lessons", "nowhere/voices"), "cannot write"),
    ],
)
def test_bad_input_is_one_sentence(
    edgelid: Command, galician: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    rng = np.random.default_rng(0)
    silence, noise = tmp_path / "silence.wav", tmp_path / "noise.wav"
    write(silence, np.zeros(8 * SAMPLE_RATE_HZ, np.float32))
    write(noise, 0.1 * rng.normal(size=8 * SAMPLE_RATE_HZ).astype(np.float32))
    known = {"SPEECH": galician, "SILENCE": silence, "NOISE": noise}
    book = ("--lessons", tmp_path / "voices") if "--lessons" not in words else ()
    before = galician.read_bytes()
    done = edgelid("teach", *(known.get(word, word) for word in words), *book)
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == len(done.stderr.splitlines())
    assert not (tmp_path / "voices").exists()
    assert galician.read_bytes() == before


def test_lessons_that_are_too_dear_leave_the_book_as_it_was(
    model: ModelFile, graphs: Graphs, voices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = tmp_path / "voices"
    book.write_bytes(voices.read_bytes())
    monkeypatch.setattr("edge.lessons.adapting.MAX_COST", -1.0)
    lesson = read_book(voices, model).lessons[0]
    with pytest.raises(EdgelidError, match="would make the model worse"):
        teach(book, model, graphs, replace(lesson, language="pt"))
    assert book.read_bytes() == voices.read_bytes()


def test_an_empty_book_is_no_lessons(model: ModelFile, graphs: Graphs, tmp_path: Path) -> None:
    path = tmp_path / "voices"
    path.write_bytes(pack_book(Book.of_model(model)))
    learnt = taught(path, model, graphs)
    assert learnt.correction is None and learnt.model is model


def test_a_configuration_with_bad_lessons(galician: Path, voices: Path) -> None:
    check_use(Settings(lessons=str(voices), languages=("gl", "de")), "test")
    with pytest.raises(ConfigError, match="no lesson book"):
        check_use(Settings(lessons=str(galician)), "test")


def test_lessons_are_taken_up_by_a_reload(
    speech: Float32Array, model: ModelFile, voices: Path, tmp_path: Path
) -> None:
    """New ones, and those that have been added to; a damaged book changes nothing."""
    book = tmp_path / "voices"
    before = Settings(input="file.wav")
    listener = ReloadingListener(before)
    labels = []
    contents = {
        10: voices.read_bytes(),
        20: b"no book",
        30: pack_book(Book.of_model(model)),
    }

    def blocks() -> Iterator[Float32Array]:
        for second, block in enumerate(np.split(speech[: 40 * SAMPLE_RATE_HZ], 40)):
            labels.append(listener.model.labels)
            if second in contents:
                book.write_bytes(contents[second])
                listener.reload(lambda: replace(before, lessons=str(book)))
            yield block

    heard = list(listener.hear(blocks(), lambda settings: None))
    assert "gl" not in labels[10]
    assert all("gl" in labels[second] for second in range(12, 31))
    assert "gl" not in labels[-1]
    segments: list[Any] = [segment for each in heard for segment in each.finished]
    assert (segments[0].start_s, segments[-1].end_s) == (0.0, 40.0)
    assert all(one.end_s == other.start_s for one, other in pairwise(segments))


def test_models_of_whole_windows_cannot_be_taught(graphs: Graphs) -> None:
    with pytest.raises(EdgelidError, match="takes whole windows"):
        LessonExtractor(read_model(SECOND_OPINIONS["large"]), graphs)
