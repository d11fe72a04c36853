"""``edgelid-train own``: from a folder of recordings to a model file."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import train.own
from tests.synthetic import speech, write_audio
from tests.train.corpus.importers.trees import make
from train.cli import main
from train.corpus.manifest import write_parquet
from train.own import Own


def record(root: Path, language: str, speakers: int, takes: int = 3, seconds: float = 6.0) -> None:
    """Recordings of tones that rise or fall, in the format of phones if it can be had."""
    for number in range(speakers):
        for take in range(takes):
            file = root / language / f"p{number}" / f"Recording {take}.wav"
            write_audio(file, speech(language, f"{language}{number}", take, seconds))
            phone = file.with_suffix(".m4a")
            command = ["ffmpeg", "-v", "error", "-i", file, "-ar", "48000", "-c:a", "aac", phone]
            if shutil.which("ffmpeg"):
                subprocess.run(command, check=True)
                file.unlink()


def own(root: Path, output: Path, *more: str) -> int:
    return main(["own", str(root), "-o", str(output), *more])


@pytest.mark.slow
def test_one_speaker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "home", "de", 2, takes=1)
    record(tmp_path / "home", "en", 1, takes=1)
    assert own(tmp_path / "home", tmp_path / "m.tflite") == 1
    assert "one speaker only of en" in capsys.readouterr().err
    assert not (tmp_path / "m.tflite").exists()
    # What was done is kept, and is about these recordings.
    write_audio(tmp_path / "home" / "en" / "new.wav", speech("en", "new", 0, 3.0))
    assert own(tmp_path / "home", tmp_path / "m.tflite") == 1
    assert "has changed since" in capsys.readouterr().err
    assert own(tmp_path / "home", tmp_path / "m.tflite", "--languages", "sv") == 1


def test_one_language(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "home", "de", 2, takes=1)
    assert own(tmp_path / "home", tmp_path / "m.tflite") == 1
    assert "in de alone, which there is nothing to tell from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        ("none", [], "none is no folder"),
        ("home", ["-o", "model.bin"], "must end in .tflite"),
        ("home", ["--workers", "0"], "--workers must be at least 1"),
        ("home", ["--languages", ","], "--languages must be codes"),
        ("home", ["--hours", "0"], "--hours must be above zero"),
        ("home", ["--hours", "nan", "--dry-run"], "--hours must be above zero"),
        ("home", ["-o", "none/m.tflite", "--dry-run"], "cannot write none/m.tflite"),
        ("home", ["--work", "."], ". holds other things already"),
        ("home", ["--work", "home"], "--work home would lie among the recordings in home"),
        ("home", ["--work", "home/de/../steps"], "steps would lie among the recordings in home"),
        ("home", ["-o", "home/m.tflite"], "-o home/m.tflite would lie among the recordings"),
        ("home", ["-o", "home/m.tflite", "--dry-run"], "name a place outside that folder"),
        ("home", ["--cache", "home/cache"], "--cache home/cache would lie among the recordings"),
        ("home", ["-o", "home/diary.tflite"], "exists, and is no model file of edgelid"),
    ],
)
def test_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    root: str,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_audio(Path("home/de/1.wav"), speech("de", "a", 0, 1.0))
    Path("home/diary.tflite").write_text("dear diary")
    assert own(Path(root), Path("m.tflite"), *options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert Path("home/diary.tflite").read_text() == "dear diary"


def test_a_model_among_the_recordings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder of the steps would be taken for that of a language; also where links hide it."""
    write_audio(tmp_path / "home" / "de" / "1.wav", speech("de", "a", 0, 1.0))
    (tmp_path / "link").symlink_to("home")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home" / "out").symlink_to("../elsewhere")
    monkeypatch.chdir(tmp_path / "home")
    for root, output, *more in (
        (".", "model.tflite"),
        ("../link", "model.tflite"),
        (".", "../link/model.tflite"),
        (".", "../model.tflite", "--work", "out"),
    ):
        assert own(Path(root), Path(output), *more) == 1
        assert f"would lie among the recordings in {root}:" in capsys.readouterr().err
    assert sorted(os.listdir()) == ["de", "out"]
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "home", "link"]


def test_no_recordings_leave_no_folder(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "mine").mkdir()
    assert own(tmp_path / "home", tmp_path / "m.tflite") == 1
    assert own(tmp_path / "home", tmp_path / "m.tflite", "--work", str(tmp_path / "mine")) == 1
    assert sorted(os.listdir(tmp_path)) == ["home", "mine"]


