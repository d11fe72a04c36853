"""The command as people and programs meet it, and whatever they may get wrong.

Every test runs it in a process of its own. A fault is one sentence on standard error, the right
exit status, and nothing half-written on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge import __version__
from edge.config import ConfigError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.modelfile import DEFAULT_MODEL, MODELS, SECOND_OPINIONS, ModelFile
from edge.offline import LEAST_S

Done = subprocess.CompletedProcess[str]
Edgelid = Callable[..., Done]  # the fixture that runs it


def assert_complete_lines(text: str, as_json: bool) -> None:
    assert text == "" or text.endswith("\n")
    for line in text.splitlines() if as_json else ():
        json.loads(line)


def assert_is_a_sentence(line: str) -> None:
    assert line.startswith("edgelid: ")
    assert line.endswith(".")


def sentence(done: Done, status: int = 1, as_json: bool = False) -> str:
    """The only line on standard error of a run that failed."""
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.splitlines()
    assert_is_a_sentence(line)
    assert_complete_lines(done.stdout, as_json)
    return line


def records(done: Done, status: int = 0) -> list[dict[str, Any]]:
    assert done.returncode == status, done.stderr
    assert_complete_lines(done.stdout, as_json=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(kind: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [record for record in found if record["type"] == kind]


# --- listen ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard(edgelid: Edgelid, sample: Path) -> list[dict[str, Any]]:
    """What the sample is, as programs read it."""
    done = edgelid("listen", "--json", "--input", sample)
    assert done.stderr == ""
    return records(done)


def test_segments_tile_the_sample(heard: list[dict[str, Any]], speech: Float32Array) -> None:
    segments = of_type("segment", heard)
    assert {record["type"] for record in heard} <= {"segment", "change"}
    assert list(segments[0]) == ["type", "language", "start_s", "end_s", "confidence", "time"]
    assert segments[0]["start_s"] == 0.0
    assert segments[-1]["end_s"] == round(len(speech) / SAMPLE_RATE_HZ, 3)
    for before, after in pairwise(segments):
        assert before["end_s"] == after["start_s"]


def test_people_read_the_same(heard: list[dict[str, Any]], edgelid: Edgelid, sample: Path) -> None:
    done = edgelid("listen", "--input", sample)
    assert (done.returncode, done.stderr) == (0, "")
    languages = [line.split()[3] for line in done.stdout.splitlines()]
    assert languages == [segment["language"] for segment in of_type("segment", heard)]
    assert "\x1b" not in done.stdout  # it is no terminal


@pytest.mark.parametrize(
    ("option", "lengths_s"),
    [(["--windows", "1,5"], [1.0, 5.0]), (["--windows"], [1.0, 3.0, 10.0])],
)
def test_windows_are_told_besides(
    heard: list[dict[str, Any]],
    edgelid: Edgelid,
    sample: Path,
    option: list[str],
    lengths_s: list[float],
    model: ModelFile,
) -> None:
    found = records(edgelid("listen", "--json", "--input", sample, *option))
    windows = of_type("window", found)
    assert [window["window_s"] for window in windows[: len(lengths_s)]] == lengths_s
    assert {window["window_s"] for window in windows} == set(lengths_s)
    assert list(windows[0]["probabilities"]) == list(model.labels)
    ends_s = sorted({window["end_s"] for window in windows})
    assert len(windows) == len(lengths_s) * len(ends_s)
    without_time = [{k: v for k, v in record.items() if k != "time"} for record in found]
    assert [record for record in without_time if record["type"] != "window"] == [
        {k: v for k, v in record.items() if k != "time"} for record in heard
    ]


def test_only_the_languages_asked_for_are_answered(edgelid: Edgelid, sample: Path) -> None:
    found = records(edgelid("listen", "--json", "--languages", "de, zh", "--input", sample))
    told = {record["language"] for record in found}
    assert told <= {"de", "zh", "other", "nonspeech", "unknown"}
    assert {"zh", "other"} <= told  # what else is spoken is another language


def pcm(samples: Float32Array) -> bytes:
    return (samples * 32_767).astype("<i2").tobytes()


def test_standard_input(edgelid: Edgelid, speech: Float32Array, tmp_path: Path) -> None:
    stereo_8_khz = np.repeat(speech[: 6 * SAMPLE_RATE_HZ : 2], 2)
    (tmp_path / "raw.pcm").write_bytes(pcm(stereo_8_khz))
    options = ["--input", "-", "--rate", "8000", "--channels", "2"]
    with open(tmp_path / "raw.pcm", "rb") as file:
        done = edgelid("listen", "--json", *options, stdin=file)
    assert done.stderr == ""
    assert of_type("segment", records(done))[-1]["end_s"] == 6.0


def test_lessons_that_could_not_be_kept_are_told_at_the_start(
    edgelid: Edgelid, sample: Path, tmp_path: Path
) -> None:
    book = tmp_path / "no" / "book"
    learning = ("--learn", "--second-opinion", "large", "--lessons", book)
    done = edgelid("listen", *learning, "--input", sample)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1:] == [
        f"edgelid: cannot write {book}: No such file or directory."
    ]


# --- the other commands ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory, speech: Float32Array) -> Path:
    """A folder of audio files, good and bad."""
    folder = tmp_path_factory.mktemp("recordings")
    short = speech[16_000:48_000]  # 2 s

    def write(name: str, samples: Float32Array, rate_hz: int = SAMPLE_RATE_HZ) -> Path:
        soundfile.write(folder / name, samples, rate_hz, subtype="FLOAT")
        return folder / name

    write("good.wav", short)
    write("8-channels.wav", np.tile(short[:, None], (1, 8)))
    write("8-kHz.wav", short[::2], 8_000)
    write("192-kHz.wav", np.repeat(short, 12), 192_000)
    write("one-sample.wav", short[:1])
    whole = write("truncated.wav", short).read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    bad = short.copy()
    bad[20_000] = np.nan
    write("nan.wav", bad)
    write("no-samples.wav", short[:0])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("Es war einmal ein Text.\n" * 100)
    (folder / "header.wav").write_bytes(whole[:30])
    (folder / "sub").mkdir()
    soundfile.write(folder / "sub" / "deep.flac", short, SAMPLE_RATE_HZ)
    (folder / "notes.txt").touch()
    return folder


GOOD = {
    "good.wav": 2.0,
    "8-channels.wav": 2.0,
    "8-kHz.wav": 2.0,
    "192-kHz.wav": 2.0,
    "one-sample.wav": 0.0,
    "sub/deep.flac": 2.0,
}
TRUNCATED = {"truncated.wav": 1.0}
BAD = {
    "nan.wav": "no numbers",
    "no-samples.wav": "0 samples",
    "empty.wav": "0 bytes",
    "text.wav": "not audio",
    "header.wav": "not audio",
}


def test_classify_answers_for_every_file(
    edgelid: Edgelid, recordings: Path, model: ModelFile
) -> None:
    missing = recordings / "missing.wav"
    done = edgelid("classify", "--json", recordings, missing)
    found = {record["path"]: record for record in records(done, status=1)}
    assert len(found) == len(GOOD) + len(TRUNCATED) + len(BAD) + 1
    for name, duration_s in {**GOOD, **TRUNCATED}.items():
        record = found[str(recordings / name)]
        keys = ["path", "language", "confidence", "probabilities", "duration_s", "speech_s"]
        keys += ["stretches", "shares"]
        assert list(record) == keys + ["shortfall"] * (name in TRUNCATED)
        assert list(record["probabilities"]) == list(model.labels)
        assert record["confidence"] == max(record["probabilities"].values())
        sure = record["confidence"] >= model.description.decoder.confidence
        if not sure or duration_s < LEAST_S:
            assert record["language"] == "unknown"
        else:
            assert record["confidence"] == record["probabilities"][record["language"]]
        assert 0 <= record["speech_s"] <= record["duration_s"]
        assert sum(record["probabilities"].values()) == pytest.approx(1.0, abs=1e-3)
        assert record["duration_s"] == pytest.approx(duration_s, abs=0.01)
    for name, words in {**BAD, "missing.wav": "does not exist"}.items():
        record = found[str(recordings / name)]
        assert list(record) == ["path", "error"]
        assert words in record["error"]
    complaints = done.stderr.splitlines()
    assert len(complaints) == len(BAD) + 2  # the missing one, and a warning of the truncated one
    assert sum("truncated" in line for line in complaints) == 1
    assert "Traceback" not in done.stderr


def test_classify_for_people(edgelid: Edgelid, recordings: Path) -> None:
    done = edgelid("classify", recordings / "good.wav", recordings / "sub")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert re.fullmatch(rf"\S+ +.+ \d+%  +2\.0 s  {recordings / 'good.wav'}", first)
    assert second.endswith(str(recordings / "sub" / "deep.flac"))


def test_classify_tells_the_languages_of_a_recording(edgelid: Edgelid, sample: Path) -> None:
    (record,) = records(edgelid("classify", "--json", sample))
    assert record["language"] == "unknown"  # it is in six
    spoken = {part["language"] for part in json.loads(sample.with_suffix(".json").read_text())}
    assert {part["language"] for part in record["stretches"]} - {"unknown"} == spoken
    assert list(record["stretches"][0]) == ["language", "start_s", "end_s", "confidence"]
    assert record["stretches"][-1]["end_s"] == record["duration_s"]
    assert sum(record["shares"].values()) == pytest.approx(1.0, abs=1e-3)
    assert next(iter(record["shares"])) == "en"  # two turns
    done = edgelid("classify", sample)
    assert re.search(r"\(languages: en \d+%, .*\)$", done.stdout.rstrip())


def test_classify_by_another_threshold(edgelid: Edgelid, recordings: Path) -> None:
    good = recordings / "good.wav"
    (sure,) = records(edgelid("classify", "--json", "--threshold", "0.01", good))
    (unsure,) = records(edgelid("classify", "--json", "--threshold", "1", good))
    clipped = recordings / "clipped.wav"
    samples, rate_hz = soundfile.read(good)
    soundfile.write(clipped, np.clip(1000 * samples, -1, 1), rate_hz)
    (doubted,) = records(edgelid("classify", "--json", clipped))
    (told,) = records(edgelid("classify", "--json", "--threshold", "0", clipped))
    assert (doubted["language"] == "unknown") > (told["language"] == "unknown")
    clipped.unlink()
    assert sure["language"] in sure["probabilities"]
    assert unsure["language"] == "unknown"
    assert unsure["probabilities"] == sure["probabilities"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--threshold", "60"), "--threshold: must be from 0 to 1, not '60'"),
        (("--threshold", "nan"), "--threshold: must be from 0 to 1, not 'nan'"),
        (("--threshold", "high"), "--threshold: must be a number, not 'high'"),
    ],
)
@pytest.mark.parametrize("command", ["listen", "classify"])
def test_impossible_thresholds(
    edgelid: Edgelid, sample: Path, command: str, options: tuple[str, str], words: str
) -> None:
    done = edgelid(command, *options, *(("--input",) if command == "listen" else ()), sample)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


# --- with a second opinion; the compact model serves as its own -------------------------------


def without_times(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in each.items() if k not in ("time", "took_s")} for each in found]


def test_listening_to_a_file_with_a_second_opinion(
    edgelid: Edgelid, sample: Path, own_second: Path
) -> None:
    command = ["listen", "--json", "--windows", "--input", sample]
    second = ["--second-opinion", own_second, "--second-opinion-share", "0.5"]
    plain = records(edgelid(*command))
    runs = [records(edgelid(*command, *second)) for _ in range(2)]
    assert without_times(runs[0]) == without_times(runs[1])
    of_windows = [[r for r in run if r["type"] == "window"] for run in (plain, runs[0])]
    assert without_times(of_windows[0]) == without_times(of_windows[1])
    assert not any({"by", "took_s"} & {*record} for record in plain)
    told = [record for record in runs[0] if record["type"] != "window"]
    assert {record["by"] for record in told} == {"compact", "second opinion"}
    for record in told:
        expected = record["type"] == "change" and record["by"] == "second opinion"
        assert ("took_s" in record) == expected
    people = edgelid("listen", "--input", sample, *second)
    assert (people.returncode, people.stderr) == (0, "")
    assert "  by second opinion" in people.stdout


def test_classify_with_a_second_opinion(edgelid: Edgelid, sample: Path, own_second: Path) -> None:
    (plain,) = records(edgelid("classify", "--json", sample))
    (record,) = records(edgelid("classify", "--json", "--second-opinion", own_second, sample))
    assert list(record) == [*plain, "by", "compact", "second_opinions", "took_s"]
    assert record["compact"] == {key: plain[key] for key in ("language", "confidence")}
    assert record["second_opinions"] > 10


@pytest.mark.parametrize("command", ["listen", "classify"])
def test_a_second_opinion_that_cannot_be_had(
    edgelid: Edgelid, sample: Path, tmp_path: Path, command: str
) -> None:
    inputs = ["--input", sample] if command == "listen" else [sample]
    done = edgelid(command, *inputs, "--second-opinion", tmp_path / "none.tflite")
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not exist: check the path." in sentence(done)
    done = edgelid(command, *inputs, "--second-opinion", "huge")
    assert "there is no second opinion 'huge': choose large, xlarge or a file." in sentence(done)
    done = edgelid(command, *inputs, "--second-opinion", "h" * 300)
    assert "choose large, xlarge or a file." in sentence(done)


def test_lessons_that_are_none(edgelid: Edgelid, sample: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for a writer, perhaps for ever
    for lessons, words in (
        (tmp_path / "pipe", "no regular file: give a file."),
        ("l" * 300, "File name too long"),
    ):
        for command in (["listen", "--input", sample], ["classify", sample]):
            assert words in sentence(edgelid(*command, "--lessons", lessons))


@pytest.mark.parametrize("model", [None, "large"])
@pytest.mark.parametrize("command", ["listen", "classify"])
def test_a_model_is_no_second_opinion_of_its_own(
    edgelid: Edgelid, sample: Path, command: str, model: str | None
) -> None:
    inputs = ["--input", sample] if command == "listen" else [sample]
    second: list[str | Path] = ["--second-opinion", model or DEFAULT_MODEL]
    first = [] if model is None else ["--model", model]
    done = edgelid(command, *inputs, *first, *second)
    assert done.stdout == ""
    another = "large" if model is None else "xlarge"
    told = sentence(done, ConfigError.status if command == "listen" else 1)
    assert f'the same model as the first: give another, such as "{another}".' in told


def test_an_impossible_share(edgelid: Edgelid, sample: Path) -> None:
    done = edgelid("listen", "--input", sample, "--second-opinion-share", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--second-opinion-share: must be from 0.01 to 1" in done.stderr


def test_a_hold_leaves_fewer_events(edgelid: Edgelid, sample: Path) -> None:
    changes = [
        [
            record["language"]
            for record in records(edgelid("listen", "--json", "--input", sample, "--hold", hold))
            if record["type"] == "change"
        ]
        for hold in ("0", "5")
    ]
    assert "unknown" in changes[0]
    # Silence may be shorter than the hold, and what is told in error is; no passage is.
    passing = {"unknown", "nonspeech"}
    assert "unknown" not in changes[1]
    spoken = ["en", "es", "fr", "zh", "it", "pt", "en"]
    assert [x for x in changes[1] if x not in passing] == spoken
    assert len(changes[0]) > len(changes[1])
    done = edgelid("listen", "--input", sample, "--hold", "31")
    assert (done.returncode, "--hold: must be from 0 to 30" in done.stderr) == (2, True)


def test_files_for_want_of_ffmpeg_are_told_once(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path
) -> None:
    for name in ("a.m4a", "b.3gp", "c.mp4"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypM4A " + bytes(1_000))
    env = {**environment, "PATH": "/nowhere"}
    done = edgelid("classify", "--json", tmp_path, env=env)
    found = records(done, status=1)
    assert ["which needs the program ffmpeg" in record["error"] for record in found] == [True] * 3
    told = sentence(done, as_json=True)
    assert "3 files were not read" in told
    assert "and 2 more): sudo apt install ffmpeg." in told


def test_the_level_and_the_channel_of_files(
    edgelid: Edgelid, speech: Float32Array, tmp_path: Path
) -> None:
    part = speech[16_000:96_000]
    for name, peak_db in (("quiet", -50), ("faint", -60)):
        quiet = 10 ** (peak_db / 20) / np.abs(part).max() * part
        soundfile.write(tmp_path / f"{name}.wav", quiet, SAMPLE_RATE_HZ, subtype="FLOAT")
    soundfile.write(tmp_path / "both.wav", np.stack([quiet, part], 1), SAMPLE_RATE_HZ)
    for command in (["classify"], ["listen", "--input"]):
        # Automatic gain has a bound; without it the warning begins where recognition suffers then.
        for name, options in (
            ("faint", []),
            ("faint", ["--gain", "auto"]),
            ("quiet", ["--gain", "0"]),
        ):
            done = edgelid(*command, tmp_path / f"{name}.wav", *options)
            (told,) = done.stderr.splitlines()
            assert done.returncode == 0
            assert "far too quiet" in told
        for name, options in (
            ("quiet", []),
            ("faint", ["--gain", "40"]),
            ("both", ["--channel", "2"]),
            ("both", []),
        ):
            done = edgelid(*command, tmp_path / f"{name}.wav", *options)
            assert (done.returncode, done.stderr) == (0, "")
        done = edgelid(*command, tmp_path / "both.wav", "--channel", "1")
        assert "far too quiet" in done.stderr


def test_a_folder_without_audio(edgelid: Edgelid, tmp_path: Path) -> None:
    done = edgelid("classify", "--json", tmp_path)
    (record,) = records(done, status=1)
    assert "without any audio files" in record["error"]
    assert "without any audio files" in sentence(done, as_json=True)


def test_a_path_is_not_taken_for_a_word(edgelid: Edgelid, tmp_path: Path) -> None:
    (tmp_path / "xlarge").write_bytes(DEFAULT_MODEL.read_bytes())
    (facts,) = records(edgelid("info", "--json", "./xlarge", cwd=tmp_path))
    assert facts["path"] == "xlarge"
    assert facts["name"] == "edgelid-9"


def test_info(edgelid: Edgelid, model: ModelFile) -> None:
    done = edgelid("info", "--json")
    (facts,) = records(done)
    assert done.stderr == ""
    assert facts["labels"] == list(model.labels)
    assert facts["sha256"] == model.sha256
    assert facts["windows_s"] == [1.0, 3.0, 10.0]
    assert "delegate" in facts["interpreter"]
    by_duration = facts["metrics"].get("accuracy_by_duration", {})
    assert list(by_duration) == sorted(by_duration, key=float)
    (large,) = records(edgelid("info", "--json", "large"))
    assert large["path"] == str(SECOND_OPINIONS["large"])
    for_people = edgelid("info", DEFAULT_MODEL)
    assert for_people.stderr == ""
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in for_people.stdout.splitlines())
    assert rows["windows"] == "1 s, 3 s, 10 s"
    assert rows["sha256"] == model.sha256
    if by_duration:
        assert re.findall(r"(\S+) s: ", rows["macro accuracy"]) == list(by_duration)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux' /proc")
def test_info_leaves_the_graph_of_a_large_model_on_disk(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path
) -> None:
    """Of which there is a word where there is no place for it."""
    env = {**environment, "TMPDIR": str(tmp_path / "none")}
    done = edgelid("info", "--verbose", SECOND_OPINIONS["large"], env=env)
    assert done.returncode == 0
    assert "graph in memory, as there is no place on disk" in done.stderr


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_needs_no_numpy(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('numpy was imported')")
    done = edgelid(option, env=ahead(environment, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert __version__ in done.stdout or "COMMAND" in done.stdout


# --- bad audio -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(BAD))
def test_audio_that_cannot_be_used(edgelid: Edgelid, recordings: Path, name: str) -> None:
    done = edgelid("listen", "--json", "--input", recordings / name)
    assert BAD[name] in sentence(done, as_json=True)
    segments = of_type("segment", [json.loads(line) for line in done.stdout.splitlines()])
    # What came before the first bad sample has been heard.
    assert len(segments) >= 1 if name == "nan.wav" else done.stdout == ""


@pytest.mark.parametrize("path", ["missing.wav", "no/such/folder.wav", "", "two\nlines.wav", "sub"])
def test_a_file_that_is_none(edgelid: Edgelid, recordings: Path, path: str) -> None:
    done = edgelid("listen", "--input", path, cwd=recordings)
    assert repr(path) in sentence(done)
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["8-channels.wav", "8-kHz.wav", "192-kHz.wav", "one-sample.wav"])
def test_unusual_audio(edgelid: Edgelid, recordings: Path, name: str) -> None:
    done = edgelid("listen", "--json", "--input", recordings / name)
    assert done.stderr == ""
    last = of_type("segment", records(done))[-1]
    assert last["end_s"] == pytest.approx(GOOD[name], abs=0.01)


def test_truncated_audio(edgelid: Edgelid, recordings: Path) -> None:
    done = edgelid("listen", "--json", "--input", recordings / "truncated.wav")
    assert of_type("segment", records(done))[-1]["end_s"] == pytest.approx(1.0, abs=0.01)
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("edgelid: ")
    assert "truncated" in warning


def test_a_damaged_mp3(edgelid: Edgelid, speech: Float32Array, tmp_path: Path) -> None:
    """Its decoder prints to standard error whatever it stumbles over."""
    path = tmp_path / "damaged.mp3"
    soundfile.write(path, speech[: 6 * SAMPLE_RATE_HZ], SAMPLE_RATE_HZ)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 500] = np.random.default_rng(0).bytes(500)
    path.write_bytes(data)
    done = edgelid("listen", "--json", "--input", path)
    assert of_type("segment", records(done))
    assert all(line.startswith("edgelid: ") for line in done.stderr.splitlines())
    assert len(done.stderr.splitlines()) <= 1


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        (b"", [], "ended without any audio"),
        (b"x", [], "ended without any audio"),
        (b"RIFF\x24\0\0\0WAVEfmt ", [], "carries WAV instead"),
        (b"FORM\0\0\0\x24AIFFCOMM", [], "carries AIFF instead"),
        (b"ID3\x03" + bytes(20), [], "carries MP3 instead"),
        (b"\0\0\0\x18ftypM4A ", [], "carries MPEG-4 instead"),
    ],
)
def test_standard_input_that_is_no_audio(
    edgelid: Edgelid, data: bytes, options: list[str], words: str
) -> None:
    done = edgelid("listen", "--input", "-", *options, input=data.decode())
    assert words in sentence(done)


def test_standard_input_that_ends_within_a_sample(edgelid: Edgelid) -> None:
    done = edgelid("listen", "--json", "--input", "-", input="\0" * 32_001)
    assert of_type("segment", records(done))[-1]["end_s"] == 1.0
    ending, level = done.stderr.splitlines()
    assert "in the middle of a sample" in ending
    assert "nothing but digital silence" in level


# --- bad models ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of model files that are none."""
    folder = tmp_path_factory.mktemp("models")
    whole = DEFAULT_MODEL.read_bytes()
    random = np.random.default_rng(0).bytes(len(whole))
    (folder / "truncated").write_bytes(whole[: len(whole) // 2])
    (folder / "random").write_bytes(random)
    (folder / "random-behind-a-header").write_bytes(whole[:8] + random)
    return folder


@pytest.mark.parametrize(
    ("command", "name", "words"),
    [
        (["info"], "missing", "does not exist"),
        (["info", "--json"], "random", "no TFLite model"),
        (["info"], "random-behind-a-header", "no edgelid metadata"),
        (["listen", "--json", "--input", "SAMPLE", "--model"], "truncated", "truncated"),
        (["classify", "--json", "SAMPLE", "--model"], "truncated", "truncated"),
    ],
)
def test_a_model_that_is_none(
    edgelid: Edgelid, sample: Path, damaged_models: Path, command: list[str], name: str, words: str
) -> None:
    arguments = [str(sample) if word == "SAMPLE" else word for word in command]
    done = edgelid(*arguments, damaged_models / name)
    assert words in sentence(done)
    assert done.stdout == ""


def test_a_model_of_another_format_version(edgelid: Edgelid, tmp_path: Path) -> None:
    path = tmp_path / "newer.tflite"
    whole = DEFAULT_MODEL.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"PK\x03\x04", 0, whole.index(b"labels.txt"))])
    with zipfile.ZipFile(DEFAULT_MODEL) as old, zipfile.ZipFile(path, "a") as new:
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, re.sub(rb'("format_version": )\d+', rb"\g<1>7", content))
    assert "it has format version 7, and this edgelid reads 1" in sentence(edgelid("info", path))


