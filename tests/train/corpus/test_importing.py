"""``edgelid-train import``: from published corpora to manifests."""

from __future__ import annotations

import fcntl
import os
import resource
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

import train.corpus.importing
from tests.train.corpus.importers.trees import make, table
from train.cli import main
from train.corpus.importers import NAMES
from train.corpus.importing import LOCK
from train.corpus.manifest import Clip, open_manifest

HEAD = "client_id\tpath\tsentence\tlocale"


def common_voice(root: Path, locale: str, **tables: list[tuple[str, str]]) -> None:
    """Tables of (speaker, clip), and lengths of 2 s."""
    for name, rows in tables.items():
        lines = [f"{speaker}\t{clip}.mp3\tx\t{locale}" for speaker, clip in rows]
        table(root / locale / f"{name}.tsv", HEAD, *lines)
    clips = sorted({clip for rows in tables.values() for _, clip in rows})
    table(root / locale / "clip_durations.tsv", *(f"{clip}.mp3\t2000" for clip in clips))


def sound(path: Path, seconds: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(16_000 * seconds), np.float32), 16_000)


def imported(*arguments: object) -> list[Clip]:
    """What a command that succeeds writes."""
    assert main(["import", *map(str, arguments)]) == 0
    return open_manifest(arguments[arguments.index("-o") + 1]).clips()  # type: ignore[arg-type]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_common_voice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "cv", tmp_path / "cv.parquet"
    common_voice(
        root,
        "de",
        train=[("anna", "1")],
        dev=[("bo", "2")],
        test=[("cia", "3")],
        validated=[("anna", "1"), ("bo", "4"), ("cia", "5"), ("dan", "6")],
    )
    clips = imported("common-voice", root, "-o", out)
    assert [(clip.path, clip.split, clip.target) for clip in clips] == [
        ("de/clips/3.mp3", "test", True),
        ("de/clips/2.mp3", "dev", True),
        ("de/clips/1.mp3", "train", True),
        ("de/clips/6.mp3", "train", True),
    ]
    assert {clip.duration_s for clip in clips} == {2.0}
    assert open_manifest(out).root == root
    assert capsys.readouterr().out.split("\n")[:2] == [
        "  language     clips     hours  speakers     train       dev      test",
        "        de         4      0.00         4         2         1         1",
    ]
    assert left(tmp_path) == ["cv", "cv.parquet"]


