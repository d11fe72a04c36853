"""The configuration: what it says of itself, what it refuses, and who overrides whom."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config import ConfigError, ListenSettings, parsed, variable
from edge.decoder import MAX_HOLD_S
from edge.errors import EdgelidError
from edge.model.modelfile import SECOND_OPINIONS
from edge.outputs.eventlog import EventLog
from edge.outputs.settings import (
    FIELDS,
    NEED_RESTART,
    Settings,
    check_use,
    documented,
    read_settings,
    reference,
)
from edge.service.unit import Service
from tests.edge.permissions import closed

Edgelid = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edgelid.toml"


def problems(file: Path, text: str) -> list[str]:
    file.write_text(text)
    with pytest.raises(ConfigError) as failure:
        check_use(read_settings(file, {}, {}), str(file))
    return failure.value.problems


def test_the_documented_file_is_the_defaults(file: Path) -> None:
    file.write_text(documented())
    assert list(tomllib.loads(documented())) == list(FIELDS)
    assert read_settings(file, {}, {}) == Settings()
    check_use(Settings(), str(file))


def test_every_key_is_explained() -> None:
    lines = documented().splitlines()
    for row in reference():
        assert row["meaning"].endswith(".")
        place = next(i for i, line in enumerate(lines) if line.startswith(f"{row['key']} = "))
        assert lines[place - 1].startswith("# ")
    assert set(FIELDS) > NEED_RESTART


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('langauges = ["de"]', "there is no key 'langauges': did you mean 'languages'?"),
        ('logfile = "x"', "did you mean 'log_files'?"),
        ('colour = "x"', "there is no key 'colour': see `edgelid config show`."),
        ('[edgelid]\nlog = "x"', "there is no section [edgelid]: leave this line out"),
        ('input = "-"\ndevice = "USB"', "input and device exclude each other"),
        ('input = "none.wav"', "none.wav' does not exist"),
        ('log = "/"', "'/' cannot be written"),
        ('log = "edgelid.toml"', "is no event log"),
        ('web = "8080"\nweb_token_file = "edgelid.toml"', "token is no good"),
        ('log_file_bytes = "big"', 'log_file_bytes must be a whole number, not "big".'),
        ("log_file_bytes = 1e6", "log_file_bytes must be a whole number, not 1000000.0."),
        ("threads = true", "threads must be a whole number, not true."),
        ("threads = 0", "threads must be from 1 to 64, not 0."),
        ("threshold = 60", "threshold must be from 0 to 1, not 60."),
        ("threshold = nan", "threshold must be from 0 to 1, not nan."),
        ('threshold = "high"', 'threshold must be a number, not "high".'),
        ("threshold = true", "threshold must be a number, not true."),
        ("hold = -1", "hold must be from 0 to 30, not -1."),
        ("hold = 30.5", "hold must be from 0 to 30, not 30.5."),
        ("gain = 61", 'gain must be "auto" or from -60 to 60, not 61.'),
        ("gain = 6.0", 'gain must be "auto" or a whole number, not 6.0.'),
        ("gain = true", 'gain must be "auto" or a whole number, not true.'),
        ('gain = "12"', 'gain must be "auto" or a whole number, not "12".'),
        ("second_opinion_share = 0", "second_opinion_share must be from 0.01 to 1, not 0."),
        ("second_opinion = 1", "second_opinion must be a text in quotes, not 1."),
        ('second_opinion = "none.tflite"', "none.tflite' does not exist: check the path."),
        ("record_mb = 7", "record_mb must be from 8 to 1000000, not 7."),
        ("languages = 3", "languages must be a list of texts, not 3."),
        ('languages = "de"', 'languages must be a list of texts, not "de".'),
        ("languages = [1]", "languages must be a list of texts, not [1]."),
        ('languages = ["de", "de"]', "each given once"),
        ('output = "xml"', "output must be one of 'text', 'json', 'none', not \"xml\"."),
        ("device = 1", "device must be a text in quotes, not 1."),
        ("record_in_service = 1", "record_in_service must be true or false, not 1."),
        (
            "log = {path = 'x'}",
            "log must be a text in quotes, not {'path': 'x'}.",
        ),
        ('model = "a\\u0000b"', "without zero bytes"),
        ("model =", "it is not valid TOML"),
        pytest.param(
            "threads = " + "1" * 5_000,
            "it is not valid TOML (a number is too long",
            id="a long number",
        ),
        pytest.param(
            "languages = " + "[" * 5_000,
            "it is not valid TOML (a number is too long, or a list",
            id="a deep list",
        ),
        pytest.param(
            "threads" + ".threads" * 5_000 + " = 1",
            "it is not valid TOML (a line has too many dots).",
            id="a key of many parts",
        ),
        pytest.param("# long\n" * 10_000, "it is larger than 64 KiB.", id="a large file"),
        pytest.param(
            "threads = 0x" + "1" * 5_000,
            "threads must be from 1 to 64, not so long a number.",
            id="a long number of base 16",
        ),
        pytest.param(
            "hold = 0x" + "1" * 5_000,
            "hold must be from 0 to 30, not so long a number.",
            id="the same for seconds",
        ),
        (f"hold = -{10**20}", f"hold must be from 0 to 30, not -{10**20}."),
        pytest.param(
            'web = "' + "1" * 5_000 + '"', "web must be a port, or host and port", id="a long port"
        ),
        ('web = "x"', 'web must be a port, or host and port, such as "8080"'),
        ("web = 8080", "web must be a text in quotes, not 8080."),
        ('web_token_file = "no/such/token"', "web_token_file: there is no folder"),
        ('model = "none.tflite"', "none.tflite"),
        ('languages = ["xx"]', "does not know xx"),
        ('log = "no/such/events.jsonl"', "there is no folder"),
        ('record_to = "nowhere"', "there is no folder"),
    ],
)
def test_one_sentence_a_problem(file: Path, text: str, words: str) -> None:
    (problem,) = problems(file, text)
    assert words in problem
    assert problem.startswith(str(file))
    assert "\n" not in problem


def test_a_package_that_is_missing_is_a_problem(
    edgelid: Edgelid, environment: dict[str, str], file: Path, tmp_path: Path
) -> None:
    for name in ("uvicorn", "paho"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no', name={name!r})")
    file.write_text('web = "8080"\nmqtt = "mqtt://localhost"')
    path = f"{tmp_path}:{environment['PYTHONPATH']}"
    done = edgelid("config", "check", file, env={**environment, "PYTHONPATH": path})
    assert done.returncode == 78
    assert ["edgelid[mqtt]" in line for line in done.stderr.splitlines()] == [True, False]
    assert "edgelid[web]" in done.stderr


def test_a_log_that_is_being_written_is_no_problem(file: Path) -> None:
    path = file.parent / "events.jsonl"
    with EventLog(path, 10_000, 2) as log:
        log.record({"type": "start", "start_s": 0.0})
        before = path.read_bytes()
        file.write_text('log = "events.jsonl"')
        check_use(read_settings(file, {}, {}), str(file))
        assert path.read_bytes() == before


def test_home_is_home(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    at_home = str(tmp_path / "home/x.jsonl")
    file.write_text('log = "~/x.jsonl"\nrecord_to = "~nobody-of-this-name/x"')
    found = read_settings(file, {}, {})
    assert found.log == at_home
    assert found.record_to == str(tmp_path / "~nobody-of-this-name/x")
    assert read_settings(None, {"EDGELID_LOG": "~/x.jsonl"}, {}).log == at_home
    assert read_settings(None, {}, {"log": "~/x.jsonl"}).log == at_home
    with pytest.raises(EdgelidError, match="has no home for ~ to mean: write out the path of log"):
        file.write_text('log = "~/x.jsonl"')
        (tmp_path / "home").mkdir()
        Service("system").unit(file)


def test_home_is_home_in_every_option(
    edgelid: Edgelid, environment: dict[str, str], tmp_path: Path, sample: Path
) -> None:
    """As in ``--corpus=~/speech``, where no shell has made anything of it."""
    home = {**environment, "HOME": str(tmp_path)}
    for words in (
        ["classify", sample, "--second-opinion", "~/large.tflite"],
        ["bench", "--input", sample, "--second-opinion", "~/large.tflite"],
        ["wyoming", "--uri", "tcp://127.0.0.1:0", "--second-opinion", "~/large.tflite"],
    ):
        done = edgelid(*words, env=home)
        assert done.returncode == 1
        assert f"{str(tmp_path / 'large.tflite')!r} does not exist" in done.stderr


def test_an_input_that_cannot_be_heard_is_a_problem(file: Path, sample: Path) -> None:
    (message,) = problems(file, f'input = "{sample}"\nchannel = 2')
    assert "has no channel 2: choose 1" in message
    (message,) = problems(file, 'input = "-"\nchannels = 2\nchannel = 3')
    assert "has no channel 3: choose 1 to 2" in message
    for url in ("rtsp://", "http:///x", "https://[::1"):
        (message,) = problems(file, f'input = "{url}"')
        assert "the input " in message


def test_a_byte_order_mark_is_no_error(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbflanguages = ["de"]\r\n')
    assert read_settings(file, {}, {}) == Settings(languages=("de",))


def test_a_microphone_that_is_named_must_be_there(edgelid: Edgelid, file: Path) -> None:
    file.write_text('device = "no microphone has this name"')
    done = edgelid("config", "check", file)
    assert done.returncode == 78
    assert done.stderr.count("\n") == 1


def test_all_problems_are_told(file: Path) -> None:
    assert len(problems(file, 'threads = 0\nlogg = ""\nrate = 1\n')) == 3
    assert len(problems(file, 'languages = ["xx"]\nlog = "no/such"\nrecord_to = "no"')) == 3


def test_lessons_that_could_not_be_kept_are_a_problem(file: Path, tmp_path: Path) -> None:
    learning = 'learn = true\nsecond_opinion = "large"\n'
    (message,) = problems(file, learning + 'lessons = "no/book"')
    assert f"cannot write {tmp_path / 'no/book'}: No such file or directory." in message
    with closed(tmp_path) as private:
        settings = Settings(learn=True, second_opinion="large", lessons=str(private / "book"))
        with pytest.raises(ConfigError) as failure:
            check_use(settings, "here")
    assert "here: cannot write private/book: Permission denied." in failure.value.problems


def test_folders_that_may_not_be_read_are_a_problem(tmp_path: Path) -> None:
    with closed(tmp_path) as private:
        folder = str(private / "in")
        settings = Settings(log=f"{folder}/events", record_to=folder)
        with pytest.raises(ConfigError) as failure:
            check_use(settings, "here")
    for name in ("log", "record_to"):
        problem = f"here: {name}: {folder!r} cannot be read (Permission denied)."
        assert problem in failure.value.problems


def test_a_file_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "missing.toml", "it cannot be read (No such file or directory)."),
        (tmp_path, "it is a folder."),
        (tmp_path / "pipe", "it is no regular file."),
        (Path("/dev/zero"), "it is no regular file."),
    ):
        with pytest.raises(ConfigError) as failure:
            read_settings(path, {}, {})
        assert failure.value.problems == [f"{path}: {words}"]
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_settings(tmp_path / "bytes.toml", {}, {})


def test_a_decoder_can_hold_as_long_as_it_may() -> None:
    assert parsed(ListenSettings, "hold", f"{MAX_HOLD_S}") == MAX_HOLD_S
    with pytest.raises(ValueError, match=r"from 0 to 30, not '30\.5'"):
        parsed(ListenSettings, "hold", f"{MAX_HOLD_S + 0.5}")


def test_who_overrides_whom(file: Path) -> None:
    file.write_text(
        'threads = 2\nrate = 8000\nchannels = 2\nlanguages = ["de"]\nthreshold = 0.7\nhold = 2'
    )
    environment = {
        "EDGELID_RATE": "44100",
        "EDGELID_CHANNELS": "4",
        "EDGELID_LANGUAGES": "en, fr",
        "EDGELID_HOLD": "2.5",
        "EDGELID_RECORD_IN_SERVICE": "true",
        "EDGELID_CORPUS": "/corpus",
        "EDGELID_SERVICE_HOST": "10.0.0.1",  # Kubernetes
        "PATH": "/bin",
    }
    settings = read_settings(file, environment, {"channels": 8})
    assert settings == Settings(
        threads=2,
        rate=44_100,
        channels=8,
        languages=("en", "fr"),
        threshold=0.7,
        hold=2.5,
        record_in_service=True,
    )
    assert read_settings(None, {}, {}) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("EDGELID_RATE", "fast", "EDGELID_RATE must be a whole number, not 'fast'."),
        ("EDGELID_RATE", "-1", "EDGELID_RATE must be"),
        ("EDGELID_RECORD_IN_SERVICE", "maybe", "must be true or false"),
        ("EDGELID_LANGUAGE", "de", "there is no EDGELID_LANGUAGE: did you mean"),
    ],
)
def test_the_environment_is_checked_too(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_settings(None, {name: text}, {})


def test_a_stream_of_a_network_is_no_path(file: Path) -> None:
    for url in ("rtsp://me@camera/sound", "https://radio.example/live"):
        file.write_text(f'input = "{url}"\ngain = -6\n')
        settings = read_settings(file, {"EDGELID_GAIN": "-12"}, {})
        assert (settings.input, settings.gain) == (url, -12)


def test_paths_are_relative_to_the_file(file: Path) -> None:
    file.write_text('log = "events.jsonl"\nrecord_to = "/var/heard"\ninput = "-"')
    settings = read_settings(file, {}, {})
    assert settings.log == str(file.parent / "events.jsonl")
    assert (settings.record_to, settings.input, settings.model) == ("/var/heard", "-", "")


def test_the_large_model_that_comes_along_is_no_path(file: Path) -> None:
    file.write_text('second_opinion = "large"\n')
    assert read_settings(file, {}, {}).second_opinion == "large"
    file.write_text('second_opinion = "other.tflite"\n')
    assert read_settings(file, {}, {}).second_opinion == str(file.parent / "other.tflite")


def test_the_model_may_be_a_large_one_that_comes_along(file: Path) -> None:
    file.write_text('model = "large"\n')
    settings = read_settings(file, {}, {})
    assert settings.model == "large"
    check_use(settings, str(file))
    assert read_settings(None, {variable("model"): "xlarge"}, {}).model == "xlarge"
    file.write_text('model = "large"\nsecond_opinion = "large"\n')
    with pytest.raises(ConfigError, match="the same model as the first"):
        check_use(read_settings(file, {}, {}), str(file))


# --- the command -----------------------------------------------------------------------------


def test_a_large_model_is_checked_without_its_graph_in_memory(file: Path) -> None:
    path = SECOND_OPINIONS["large"]
    check_use(Settings(), str(file))  # which imports what it needs
    tracemalloc.start()
    try:
        check_use(Settings(model=str(path)), str(file))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < path.stat().st_size / 4


def test_config_show_and_check(edgelid: Edgelid, file: Path) -> None:
    shown = edgelid("config", "show")
    assert (shown.returncode, shown.stderr) == (0, "")
    file.write_text(shown.stdout)
    checked = edgelid("config", "check", file)
    assert (checked.returncode, checked.stderr) == (0, "")
    rows = [json.loads(line) for line in edgelid("config", "show", "--json").stdout.splitlines()]
    assert [row["key"] for row in rows] == list(FIELDS)
    assert rows[0]["environment"] == variable("model") == "EDGELID_MODEL"


def test_config_check_of_a_bad_file(edgelid: Edgelid, file: Path) -> None:
    file.write_text('threads = 0\nlangauges = ["de"]\n')
    done = edgelid("config", "check", file)
    assert (done.returncode, done.stdout) == (78, "")
    first, second = done.stderr.splitlines()
    assert first.startswith(f"edgelid: {file}: threads must be")
    assert second.endswith("did you mean 'languages'?")
    told = json.loads(edgelid("config", "check", "--json", file).stdout)
    assert [f"edgelid: {problem}" for problem in told["problems"]] == [first, second]


def test_listening_by_file_environment_and_command_line(
    edgelid: Edgelid, environment: dict[str, str], file: Path, sample: Path
) -> None:
    file.write_text(f'input = "{sample}"\noutput = "json"\nlanguages = ["de"]\n')

    def languages(*options: str, **more: str) -> set[str]:
        done = edgelid("listen", *options, env={**environment, **more})
        assert (done.returncode, done.stderr) == (0, "")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return {record["language"] for record in found} - {"unknown", "nonspeech", "other"}

    assert languages("--config", str(file)) <= {"de"}
    assert languages(EDGELID_CONFIG=str(file), EDGELID_LANGUAGES="zh") == {"zh"}
    assert languages("--languages", "it", EDGELID_CONFIG=str(file)) == {"it"}


def test_listening_by_a_bad_file(edgelid: Edgelid, file: Path) -> None:
    file.write_text("threads = 0\nrate = 0\n")
    done = edgelid("listen", "--config", file)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("(1 more)\n")