# --- bad options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["sing"], "invalid choice: 'sing'"),
        (["classify"], "the following arguments are required: FILE"),
        (["listen", "--windows", "one"], "must be seconds, such as 1,3,10"),
        (["listen", "--windows", "1,,3"], "must be seconds"),
        (["listen", "--threads", "many"], "--threads: must be a whole number, not 'many'"),
        (["listen", "--threads", "0"], "--threads: must be from 1 to 64, not '0'"),
        (["listen", "--threads", "65"], "--threads: must be from 1 to 64, not '65'"),
        (["classify", "--threads", "-1", "x"], "--threads: must be from 1 to 64, not '-1'"),
        (["listen", "--rate", "999"], "--rate: must be from 1000 to 384000, not '999'"),
        (["listen", "--rate", "1e4"], "--rate: must be a whole number, not '1e4'"),
        (["listen", "--channels", "0"], "--channels: must be from 1 to 1024, not '0'"),
        (["listen", "--channels", "100000000"], "must be from 1 to 1024, not '100000000'"),
        (["listen", "--channel", "9" * 5000], "--channel: must be a whole number"),
        (["listen", "--channel", "1025"], "--channel: must be from 0 to 1024, not '1025'"),
        (["listen", "--web", "99999"], "--web: must be a port, or host and port"),
        (["bench", "--threads", "0"], "--threads: must be from 1 to 64, not '0'"),
        (["bench", "--threads", "1,1000000"], "--threads: must be from 1 to 64"),
        (["bench", "--hop-ms", "9" * 400], "--hop-ms: must be from 1 to 60000"),
        (["classify", ""], "FILE: must not be empty: check the path"),
        (["classify", "-"], "FILE: '-' is a stream, and no file: follow it with `edgelid listen"),
        (["classify", "http://a/b.mp3"], "FILE: 'http://a/b.mp3' is a stream, and no file"),
        (["teach", "de", "rtsp://a"], "FILE: 'rtsp://a' is a stream, and no file"),
        (["info", ""], "MODEL: must not be empty: check the path"),
        (["report", "-o", "", "x"], "must not be empty: check the path"),
        (["listen", "--model", ""], "--model: must not be empty: check the path"),
        (["listen", "--lessons", ""], "--lessons: must not be empty: check the path"),
        (["classify", "--lessons", "", "a"], "--lessons: must not be empty: check the path"),
        (["info", "--lessons", ""], "--lessons: must not be empty: check the path"),
        (["config", "check", ""], "FILE: must not be empty: check the path"),
        (["listen", "--loud"], "unrecognized arguments: --loud: see `edgelid listen --help`"),
        (
            ["listen", "a.wav"],
            "unrecognized arguments: a.wav: give a recording with --input FILE, or to "
            "`edgelid classify`: see `edgelid listen --help`",
        ),
        (["devices", "x"], "unrecognized arguments: x: see `edgelid devices --help`"),
        (["config", "show", "x"], "unrecognized arguments: x: see `edgelid config show --help`"),
        (["--loud", "devices"], "unrecognized arguments: --loud: see `edgelid --help`"),
    ],
)
def test_wrong_usage(edgelid: Edgelid, arguments: list[str], words: str) -> None:
    done = edgelid(*arguments)
    message = sentence(done, status=2)
    assert words in message
    assert "--help`." in message
    assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "-jingle.wav"],
        ["classify", "a.wav", "-jingle.wav"],
        ["listen", "--input", "-jingle.wav"],
    ],
)
def test_a_file_whose_name_begins_as_options_do(
    edgelid: Edgelid, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "-jingle.wav").touch()
    done = edgelid(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert ": the file -jingle.wav is given as ./-jingle.wav: see" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--windows", "0"], "a window of 0 s is not possible: choose 0.04 to 60 s."),
        (["--windows", "1,nan"], "a window of nan s is not possible"),
        (["--windows", "3,1e9"], "a window of 1e+09 s is not possible"),
        (["--languages", "de,xx"], "the model does not know xx: choose from"),
        (["--languages", ""], "--languages needs at least one language"),
        (["--languages", ","], "--languages needs at least one language"),
        (["--rate", "44100"], "--rate and --channels are those of raw PCM: add --input -"),
        (["--channels", "1"], "--rate and --channels are those of raw PCM: add --input -"),
        (["--second-opinion-share", "0.5"], "--second-opinion-share needs --second-opinion"),
        (["--channel", "2"], "has no channel 2: choose 1, or leave it out."),
    ],
)
def test_impossible_options(edgelid: Edgelid, sample: Path, options: list[str], words: str) -> None:
    done = edgelid("listen", "--json", "--input", sample, *options)
    assert words in sentence(done)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("options", "setting", "words"),
    [
        (["--device", "0"], 'device = "0"', "input and device exclude each other"),
        (
            ["--learn"],
            "learn = true",
            "second_opinion and lessons (--second-opinion and --lessons).",
        ),
    ],
)
def test_what_does_not_go_together(
    edgelid: Edgelid, sample: Path, tmp_path: Path, options: list[str], setting: str, words: str
) -> None:
    """A service that was configured so must not be started again and again."""
    config = tmp_path / "edgelid.toml"
    config.write_text(f"{setting}\n")
    for given in (options, ["--config", config]):
        done = edgelid("listen", "--json", "--input", sample, *given)
        assert words in sentence(done, ConfigError.status)
        assert done.stdout == ""