def test_who_speaks_two_languages_stays_where_he_is_held_out_most(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    common_voice(tmp_path, "de", train=[("anna", "1"), ("bo", "2")], dev=[("cia", "3")])
    common_voice(tmp_path, "en", train=[("cia", "4"), ("bo", "5")], test=[("anna", "6")])
    clips = imported("common-voice", tmp_path, "-o", tmp_path / "m.parquet")
    assert [(clip.path[9:10], clip.split) for clip in clips] == [
        ("3", "dev"),
        ("2", "train"),
        ("6", "test"),
        ("5", "train"),
    ]
    assert "left out: 2 clips of 2 speakers" in caplog.text


def test_a_video_of_dev_is_no_training(tmp_path: Path) -> None:
    make(
        tmp_path,
        "de/aaa---0000.000-0003.500.wav",
        "de/bbb---0000.000-0003.500.wav",
        "dev/de/aaa---0010.000-0013.500.wav",
    )
    clips = imported("voxlingua107", tmp_path, "-o", tmp_path / "m.parquet")
    assert [(clip.speaker, clip.split) for clip in clips] == [
        ("voxlingua107:bbb", "train"),
        ("voxlingua107:aaa", "dev"),
    ]


def test_lengths_are_measured_and_a_split_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for speaker, seconds in (("anna", 0.5), ("bo", 1.5), ("cia", 2.5)):
        sound(tmp_path / "home" / "de" / speaker / "1.wav", seconds)
    out = tmp_path / "m.parquet"
    clips = imported("folders", tmp_path / "home", "-o", out, "--workers", 2)
    assert [(clip.speaker, clip.duration_s) for clip in clips] == [
        ("home:anna", 0.5),
        ("home:bo", 1.5),
        ("home:cia", 2.5),
    ]
    hint = f"no dev split: edgelid-train split {out} -o {out}\n"
    assert capsys.readouterr().out.endswith(hint)
    assert main(shlex.split(hint.partition("edgelid-train ")[2])) == 0
    (clip,) = imported("folders", tmp_path / "home", "-o", out, "--min-s", 1, "--max-s", 2)
    assert clip.speaker == "home:bo"


def test_languages(tmp_path: Path) -> None:
    for locale in ("de", "sv-SE", "en"):
        common_voice(tmp_path, locale, train=[("anna", "1")])
    out = tmp_path / "m.parquet"
    clips = imported("common-voice", tmp_path, "-o", out, "--languages", "sv-SE,deu")
    assert [clip.language for clip in clips] == ["de", "sv"]


def hours_tree(root: Path) -> Path:
    common_voice(
        root,
        "de",
        train=[("anna", f"a{i}") for i in range(40)] + [(f"s{i}", f"b{i}") for i in range(8)],
        test=[("eve", f"t{i}") for i in range(30)],
    )
    common_voice(root, "en", train=[("zoe", f"z{i}") for i in range(5)])
    return root


def test_hours_keep_as_many_speakers_as_there_is_time_for(tmp_path: Path) -> None:
    root, out = hours_tree(tmp_path / "cv"), tmp_path / "m.parquet"
    clips = imported("common-voice", root, "-o", out, "--hours", 24 / 3600)
    train = [clip for clip in clips if (clip.language, clip.split) == ("de", "train")]
    # 12 clips of 2 s: one of each of the nine, and the rest of who has more.
    assert Counter(clip.speaker for clip in train) == {
        "common-voice:anna": 4,
        **{f"common-voice:s{i}": 1 for i in range(8)},
    }
    others = Counter((clip.language, clip.split) for clip in clips)
    assert (others["de", "test"], others["en", "train"]) == (30, 5)


def test_hours_are_drawn_by_the_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = hours_tree(tmp_path / "cv"), tmp_path / "m.parquet"

    def draw(*options: object) -> set[str]:
        clips = imported("common-voice", root, "-o", out, "--hours", 8 / 3600, *options)
        return {clip.path for clip in clips if (clip.language, clip.split) == ("de", "train")}

    first = draw()
    assert len(first) == 4
    assert first == draw("--languages", "de")
    assert any(first != draw("--seed", seed) for seed in (1, 2, 3))
    monkeypatch.setattr(train.corpus.importing, "PART_ROWS", 7)
    assert first == draw()


def test_faults_are_named_and_nothing_is_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.parquet"
    common_voice(tmp_path / "cv", "de", train=[("anna", f"{i}") for i in range(5)])
    with (tmp_path / "cv" / "de" / "train.tsv").open("a") as file:
        file.write("short\n" * 30)
    assert main(["import", "common-voice", str(tmp_path / "cv"), "-o", str(out)]) == 1
    assert "de/train.tsv, line 7: 1 fields where 4 are named" in caplog.messages
    assert len(caplog.messages) == train.corpus.importing.SHOWN_FAULTS + 1
    assert caplog.messages[-1] == "faults in all: 30"
    assert "nothing was written, for 30 fault(s)" in capsys.readouterr().err
    assert left(tmp_path) == ["cv"]


def test_skip_bad_lists_them_all(tmp_path: Path) -> None:
    out, listed = tmp_path / "m.parquet", tmp_path / "m.parquet.faults.tsv"
    root = tmp_path / "home"
    sound(root / "de" / "anna" / "1.wav", 1)
    make(root, "de/anna/2.wav", "xx/anna/3.wav")
    assert len(imported("folders", root, "-o", out, "--skip-bad")) == 1
    first, second = listed.read_text().splitlines()
    assert first == "xx\t'xx' is no code of a language"
    assert second.startswith("de/anna/2.wav\tno audio that libsndfile can read")
    (root / "de" / "anna" / "2.wav").unlink()
    (root / "xx" / "anna" / "3.wav").unlink()
    (root / "xx" / "anna").rmdir()
    (root / "xx").rmdir()
    imported("folders", root, "-o", out, "--skip-bad")
    assert not listed.exists()  # or it would speak of another manifest


def test_a_name_that_is_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "de/anna/1.wav")
    with open(os.fsencode(tmp_path / "de") + b"/\xff.wav", "wb"):
        pass
    assert main(["import", "folders", str(tmp_path), "-o", str(tmp_path / "m.parquet")]) == 1
    assert "de/?.wav: its name is not UTF-8 text" in caplog.messages


