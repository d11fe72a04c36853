"""A synthetic corpus is made once, goes on where it stopped, and reads like any other."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from train.corpus.cuts import read_audio
from train.corpus.manifest import check_files, open_manifest
from train.synthesis import kokoro, speech
from train.synthesis.speech import ENGINES, Engine, main, make_corpus

LANGUAGES = ("de", "zh", "sv")  # Swedish is no class of the model
SENTENCE_LENGTH = 60
ROOT = Path(__file__).parents[3]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """Three sentences of every language that an engine speaks."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for language in {*LANGUAGES, *speech.ESPEAK_VOICES}:
        lines = [f"{language}{i} ".ljust(SENTENCE_LENGTH - 1, "a") + "." for i in range(3)]
        # Blank lines are no sentences.
        (folder / f"{language}.txt").write_text("\n\n".join([*lines, "", ""]), "utf-8")
    return folder


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """(language, text) of what the engine ``tone`` has been asked to say; it is quick."""
    said: list[tuple[str, str]] = []

    def speak(text: str, language: str, rng: np.random.Generator) -> Float32Array:
        said.append((language, text))
        time_s = np.arange(10 * len(text)) / SAMPLE_RATE_HZ
        return np.sin(2 * np.pi * rng.uniform(200, 900) * time_s).astype(np.float32)

    engine = Engine(LANGUAGES, "CC0-1.0", speak)
    monkeypatch.setattr(speech, "ENGINES", {**ENGINES, "tone": lambda _: engine})
    return said


def make(texts: Path, output: Path, clips: int = 4, engine: str = "tone") -> str:
    return make_corpus(engine, texts, texts, output, clips, workers=1)