def test_options_that_nothing_would_come_of(edgelid: Edgelid, sample: Path) -> None:
    done = edgelid("teach", "en", sample, "--device", "0")
    assert "files and --device exclude each other" in sentence(done)


def test_windows_are_for_programs(edgelid: Edgelid, sample: Path) -> None:
    assert "add --json" in sentence(edgelid("listen", "--windows", "1", "--input", sample))


def test_impossible_options_of_classify(edgelid: Edgelid, sample: Path) -> None:
    assert "does not know xx" in sentence(edgelid("classify", "--languages", "xx", sample))
    done = edgelid("classify", "--languages", ",", sample)
    assert "--languages needs at least one language" in sentence(done)
    assert "no channel 2" in sentence(edgelid("classify", "--channel", "2", sample))


@pytest.mark.parametrize("named", ["de,zh", "DE, Chinese", "deutsch,中文", "de-AT,cmn,zh_TW"])
def test_languages_by_name_or_code(edgelid: Edgelid, sample: Path, named: str) -> None:
    (record,) = records(edgelid("classify", "--json", "--languages", named, sample))
    impossible = {label for label, share in record["probabilities"].items() if share == 0.0}
    assert {"en", "fr"} <= impossible
    assert not {"de", "zh"} & impossible


# --- names of files that a terminal would obey ---------------------------------------------------