def test_without_standard_error(tmp_path: Path) -> None:
    sound(tmp_path / "de" / "anna" / "1.wav", 1)
    command = [sys.executable, "-m", "train.cli", "import", "folders", tmp_path, "-o"]
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command, tmp_path / "m.parquet"]
    assert subprocess.run(shell, check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = hours_tree(tmp_path / "cv"), tmp_path / "m.parquet"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        status = main(["import", "common-voice", str(root), "-o", str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 1
    assert f"cannot read {root} or write {out}: " in capsys.readouterr().err
    assert left(tmp_path) == ["cv"]


def test_a_missing_file_matters_only_where_it_is_measured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    common_voice(tmp_path, "de", train=[("anna", "1")])
    out = tmp_path / "m.parquet"
    imported("common-voice", tmp_path, "-o", out)
    before = out.read_bytes()
    (tmp_path / "de" / "clip_durations.tsv").unlink()
    assert main(["import", "common-voice", str(tmp_path), "-o", str(out)]) == 1
    assert "de/clips/1.mp3: no such file" in caplog.messages
    assert out.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_the_corpus(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "nothing"
    root.mkdir()
    assert main(["import", name, str(root), "-o", str(tmp_path / "m.parquet")]) == 1
    assert f"has no clips of {name}: it takes " in capsys.readouterr().err
    assert left(tmp_path) == ["nothing"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--languages", "de,xx"], "'xx' is no code of a language"),
        (["--hours", "0"], "--hours must be above zero"),
        (["--hours", "nan"], "--hours must be above zero"),
        (["--min-s", "3", "--max-s", "2"], "--min-s must be"),
        (["--max-s", "1"], "no clip is left"),
        (["--languages", "fr"], "has no clips in fr: it has de"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["-o", "m.tsv"], "must end in .parquet"),
        (["-o", "none/m.parquet"], "cannot write none/m.parquet"),
    ],
)
def test_bad_options(
    tmp_path: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    common_voice(tmp_path, "de", train=[("anna", "1")])
    out = str(tmp_path / "m.parquet")
    assert main(["import", "common-voice", str(tmp_path), "-o", out, *options]) == 1
    assert message in capsys.readouterr().err
    assert left(tmp_path) == ["de"]


def test_not_over_data_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound(tmp_path / "home" / "de" / "1.wav", 1.0)
    out = tmp_path / "m.parquet"
    out.write_bytes(b"PAR1 of somebody")
    arguments = ["import", "folders", str(tmp_path / "home"), "-o", str(out)]
    assert main(arguments) == 1
    assert "exists, and is no manifest of edgelid" in capsys.readouterr().err
    assert out.read_bytes() == b"PAR1 of somebody"
    out.unlink()
    assert main(arguments) == main(arguments) == 0  # the second time over its own


def test_a_word_is_a_language_to_who_names_it(tmp_path: Path) -> None:
    sound(tmp_path / "home" / "dev" / "1.wav", 1.0)
    out = tmp_path / "m.parquet"
    assert main(["import", "folders", str(tmp_path / "home"), "-o", str(out)]) == 1
    (clip,) = imported("folders", tmp_path / "home", "-o", out, "--languages", "dev")
    assert clip.language == "dev"


def test_what_is_no_recording_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    sound(tmp_path / "home" / "de" / "1.wav", 1.0)
    make(tmp_path / "home", "de/a.txt", "de/b.txt", "de/c.jpg")
    imported("folders", tmp_path / "home", "-o", tmp_path / "m.parquet")
    assert "left out, as they are no recordings of a language: 2 .txt files, 1 .jpg" in caplog.text


@pytest.mark.parametrize("options", [["--skip-bad"], ["--min-s", "2"]])
def test_a_language_that_comes_out_empty(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    sound(tmp_path / "home" / "de" / "1.wav", 3.0)
    make(tmp_path / "home", "sv/1.wav")
    if "--min-s" in options:
        sound(tmp_path / "home" / "sv" / "1.wav", 1.0)
    out = tmp_path / "m.parquet"
    assert main(["import", "folders", str(tmp_path / "home"), "-o", str(out), *options]) == 1
    assert "no clip is left in sv" in capsys.readouterr().err
    assert left(tmp_path) == ["home"]


def test_languages_that_are_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound(tmp_path / "home" / "de" / "1.wav", 3.0)
    sound(tmp_path / "home" / "zh-CN" / "1.wav", 3.0)
    arguments = ["import", "folders", str(tmp_path / "home"), "-o", str(tmp_path / "m.parquet")]
    assert main([*arguments, "--languages", "de,sv"]) == 1
    assert "has no clips in sv: it has de, zh" in capsys.readouterr().err


def test_what_a_killed_import_has_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """But not what another one is working in."""
    sound(tmp_path / "home" / "de" / "1.wav", 1.0)
    for name in ("killed", "busy"):
        (tmp_path / f".m.parquet.{name}").mkdir()
        (tmp_path / f".m.parquet.{name}" / LOCK).touch()
    with (tmp_path / ".m.parquet.busy" / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        imported("folders", tmp_path / "home", "-o", tmp_path / "m.parquet")
    assert left(tmp_path) == [".m.parquet.busy", "home", "m.parquet"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_import_that_is_told_to_end_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "home" / "de").mkdir(parents=True)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import train.corpus.importers.folders as folders\n"
        "from train.cli import main\n"
        "def rows(root):\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "    yield from ()\n"
        "folders.rows = rows\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["import", "folders", str(tmp_path / "home"), "-o", str(tmp_path / "m.parquet")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert done.stderr == "edgelid-train: stopped; nothing was written\n"
    assert left(tmp_path) == ["home"]