def contents(folder: Path) -> dict[str, bytes]:
    """Samples of the clips, as every Ogg file has a random number in it, and the other files."""
    return {
        file.relative_to(folder).as_posix(): (
            read_audio(file).tobytes() if file.suffix == ".opus" else file.read_bytes()
        )
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_a_corpus(texts: Path, tmp_path: Path, spoken: list[tuple[str, str]]) -> None:
    output = tmp_path / "a" / "corpus"
    line = make(texts, output)
    clips = open_manifest(output).clips()
    check_files(clips, output)
    minutes = sum(clip.duration_s for clip in clips) / 60
    assert line == f"{output}: 10 clips, {minutes:.1f} minutes of tone"
    assert Counter(clip.language for clip in clips) == {"de": 4, "zh": 4, "sv": 2}
    assert {clip.language for clip in clips if clip.target} == {"de", "zh"}
    assert len({clip.speaker for clip in clips}) == 10
    (kind,) = {(c.split, c.source, c.kind, c.licence, c.origin) for c in clips}
    assert kind == ("train", "tone-synthetic", "tts", "CC0-1.0", "train.synthetic")
    assert sorted(contents(output)) == sorted(
        ["manifest.tsv", "manifest-tone.tsv", *(clip.path for clip in clips)]
    )
    for clip, (language, text) in zip(clips, spoken, strict=True):
        assert language == clip.language
        samples = read_audio(output / clip.path)
        assert len(samples) == 10 * len(text) == pytest.approx(clip.duration_s * 16e3, abs=8)
        assert 0.15 < np.abs(samples).max() < 1.0


def test_a_clip_says_as_many_sentences_as_it_takes(
    texts: Path, tmp_path: Path, spoken: list[tuple[str, str]]
) -> None:
    make(texts, tmp_path / "corpus")
    wanted = {"de": 3, "sv": 3, "zh": 1}  # of 60 characters, for 150 and for 40
    for language, text in spoken:
        assert len(text) == wanted[language] * (SENTENCE_LENGTH + 1) - 1
        assert text.count(language) == wanted[language]


def test_depends_on_engine_language_and_number_alone(
    texts: Path, tmp_path: Path, spoken: list[tuple[str, str]]
) -> None:
    make(texts, tmp_path / "few", clips=2)
    make(texts, tmp_path / "many")
    few, many = contents(tmp_path / "few"), contents(tmp_path / "many")
    audio = [path for path in few if path.endswith(".opus")]
    assert len(audio) == 5
    assert {path: few[path] for path in audio} == {path: many[path] for path in audio}
    assert len({many[path] for path in many if path.endswith(".opus")}) == 10


def test_goes_on_where_it_stopped(
    texts: Path,
    tmp_path: Path,
    spoken: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(texts, tmp_path / "whole")
    del spoken[:]
    write = speech.write_atomically

    def interrupted(path: Path, data: bytes) -> None:
        if len(spoken) == 7:
            raise KeyboardInterrupt
        write(path, data)

    options = ["--texts", str(texts), "--clips", "4", "--workers", "1"]
    options += ["--output", str(tmp_path / "corpus")]
    with monkeypatch.context() as patch:
        patch.setattr(speech, "write_atomically", interrupted)
        assert main(["--engine", "tone", *options]) == 130
    error = capsys.readouterr().err
    assert error.endswith("train.synthesis.speech: stopped; the same command goes on\n")
    assert len(contents(tmp_path / "corpus")) == 6
    for _ in range(2):  # the second time, all is there
        assert main(["--engine", "tone", *options]) == 0
        assert len(spoken) == 7 + 4
        assert contents(tmp_path / "corpus") == contents(tmp_path / "whole")


def test_fewer_clips_take_none_away(
    texts: Path, tmp_path: Path, spoken: list[tuple[str, str]]
) -> None:
    """A call that asks for less makes nothing, and the manifest keeps what is there."""
    make(texts, tmp_path)
    whole = contents(tmp_path)
    make(texts, tmp_path, clips=2)
    make_corpus("tone", texts, texts, tmp_path, 1, 1, ("sv", "de"))
    assert contents(tmp_path) == whole
    (tmp_path / "zh/tone/0003.opus").unlink()
    make(texts, tmp_path, clips=2)
    clips = open_manifest(tmp_path).clips()
    check_files(clips, tmp_path)
    assert len(clips) == 9


def test_engines_share_a_corpus(
    texts: Path, tmp_path: Path, spoken: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Engine(("de",), "MIT", speech.ENGINES["tone"](texts).speak)
    monkeypatch.setitem(speech.ENGINES, "buzz", lambda _: other)  # type: ignore[index]
    for engine in ("tone", "buzz", "tone"):
        make(texts, tmp_path, clips=2, engine=engine)
    clips = open_manifest(tmp_path).clips()
    assert Counter(clip.source for clip in clips) == {"tone-synthetic": 5, "buzz-synthetic": 2}
    assert Counter(clip.licence for clip in clips) == {"CC0-1.0": 5, "MIT": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the sentences .*zh.txt: No such file or directory"),
        (b"\xff\xfe", "zh.txt are not UTF-8 text"),
        (b"\n \n", "there are no sentences in .*zh.txt"),
    ],
)
def test_a_text_that_is_missing(
    texts: Path,
    tmp_path: Path,
    spoken: list[tuple[str, str]],
    text: bytes | None,
    message: str,
) -> None:
    (texts / "zh.txt").unlink()
    if text is not None:
        (texts / "zh.txt").write_bytes(text)
    with pytest.raises(EdgelidError, match=message):
        make(texts, tmp_path / "corpus")
    assert list(contents(tmp_path / "corpus")) == ["de/tone/0000.opus"]


def test_an_engine_that_stays_silent(
    texts: Path, tmp_path: Path, spoken: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Engine(("de",), "", lambda *_: np.zeros(0, np.float32))
    monkeypatch.setitem(speech.ENGINES, "silent", lambda _: silent)  # type: ignore[index]
    with pytest.raises(EdgelidError, match=r"silent makes no sound of 'de\d a.* in de"):
        make(texts, tmp_path / "corpus", engine="silent")
    assert not contents(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--clips", "0"], "--clips and --workers must be at least 1"),
        (["--workers", "0"], "--clips and --workers must be at least 1"),
        (["--output", "file/corpus"], "cannot make the folder file/corpus: Not a directory"),
        (["--engine", "kokoro"], "voices has 2 Kokoro voices where a blend takes 3: run `npm"),
    ],
)
def test_one_sentence(
    texts: Path,
    tmp_path: Path,
    spoken: list[tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("voices").mkdir()
    for name in ("one", "two"):
        (Path("voices") / f"{name}.bin").touch()
    options = ["--engine", "tone", "--texts", "texts", "--clips", "1", "--workers", "1"]
    options += ["--voices", "voices", "--output", "corpus", *more]
    assert main(options) == 1
    error = capsys.readouterr().err
    assert error.startswith("train.synthesis.speech: ")
    assert message in error
    assert error.count("\n") == 1
    assert not Path("corpus").exists()


def test_pico_is_asked_for_by_name(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "py_nanotts", None)
    with pytest.raises(EdgelidError, match="pip install py-nanotts"):
        make(texts, tmp_path / "corpus", engine="pico")


def test_espeak_is_asked_for_by_name(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EdgelidError, match=r"espeak-ng does not speak de\+\w+: .*No such file"):
        make(texts, tmp_path / "corpus", engine="espeak")


def test_kokoro_blends_voices_and_resamples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.bin").touch()
    asked: list[tuple[str, dict[str, float]]] = []

    def synthesise(
        text: str, accent: str, blend: dict[str, float], speed: float, *, voices_dir: Path
    ) -> Float32Array:
        assert voices_dir == tmp_path
        assert 0.85 <= speed <= 1.25
        asked.append((accent, blend))
        return np.zeros(2 * kokoro.SAMPLE_RATE_HZ, np.float32)

    monkeypatch.setattr(kokoro, "synthesise", synthesise)
    engine = ENGINES["kokoro"](tmp_path)
    assert set(engine.languages) <= set(kokoro.LANGUAGES)
    rng = np.random.default_rng(0)
    for language in ("de", *["en"] * 9):
        samples = engine.speak("text", language, rng)
        assert (samples.dtype, len(samples)) == (np.float32, 2 * SAMPLE_RATE_HZ)
    assert {accent for accent, _ in asked} == {"de", "en", "en-gb"}
    assert {len(blend) for _, blend in asked} == {2, 3}
    for _, blend in asked:
        assert set(blend) <= set("abcd")
        assert sum(blend.values()) == pytest.approx(1)


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs the command espeak-ng")
def test_espeak_in_processes(texts: Path, tmp_path: Path) -> None:
    """The real engine, by the command as it is typed."""
    command = [sys.executable, "-m", "train.synthesis.speech", "--engine", "espeak", "--clips", "1"]
    command += ["--texts", str(texts), "--output", str(tmp_path / "corpus"), "--workers", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    clips = open_manifest(tmp_path / "corpus").clips()
    assert [clip.language for clip in clips] == [
        code for code in speech.ESPEAK_VOICES if code in speech.TARGETS
    ]
    for clip in clips:
        info = soundfile.info(tmp_path / "corpus" / clip.path)
        assert (info.samplerate, info.channels) == (SAMPLE_RATE_HZ, 1)
        assert clip.duration_s == pytest.approx(info.duration, abs=0.001)
        assert clip.duration_s > 1


@pytest.mark.skipif(
    not importlib.util.find_spec("py_nanotts"), reason="needs the package py-nanotts"
)
def test_pico(texts: Path, tmp_path: Path) -> None:
    make(texts, tmp_path / "corpus", clips=1, engine="pico")
    clips = open_manifest(tmp_path / "corpus").clips()
    assert sorted(clip.language for clip in clips) == sorted(speech.PICO_VOICES)
    assert min(clip.duration_s for clip in clips) > 1
    assert len(os.listdir(tmp_path / "corpus")) == len(clips) + 2


def test_some_languages(texts: Path, tmp_path: Path, spoken: list[tuple[str, str]]) -> None:
    make_corpus("tone", texts, texts, tmp_path / "out", 2, 1, ("sv", "de"))
    assert [language for language, _ in spoken] == ["sv", "de", "de"]
    with pytest.raises(EdgelidError, match="does not speak nl here"):
        make_corpus("tone", texts, texts, tmp_path / "out", 2, 1, ("nl", "de"))