NAMES = [b"caf\xe9.wav", b"\x1b[31mred.wav", b"bell\x07\x9b31m.wav", "\x9b31m\u202e.wav".encode()]


@pytest.mark.parametrize("bad", [False, True])
def test_names_of_any_bytes(edgelid: Edgelid, tmp_path: Path, recordings: Path, bad: bool) -> None:
    paths = [os.fsencode(tmp_path / os.fsdecode(name)) for name in NAMES]
    for path in paths:
        with open(path, "wb") as file:
            file.write(b"text" if bad else (recordings / "good.wav").read_bytes())
    for options in ((), ("--json",), ("--verbose",)):
        done = edgelid("classify", *options, *map(os.fsdecode, paths), encoding=None)
        assert done.returncode == bad
        for text in (done.stdout.decode(), done.stderr.decode()):  # they are UTF-8
            assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        if options == ("--json",):
            told = [json.loads(line)["path"] for line in done.stdout.splitlines()]
            assert [*map(os.fsencode, told)] == paths


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_any_bytes(
    edgelid: Edgelid, tmp_path: Path, recordings: Path, name: bytes
) -> None:
    log = tmp_path / "events.jsonl"
    folder = tmp_path / os.fsdecode(name + b".d")
    folder.mkdir()
    done = edgelid(
        *("listen", "--json", "--record-to", folder, "--log", log),
        *("--input", recordings / "good.wav"),
        encoding=None,
    )
    assert done.returncode == 0
    for line in (done.stdout.splitlines()[0], log.read_bytes().splitlines()[1]):
        assert os.fsencode(json.loads(line)["folder"]) == os.fsencode(folder)