def test_a_dry_run_is_of_the_languages_that_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also below splits, of which `dev` is the code of a language as well."""
    home = make(tmp_path / "home", "train/da/1.wav", "train/zh-CN/2.wav", "dev/da/3.wav")
    ran: list[list[str]] = []
    monkeypatch.setattr(train.own, "_run", ran.append)
    train.own.foresee(Own(home, tmp_path / "m.tflite", tmp_path / "work"))
    ((*_, option, languages, last),) = ran
    assert (option, languages, last) == ("--languages", "da,zh", "--dry-run")


@pytest.mark.parametrize(
    ("scarcest_h", "languages", "config", "more"),
    [
        (1.2, (), "own.toml", []),
        (0.8, (), "own-few.toml", ["--freeze", "trunk"]),
        (0.8, ("de", "en"), "own.toml", []),  # which it is not of
    ],
)
def test_how_much_speech_decides_what_learns(
    scarcest_h: float, languages: tuple[str, ...], config: str, more: list[str], tmp_path: Path
) -> None:
    work = Own(tmp_path, tmp_path / "m.tflite", tmp_path, languages=languages)
    hours = {"de": 1.5, "en": 1.1, "sv": scarcest_h}
    held_out = {"split": ["dev"], "seconds": [9000.0]}  # which nothing is learnt from
    parts = [
        pl.DataFrame(
            {
                "path": [f"{language}/{split}.wav"],
                "language": [language],
                "target": [True],
                "speaker": [f"{language} {split}"],
                "source": ["home"],
                "kind": ["human"],
                "licence": [""],
                "origin": [""],
                **columns,
            }
        )
        for language in hours
        for split, columns in (
            ("train", {"split": ["train"], "seconds": [3600 * hours[language]]}),
            ("dev", held_out),
        )
    ]
    write_parquet(pl.concat(parts).lazy(), work.divided, tmp_path)
    plan = train.own._plan(work)
    assert (Path(plan[0]).name, plan[1:]) == (config, ["--init", "shipped", *more])


def rows_in(*languages: str) -> pl.DataFrame:
    """A clip of each language."""
    fixed = {"split": "test", "target": True, "source": "home", "kind": "human"}
    return pl.DataFrame(
        [
            {"path": f"{each}.wav", "language": each, "speaker": each, "seconds": 3.0, **fixed}
            | {"licence": "", "origin": ""}
            for each in languages
        ]
    )


@pytest.mark.parametrize(
    ("labels", "said", "other"),
    [
        (
            ["da", "other", "nonspeech"],
            "right for 50.0% (15.0–85.0) of 3 s of speech (95 % interval), 8 stretches of 4 "
            "speakers whom it has not learnt from, `other` and `nonspeech` being possible answers",
            "  speech in other languages that is taken for da: 25%",
        ),
        (
            ["da", "sv", "other", "nonspeech"],
            "right for 100.0% (51.0–100.0) of 3 s of speech (95 % interval), 8 stretches of 4 "
            "speakers whom it has not learnt from, chance 50%",
            "  da: 100%",
        ),
    ],
)
def test_one_language_is_not_always_right(
    labels: list[str], said: str, other: str, tmp_path: Path
) -> None:
    """Among one any answer would be: all classes are possible then."""
    work = Own(tmp_path, tmp_path / "m.tflite", tmp_path)
    write_parquet(rows_in("da", "sv").lazy(), work.divided, tmp_path)
    closed = {
        "balanced_accuracy": 1.0,
        "intervals": {"balanced_accuracy": [1.0, 1.0]},
        "speakers": 4,
        "cuts": 8,
        "by_language": {language: {"accuracy": 1.0} for language in labels[:-2]},
    }
    opened = {
        "balanced_accuracy": 0.5,
        "intervals": {"balanced_accuracy": [0.25, 0.75]},
        "cuts": 8,
    }
    report = {
        "labels": labels,
        "durations": {"3": {"languages": closed, "open": opened}},
        "open_set": {"at_decoder_confidence": {"strangers_accepted": 0.25}},
    }
    work.report.write_text(json.dumps(report))
    told = list(train.own._verdict(work, "test"))
    assert told[1:3] == [said, other]


def test_a_language_that_nobody_speaks_for_so_long(tmp_path: Path) -> None:
    """It stays a possible answer, and that nothing is known of it is said."""
    work = Own(tmp_path, tmp_path / "m.tflite", tmp_path)
    write_parquet(rows_in("da", "fi", "sv").lazy(), work.divided, tmp_path)
    closed = {
        "balanced_accuracy": 0.5,
        "intervals": {"balanced_accuracy": [0.5, 0.5]},
        "speakers": 4,
        "cuts": 8,
        "by_language": {"da": {"accuracy": 0.25}, "sv": {"accuracy": 0.75}},
    }
    labels = ["da", "fi", "no", "sv", "other", "nonspeech"]
    report = {"labels": labels, "durations": {"3": {"languages": closed, "open": closed}}}
    work.report.write_text(json.dumps(report))
    told = list(train.own._verdict(work, "test"))
    assert told[1].endswith("whom it has not learnt from, chance 25%")
    unknown = "not known, as nobody held out says 3 s of it"
    assert told[2:6] == ["  da: 25%", f"  fi: {unknown}", f"  no: {unknown}", "  sv: 75%"]


HANGS_UP = """
import os, signal, time
os.kill(os.getppid(), signal.SIGHUP)
try:
    time.sleep(SECONDS)
