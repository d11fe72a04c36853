"""Archives as they are downloaded, and what Hugging Face makes of corpora."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import soundfile

from tests.train.corpus.importers.test_common_voice import NEW, SPONTANEOUS, answer, new
from tests.train.corpus.test_importing import imported, left
from train.cli import main
from train.corpus.manifest import open_manifest


def mp3(seconds: float = 1.0) -> bytes:
    sound = np.random.default_rng(0).normal(0, 0.05, round(16_000 * seconds))
    file = io.BytesIO()
    soundfile.write(file, sound, 16_000, format="MP3")
    return file.getvalue()


def write_tar(file: Path, members: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:gz" if file.suffix == ".gz" else "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def release(locale: str) -> dict[str, bytes]:
    folder = f"cv-corpus-17.0-2024-03-15/{locale}"
    lines = [NEW, new("anna", "1.mp3", locale), new("bo", "2.mp3", locale)]
    return {
        f"{folder}/validated.tsv": "\n".join(lines).encode(),
        f"{folder}/clips/1.mp3": mp3(1.0),
        f"{folder}/clips/2.mp3": mp3(2.0),
        f"{folder}/clips/unconfirmed.mp3": mp3(),
        f"{folder}/README": b"",
        "../../outside.tsv": b"",
    }


def files(root: Path) -> list[str]:
    return sorted(
        Path(parent, name).relative_to(root).as_posix()
        for parent, _, names in os.walk(root)
        for name in names
    )


def test_archives_of_a_release(tmp_path: Path) -> None:
    """Of the wanted languages, and no more of them than the manifest has."""
    for locale in ("sv-SE", "da", "fi"):
        write_tar(tmp_path / "cv" / f"{locale}.tar.gz", release(locale))
    out = tmp_path / "speech.parquet"
    arguments = ("common-voice", tmp_path / "cv", "-o", out, "--languages", "da,sv")
    clips = imported(*arguments)
    assert [(clip.language, clip.speaker, round(clip.duration_s)) for clip in clips] == [
        (language, f"common-voice:{speaker}", seconds)
        for language in ("da", "sv")
        for speaker, seconds in (("anna", 1), ("bo", 2))
    ]
    audio = tmp_path / "speech.audio"
    assert open_manifest(out).root == audio
    assert files(audio) == sorted([".edgelid-import", *(clip.path for clip in clips)])
    assert left(tmp_path) == ["cv", "speech.audio", "speech.parquet"]
    assert imported(*arguments) == clips  # in its own place
    (only, *_) = imported("common-voice", tmp_path / "cv" / "fi.tar.gz", "-o", out)
    assert only.language == "fi"


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    """No table can name it, so it is no clip."""
    members = release("da") | {"cv-corpus-17.0-2024-03-15/da/clips/caf\udce9.mp3": mp3()}
    write_tar(tmp_path / "da.tar", members)
    assert len(imported("common-voice", tmp_path / "da.tar", "-o", tmp_path / "m.parquet")) == 2


def test_archives_of_spontaneous_speech(tmp_path: Path) -> None:
    for locale in ("sv-SE", "da"):
        folder, file = f"sps-corpus-5.0-2026-09-11-{locale}", f"spontaneous-speech-{locale}-1.mp3"
        line = answer("anna", 1).replace("sv-SE", locale)
        members = {
            f"{folder}/ss-corpus-{locale}.tsv": f"{SPONTANEOUS}\n{line}\n".encode(),
            f"{folder}/audios/{file}": mp3(),
            f"{folder}/audios/spontaneous-speech-{locale}-2.mp3": mp3(),  # reported
        }
        write_tar(tmp_path / "in" / f"{folder}.tar.gz", members)
    clips = imported(
        "common-voice", tmp_path / "in", "-o", tmp_path / "m.parquet", "--languages", "sv"
    )
    path = "sps-corpus-5.0-2026-09-11-sv-SE/audios/spontaneous-speech-sv-SE-1.mp3"
    assert [clip.path for clip in clips] == [path]
    assert files(tmp_path / "m.audio") == [".edgelid-import", path]


def test_hugging_faces_archives(tmp_path: Path) -> None:
    root = tmp_path / "common_voice_17_0"
    for split, number in (("train", 1), ("test", 2), ("other", 3)):
        lines = [NEW, new(f"s{number}", f"{number}.mp3", "sv-SE")]
        table = root / "transcript" / "sv-SE" / f"{split}.tsv"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text("\n".join(lines))
        members = {f"sv-SE_{split}_0/{number}.mp3": mp3()}
        write_tar(root / "audio" / "sv-SE" / split / f"sv-SE_{split}_0.tar", members)
    clips = imported("common-voice", root, "-o", tmp_path / "m.parquet")
    assert [(clip.path, clip.split) for clip in clips] == [
        ("sv-SE/clips/2.mp3", "test"),
        ("sv-SE/clips/1.mp3", "train"),
    ]
    assert files(tmp_path / "m.audio") == [
        ".edgelid-import",
        "sv-SE/clips/1.mp3",
        "sv-SE/clips/2.mp3",
    ]


def test_parquet_with_the_audio_in_it(tmp_path: Path) -> None:
    root = tmp_path / "speech-of-friends"
    for language, split in (("da", "train"), ("sv-SE", "validation")):
        rows = {
            "audio": [{"bytes": mp3(), "path": f"{n}.mp3"} for n in range(2)],
            "client_id": [f"anna {language}", f"bo {language}"],
            "sentence": ["x", "y"],
        }
        (root / language).mkdir(parents=True)
        pl.DataFrame(rows).write_parquet(root / language / f"{split}-00000-of-00001.parquet")
    out = tmp_path / "m.parquet"
    clips = imported("hugging-face", root, "-o", out)
    assert [(clip.language, clip.split, clip.speaker) for clip in clips] == [
        (language, split, f"speech-of-friends:{speaker} {folder}")
        for folder, language, split in (("da", "da", "train"), ("sv-SE", "sv", "dev"))
        for speaker in ("anna", "bo")
    ]


def write_parquet(file: Path, **columns: list[object]) -> None:
    """A file of one second of sound a row."""
    count = len(next(iter(columns.values())))
    audio = [{"bytes": mp3(), "path": f"{n}.mp3"} for n in range(count)]
    file.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame({"audio": audio, **columns}).write_parquet(file)


def test_splits_that_folders_tell(tmp_path: Path) -> None:
    """As the hub converts data sets; what the name of a file says is nearer."""
    root = tmp_path / "speech"
    for place in ("da/train/0000", "da/test/0000", "dev/da/0001", "da/train/test-0001", "da/part"):
        write_parquet(root / f"{place}.parquet", client_id=[place])
    clips = imported("hugging-face", root, "-o", tmp_path / "m.parquet")
    assert {clip.speaker: clip.split for clip in clips} == {
        "speech:da/train/0000": "train",
        "speech:da/test/0000": "test",
        "speech:dev/da/0001": "dev",
        "speech:da/train/test-0001": "test",
        "speech:da/part": "train",  # as all that no split is known of
    }


def test_speakers_that_are_numbers(tmp_path: Path) -> None:
    """The first of them is 0; who is not told apart is a person for every clip."""
    root = tmp_path / "speech"
    write_parquet(root / "da" / "train.parquet", speaker_id=[0, 0, 1, None])
    write_parquet(root / "sv" / "train.parquet", client_id=["", " "], speaker=["anna", None])
    clips = imported("hugging-face", root, "-o", tmp_path / "m.parquet")
    speakers = [clip.speaker.removeprefix("speech:") for clip in clips]
    assert speakers[:3] == ["0", "0", "1"]
    assert speakers[3].startswith("da/")
    assert speakers[4] == "anna"
    assert speakers[5].startswith("sv/")


def test_languages_in_a_column(tmp_path: Path) -> None:
    rows = {
        "audio": [{"bytes": mp3(), "path": None}, {"bytes": mp3(), "path": "a.mp3"}],
        "language": ["Swedish", "da"],
    }
    (tmp_path / "data").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "data" / "train.parquet")
    clips = imported("hugging-face", tmp_path / "data", "-o", tmp_path / "m.parquet")
    assert sorted(clip.language for clip in clips) == ["da", "sv"]


@pytest.mark.parametrize("kind", ["tar", "parquet", "no audio", "no language"])
def test_damaged(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    root, name = tmp_path / "in", "hugging-face"
    root.mkdir()
    if kind == "tar":
        name = "common-voice"
        write_tar(root / "a.tar.gz", release("da"))
        data = (root / "a.tar.gz").read_bytes()
        (root / "a.tar.gz").write_bytes(data[: len(data) // 2])
    elif kind == "parquet":
        (root / "a.parquet").write_bytes(b"PAR1 no")
    elif kind == "no audio":
        pl.DataFrame({"text": ["x"]}).write_parquet(root / "a.parquet")
    else:
        pl.DataFrame({"audio": [{"bytes": mp3(), "path": "1.mp3"}]}).write_parquet(
            root / "a.parquet"
        )
    assert main(["import", name, str(root), "-o", str(tmp_path / "m.parquet")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert "Traceback" not in error
    assert left(tmp_path) == ["in"]


def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(tmp_path / "cv" / "da.tar.gz", release("da"))
    (tmp_path / "m.audio").mkdir()
    arguments = ["common-voice", str(tmp_path / "cv"), "-o", str(tmp_path / "m.parquet")]
    assert main(["import", *arguments]) == 1
    assert "is there already" in capsys.readouterr().err
    assert files(tmp_path / "m.audio") == []