def test_options_of_any_bytes(edgelid: Edgelid) -> None:
    done = edgelid("classify", "--\x1b[31m", "x", "--threads", "\x1b]0;")
    assert "\x1b" not in sentence(done, status=2)


# --- no microphone ---------------------------------------------------------------------------


def ahead(environment: dict[str, str], folder: Path) -> dict[str, str]:
    """An environment in which modules of a folder are found first."""
    return {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{environment['PYTHONPATH']}"}


NO_PORTAUDIO = 'raise OSError("PortAudio library not found")'
NO_PACKAGE = "raise ModuleNotFoundError(\"No module named 'sounddevice'\", name='sounddevice')"
SOUNDDEVICE = """
import os, threading, time
from types import SimpleNamespace

class PortAudioError(Exception):
    pass

default = SimpleNamespace(device=({default}, -1))

def query_hostapis():
    return [{{"name": "ALSA"}}]

def query_devices():
    return {devices}

def check_input_settings(samplerate, **settings):
    if samplerate == 48_000:
        raise PortAudioError("Invalid sample rate")

class RawInputStream:
    def __init__(self, samplerate, channels, callback, **settings):
        if {fails}:
            raise PortAudioError("Error opening RawInputStream: Device unavailable")
        self.callback, self.ended = callback, threading.Event()

    active = True

    def start(self):
        self.thread = threading.Thread(target=self.deliver, daemon=True)
        self.thread.start()

    def deliver(self):
        status = SimpleNamespace(input_overflow=False)
        while not self.ended.wait(0.05):  # as fast as a microphone
            os.write(2, b"ALSA lib pcm.c:8570: underrun occurred\\n")
            self.callback(bytes(4 * 800), 800, None, status)

    def abort(self):
        self.ended.set()
        self.thread.join()  # as PortAudio does

    def close(self):
        pass
"""
DEVICE = {
    "name": "USB Audio",
    "hostapi": 0,
    "max_input_channels": 1,
    "default_samplerate": 44_100.0,
}
DEVICES = [{**DEVICE, "name": "Speaker", "max_input_channels": 0}, DEVICE]


def sounddevice(devices: list[dict[str, Any]], fails: bool = False) -> str:
    return SOUNDDEVICE.format(devices=devices, default=1 if devices else -1, fails=fails)


@pytest.fixture
def with_sounddevice(environment: dict[str, str], tmp_path: Path) -> Any:
    """Makes an environment whose module sounddevice has this source."""

    def make(source: str) -> dict[str, str]:
        (tmp_path / "sounddevice.py").write_text(source)
        return ahead(environment, tmp_path)

    return make


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (sounddevice([]), "there is no microphone: plug one in"),
        (NO_PORTAUDIO, "sudo apt install libportaudio2"),
        (NO_PACKAGE, 'pip install "edgelid[edge]"'),
        (sounddevice(DEVICES, fails=True), "does not open"),
    ],
    ids=["no device", "no PortAudio", "no sounddevice", "busy"],
)
def test_no_microphone(edgelid: Edgelid, with_sounddevice: Any, source: str, words: str) -> None:
    done = edgelid("listen", "--json", env=with_sounddevice(source))
    assert words in sentence(done)
    assert done.stdout == ""