except KeyboardInterrupt:
    open("stopped", "w").close()
"""


@pytest.mark.parametrize("is_ignored", [False, True])
def test_a_terminal_that_is_closed_stops_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ignored: bool
) -> None:
    """And no child goes on alone; but with nohup all goes on."""

    def unmoved(*_: object) -> None:
        """Without which a failure of this would end the tests."""

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setitem(train.own.PROGRAMS, "edgelid-hang", "hangs_up")
    seconds = "0" if is_ignored else "5"
    (tmp_path / "hangs_up.py").write_text(HANGS_UP.replace("SECONDS", seconds))
    handler = signal.SIG_IGN if is_ignored else unmoved
    before = signal.signal(signal.SIGHUP, handler)
    try:
        with contextlib.nullcontext() if is_ignored else pytest.raises(KeyboardInterrupt):
            train.own._run(["edgelid-hang", "up"])
        assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)
    assert Path("stopped").exists() != is_ignored


# Tones are learnt in fewer steps than languages.
QUICK = {
    "\nsteps = 600": "\nsteps = 120",
    "learning_rate = 1e-3": "learning_rate = 4e-3",
    "warmup_steps = 50": "warmup_steps = 10",
    "evaluate_every_steps = 100": "evaluate_every_steps = 60",
}
QUICKER = """
import sys
from pathlib import Path

import train.own
from train.cli import main

train.own.CONFIGS = Path.cwd()
sys.exit(main())
"""


@pytest.mark.slow
def test_from_phones_to_a_model(tmp_path: Path) -> None:
    """It is stopped on its way, goes on, tells how good it is, and runs."""
    for language in ("de", "en"):
        record(tmp_path / "home", language, 5)
    text = (train.own.CONFIGS / "own-few.toml").read_text()
    for usual, quick in QUICK.items():
        assert usual in text
        text = text.replace(usual, quick)
    (tmp_path / "own-few.toml").write_text(text)
    command = [sys.executable, "-c", QUICKER, "own", "home", "-o", "mine.tflite"]
    command += ["--cache", "cache"]
    variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    begun = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=variables,
        cwd=tmp_path,
        text=True,
    )
    assert begun.stdout is not None
    for line in begun.stdout:
        if line.startswith("$ edgelid-train fit"):
            begun.terminate()
            break
    begun.communicate(timeout=300)
    assert begun.returncode == 130
    noted = json.loads((tmp_path / "mine.own" / "own.json").read_text())
    assert list(noted["done"]) == ["import", "validate", "split"]
    done = subprocess.run(
        command,
        capture_output=True,
        check=False,
        timeout=3000,
        env=variables,
        cwd=tmp_path,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "$ edgelid-train import" not in done.stdout
    *_, kept, last = done.stdout.splitlines()
    assert kept.startswith("kept: mine.own")
    assert last == "to listen: edgelid listen --model mine.tflite"
    assert "% (" in done.stdout
    assert "speakers whom it has not learnt from, chance 50%" in done.stdout
    report = json.loads((tmp_path / "mine.own" / "report.json").read_text())
    assert report["labels"] == ["de", "en", "other", "nonspeech"]
    assert report["split"] == "test"
    assert report["durations"]["3"]["languages"]["balanced_accuracy"] > 0.8
    recording = next((tmp_path / "home" / "en").rglob("Recording*"))
    heard = subprocess.run(
        [sys.executable, "-m", "edge.cli", "classify", recording, "--model", "mine.tflite"],
        capture_output=True,
        check=False,
        env=variables,
        cwd=tmp_path,
        text=True,
    )
    assert heard.returncode == 0
    assert heard.stdout.split()[0] == "en"