@pytest.mark.parametrize("options", [(), ("--json",), ("--json", "--channel", "1")])
def test_the_microphone_is_named_at_the_start(
    edgelid: Edgelid, with_sounddevice: Any, options: tuple[str, ...]
) -> None:
    """On standard error, also where that is a pipe; what PortAudio's thread prints is not there."""
    env = with_sounddevice(sounddevice(DEVICES))
    command = [sys.executable, "-m", "edge.cli", "listen", *options]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, **pipes) as process:  # type: ignore[call-overload]
        line = process.stderr.readline().decode()
        time.sleep(0.5)
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(60) == -signal.SIGTERM
    heard = "channel 1" if "--channel" in options else "1 channel"
    assert line == (
        f"edgelid: listening to the microphone 'USB Audio' (16000 Hz, {heard}); "
        f"`kill {process.pid}` ends it.\n"
    )
    assert b"ALSA" not in rest


@pytest.mark.parametrize("device", ["3", "headset"])
def test_another_microphone(edgelid: Edgelid, with_sounddevice: Any, device: str) -> None:
    done = edgelid("listen", "--device", device, env=with_sounddevice(sounddevice(DEVICES)))
    assert "choose one of 1 'USB Audio'." in sentence(done)
    assert done.stdout == ""


@pytest.mark.parametrize("command", [["listen"], ["teach", "en"]])
def test_no_name_is_the_default_microphone(
    edgelid: Edgelid, with_sounddevice: Any, command: list[str]
) -> None:
    """Though any of several has no name in its own."""
    source = sounddevice([*DEVICES, {**DEVICE, "name": "Headset"}], fails=True)
    done = edgelid(*command, "--device", "", env=with_sounddevice(source))
    assert "'USB Audio'" in sentence(done)
    assert "Headset" not in sentence(done)


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        (sounddevice([]), "there is no device that can record: plug in a microphone."),
        (NO_PORTAUDIO, "sudo apt install libportaudio2"),
        (NO_PACKAGE, 'pip install "edgelid[edge]"'),
    ],
    ids=["no device", "no PortAudio", "no sounddevice"],
)
def test_no_devices(
    edgelid: Edgelid, with_sounddevice: Any, options: list[str], source: str, words: str
) -> None:
    done = edgelid("devices", *options, env=with_sounddevice(source))
    assert words in sentence(done)
    assert done.stdout == ""


def test_the_devices_of_this_host(edgelid: Edgelid) -> None:
    """The real package, be there PortAudio and a microphone or not."""
    done = edgelid("devices", "--json")
    if done.returncode == 0:
        assert records(done)
    else:
        message = sentence(done)
        assert "plug in a microphone" in message or "install" in message


def test_devices(edgelid: Edgelid, with_sounddevice: Any) -> None:
    env = with_sounddevice(sounddevice(DEVICES))
    (record,) = records(edgelid("devices", "--json", env=env))
    assert record == {
        "index": 1,
        "name": "USB Audio",
        "host_api": "ALSA",
        "max_input_channels": 1,
        "default_rate_hz": 44_100,
        "is_default": True,
        "opens": [{"rate_hz": rate_hz, "channels": [1]} for rate_hz in (16_000, 44_100)],
    }
    done = edgelid("devices", env=env)
    assert done.stdout.splitlines() == [
        "*   1  USB Audio  (ALSA, 1 channels, 44100 Hz)",
        "       opens at 16000 Hz x 1, 44100 Hz x 1",
    ]


# --- standard output that cannot be written ----------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["listen", "--input", "SAMPLE"],
        ["listen", "--json", "--windows", "--input", "SAMPLE"],
        ["classify", "SAMPLE"],
        ["classify", "--json", "SAMPLE"],
        ["info"],
        ["info", "--json"],
        ["devices"],
        ["--version"],
        ["listen", "--help"],
    ],
    ids=" ".join,
)
def test_a_full_disk(
    edgelid: Edgelid, sample: Path, with_sounddevice: Any, command: list[str]
) -> None:
    arguments = [str(sample) if word == "SAMPLE" else word for word in command]
    with open("/dev/full", "w") as full:
        done = edgelid(
            *arguments,
            stdout=full,
            stderr=subprocess.PIPE,
            capture_output=False,
            env=with_sounddevice(sounddevice(DEVICES)),
        )
    done.stdout = ""
    assert "standard output cannot be written (No space left on device)" in sentence(done)


@pytest.mark.parametrize("command", [["info"], ["listen", "--json"], ["classify"], ["--help"]])
def test_a_reader_that_has_gone(edgelid: Edgelid, sample: Path, command: list[str]) -> None:
    reading_end, writing_end = os.pipe()
    os.close(reading_end)
    audio: dict[str, list[Any]] = {"listen": ["--input", sample], "classify": [sample]}
    command = command + audio.get(command[0], [])
    with open(writing_end, "w") as pipe:
        done = edgelid(*command, stdout=pipe, stderr=subprocess.PIPE, capture_output=False)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, "")


def test_a_reader_that_goes(environment: dict[str, str], sample: Path) -> None:
    """As in ``| head -1``."""
    # More than a pipe holds is still to come after the first line.
    with started(environment, "listen", "--json", "--windows", "--input", str(sample)) as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == -signal.SIGPIPE


@pytest.mark.parametrize("descriptor", [0, 1, 2])
def test_a_closed_descriptor(edgelid: Edgelid, sample: Path, descriptor: int) -> None:
    source = "-" if descriptor == 0 else sample
    done = edgelid(
        *("listen", "--json", "--input", source), preexec_fn=lambda: os.close(descriptor)
    )
    if descriptor == 0:
        assert "standard input is closed" in sentence(done)
    elif descriptor == 1:
        assert "standard output is closed" in sentence(done)
    else:
        assert of_type("segment", records(done))


def test_a_complaint_without_standard_error(edgelid: Edgelid) -> None:
    done = edgelid("listen", "--input", "missing.wav", preexec_fn=lambda: os.close(2))
    assert (done.returncode, done.stdout) == (1, "")


def test_a_full_disk_behind_standard_error(edgelid: Edgelid, recordings: Path) -> None:
    """What cannot be complained of changes neither the answers nor the exit status."""
    with open("/dev/full", "w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": full, "capture_output": False}
        done = edgelid("classify", "missing.wav", recordings / "good.wav", **streams)
        assert (done.returncode, done.stdout.count("good.wav")) == (1, 1)
        assert edgelid("config", "check", "missing.toml", **streams).returncode == 78
        listen = ("listen", "--input", recordings / "good.wav", "--web", "0")  # which is logged
        assert edgelid(*listen, **streams).returncode == 0


def test_a_full_disk_behind_standard_error_at_the_microphone(with_sounddevice: Any) -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "listen", "--json", "--windows", "1"],
            env=with_sounddevice(sounddevice(DEVICES)),
            stdout=subprocess.PIPE,
            stderr=full,
        )
    with process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        process.terminate()
        process.stdout.read()
    assert process.returncode == -signal.SIGTERM


# --- signals ---------------------------------------------------------------------------------


@contextlib.contextmanager
def started(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command while it runs; it does not outlive the ``with`` block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def wait_for(process: subprocess.Popen[bytes], end_s: float) -> None:
    """Read the windows up to one that ends there."""
    assert process.stdout is not None
    for line in process.stdout:
        record = json.loads(line)
        if record["type"] == "window" and record["end_s"] >= end_s:
            return
    assert process.stderr is not None
    pytest.fail(process.stderr.read().decode())


def assert_ended_properly(process: subprocess.Popen[bytes], number: int) -> dict[str, Any]:
    """Check the rest of the output; returns the last segment."""
    assert process.stdout is not None
    assert process.stderr is not None
    rest = [json.loads(line) for line in process.stdout]
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == -number
    last: dict[str, Any] = rest[-1]
    assert last["type"] == "segment"
    return last


def test_an_interrupt_of_the_imports_ends_it_without_a_word(environment: dict[str, str]) -> None:
    script = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "edge.cli.listen":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from edge.cli import main
sys.exit(main(["schema"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_standard_input_is_silent(
    environment: dict[str, str], speech: Float32Array, number: int
) -> None:
    with started(environment, "listen", "--json", "--windows", "1", "--input", "-") as process:
        assert process.stdin is not None
        process.stdin.write(pcm(speech[: 3 * SAMPLE_RATE_HZ]))
        process.stdin.flush()  # and more may come
        wait_for(process, end_s=2.4)  # the newest windows wait for what follows
        process.send_signal(number)
        last = assert_ended_properly(process, number)
    assert 2.88 <= last["end_s"] <= 3.0


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_in_real_time(environment: dict[str, str], sample: Path, number: int) -> None:
    options = ["--realtime", "--input", str(sample)]
    with started(environment, "listen", "--json", "--windows", "1", *options) as process:
        wait_for(process, end_s=0.3)
        process.send_signal(number)
        last = assert_ended_properly(process, number)
    assert 0.3 < last["end_s"] < 70


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_at_the_microphone(with_sounddevice: Any, number: int) -> None:
    environment = with_sounddevice(sounddevice(DEVICES))
    with started(environment, "listen", "--json", "--windows", "1", "--device", "usb") as process:
        wait_for(process, end_s=1.0)
        assert process.stderr is not None
        assert b"listening to the microphone" in process.stderr.readline()
        process.send_signal(number)
        last = assert_ended_properly(process, number)
    assert last["end_s"] >= 1.0


@pytest.mark.parametrize("module", ["numpy", "soundfile"])
def test_an_interrupt_before_it_listens(
    environment: dict[str, str], edgelid: Edgelid, sample: Path, tmp_path: Path, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"
    )
    done = edgelid("listen", "--input", sample, env=ahead(environment, tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_while_it_classifies(
    environment: dict[str, str], edgelid: Edgelid, recordings: Path, tmp_path: Path
) -> None:
    """What has been answered stays."""
    (tmp_path / "soxr.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = edgelid(
        *("classify", "--json", recordings / "good.wav", recordings / "8-kHz.wav"),
        env=ahead(environment, tmp_path),
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["path"] == str(recordings / "good.wav")


def test_the_model_that_comes_along_is_in_the_package() -> None:
    assert DEFAULT_MODEL.parent == MODELS
    assert DEFAULT_MODEL.is_file()
