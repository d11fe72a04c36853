"""Common Voice, as its releases are laid out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.corpus.importers.trees import clips, make, read, table
from train.corpus.importers import importer
from train.corpus.importers.row import Fault, LeftOut, Row

NAME = "common-voice"
OLD = "client_id\tpath\tsentence\tup_votes\tdown_votes\tage\tgender\taccent"
NEW = (
    "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender"
    "\taccents\tvariant\tlocale\tsegment"
)


def old(speaker: str, path: str) -> str:
    return f'{speaker}\t{path}\tSay "so\t2\t0\ttwenties\tfemale\t'


def new(speaker: str, path: str, locale: str) -> str:
    return f'{speaker}\t{path}\t5e1f\t"Quoted\t\t2\t0\t\t\t\t\t{locale}\t'


def test_a_release_of_two_languages(tmp_path: Path) -> None:
    for locale in ("sv-SE", "zh-CN"):
        folder = tmp_path / "cv-corpus-17.0-2024-03-15" / locale
        table(folder / "train.tsv", NEW, new("anna", f"{locale}_1.mp3", locale))
        table(folder / "dev.tsv", NEW, new("bo", f"{locale}_2.mp3", locale))
        table(folder / "test.tsv", NEW, new("cia", f"{locale}_3.mp3", locale))
        table(
            folder / "validated.tsv",
            NEW,
            *(new("anna", f"{locale}_{i}.mp3", locale) for i in (1, 4)),
            new("bo", f"{locale}_2.mp3", locale),
            new("cia", f"{locale}_3.mp3", locale),
        )
        table(folder / "other.tsv", NEW, new("dan", f"{locale}_5.mp3", locale))
        table(folder / "invalidated.tsv", NEW, new("eva", f"{locale}_6.mp3", locale))
        table(
            folder / "clip_durations.tsv",
            "clip\tduration[ms]",
            f"{locale}_1.mp3\t4320",
            f"{locale}_2.mp3\t0",
            f"{locale}_3.mp3\t99000000",
        )
    make(tmp_path, "cv-corpus-17.0-2024-03-15/sv-SE/clips/sv-SE_1.mp3")
    rows = clips(NAME, tmp_path)
    assert [(row.language, row.split, row.path[-5]) for row in rows] == [
        (language, split, number)
        for language in ("sv", "zh")
        for split, number in (("test", "3"), ("dev", "2"), ("train", "1"), ("train", "4"))
    ]
    assert [row.seconds for row in rows[:4]] == [None, None, 4.32, None]
    assert rows[2] == Row(
        path="cv-corpus-17.0-2024-03-15/sv-SE/clips/sv-SE_1.mp3",
        language="sv",
        split="train",
        speaker="common-voice:anna",
        source="common-voice",
        seconds=4.32,
        licence="CC0-1.0",
        origin="Common Voice, cv-corpus-17.0-2024-03-15",
    )


def test_an_old_release_of_one_language(tmp_path: Path) -> None:
    root = tmp_path / "de"
    table(root / "validated.tsv", OLD, old("anna", "0a1b"), old("anna", "0a1c.mp3"))
    rows = clips(NAME, root)
    assert [(row.path, row.language) for row in rows] == [
        ("clips/0a1b.mp3", "de"),
        ("clips/0a1c.mp3", "de"),
    ]


def test_the_table_knows_the_language_better_than_a_folder(tmp_path: Path) -> None:
    table(tmp_path / "cv-de" / "validated.tsv", NEW, new("anna", "1.mp3", "de"))
    assert [row.language for row in clips(NAME, tmp_path)] == ["de"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("anna\t1.mp3", "2 fields where 13 are named"),
        (new("", "1.mp3", "de"), "client_id is empty"),
        (new("anna", "../1.mp3", "de"), "path '../1.mp3' is no file name"),
        (new("anna", "1.mp3", "xx"), "'xx' is no code of a language"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, reason: str) -> None:
    table(tmp_path / "de" / "train.tsv", NEW, new("anna", "0.mp3", "de"), line)
    rows, faults = read(NAME, tmp_path)
    assert len(rows) == 1
    assert faults == [Fault("de/train.tsv, line 3", reason)]


def test_a_table_without_speakers(tmp_path: Path) -> None:
    table(tmp_path / "de" / "train.tsv", "path\tsentence", "1.mp3\tx")
    assert read(NAME, tmp_path) == ([], [Fault("de/train.tsv, line 1", "no column client_id")])


def test_two_releases_hold_the_same_clips(tmp_path: Path) -> None:
    for release in ("cv-corpus-16.0", "cv-corpus-17.0"):
        table(tmp_path / release / "de" / "train.tsv", NEW, new("anna", "1.mp3", "de"))
    rows, (fault,) = read(NAME, tmp_path)
    assert [row.path for row in rows] == ["cv-corpus-16.0/de/clips/1.mp3"]
    assert fault.where == "cv-corpus-17.0/de"


def test_a_delta_release_adds_to_the_last_one(tmp_path: Path) -> None:
    """Its clips of a year ago are held out, and what has come since is of all kinds of people."""
    whole = tmp_path / "cv-corpus-17.0-2024-03-15" / "sv-SE"
    table(whole / "test.tsv", NEW, new("anna", "1.mp3", "sv-SE"))
    table(whole / "validated.tsv", NEW, new("anna", "1.mp3", "sv-SE"), new("bo", "2.mp3", "sv-SE"))
    delta = tmp_path / "cv-corpus-17.0-delta-2024-03-15" / "sv-SE"
    later = [new("cia", "3.mp3", "sv-SE"), new("bo", "2.mp3", "sv-SE")]
    table(delta / "validated.tsv", NEW, *later)
    assert [(row.path, row.split) for row in clips(NAME, tmp_path)] == [
        ("cv-corpus-17.0-2024-03-15/sv-SE/clips/1.mp3", "test"),
        ("cv-corpus-17.0-2024-03-15/sv-SE/clips/2.mp3", "train"),
        ("cv-corpus-17.0-delta-2024-03-15/sv-SE/clips/3.mp3", "train"),
    ]
    assert len(clips(NAME, delta.parent)) == 2  # alone


# As the releases of 2026 describe it: github.com/common-voice/cv-dataset.
SPONTANEOUS = (
    "client_id\taudio_id\taudio_file\tduration_ms\tprompt_id\tprompt\ttranscription\tvotes\tage"
    "\tgender\taccents\tvariant\tlanguage\tprompt_upvotes\tprompt_reports\tis_edited\tsplit"
    "\tchar_per_sec\tquality_tags"
)


def answer(
    speaker: str, number: int, split: str = "unassigned", tags: str = "", said: str = "Ja, [um] ja."
) -> str:
    file = f"spontaneous-speech-sv-SE-{number}.mp3"
    return (
        f"{speaker}\t{number}\t{file}\t14200\t7\tVad gillar du?\t{said}\t2\t\t\t\t\tSwedish"
        f"\t1\t0\t0\t{split}\t11.2\t{tags}"
    )


def spontaneous(root: Path, release: str, *answers: str) -> Path:
    folder = root / f"sps-corpus-{release}-sv-SE"
    table(folder / "ss-corpus-sv-SE.tsv", SPONTANEOUS, *answers)
    table(folder / "ss-reported-audios-sv-SE.tsv", "client_id\taudio_id\taudio_file", "eve\t9\tx")
    return folder


def test_spontaneous_speech(tmp_path: Path) -> None:
    folder = spontaneous(
        tmp_path, "5.0-2026-09-11", answer("anna", 1, "test"), answer("bo", 2), answer("cia", 3, "")
    )
    first, second, third = clips(NAME, tmp_path)
    assert first.path == f"{folder.name}/audios/spontaneous-speech-sv-SE-1.mp3"
    assert (first.language, first.split, first.seconds) == ("sv", "test", 14.2)
    assert (first.speaker, first.source) == ("common-voice:anna", "common-voice-spontaneous")
    assert [each.split for each in (second, third)] == ["train", "train"]
    assert [row.path for row in clips(NAME, folder)] == [
        f"audios/spontaneous-speech-sv-SE-{number}.mp3" for number in (1, 2, 3)
    ]


def test_answers_in_another_language(tmp_path: Path) -> None:
    """Their publishers have heard it; a rate of speech that is unusual says nothing of that."""
    heard = "short-audio|dataset-language-audio-mismatch"
    spontaneous(
        tmp_path, "5.0-2026-09-11", answer("bo", 2, tags=heard), answer("bo", 3, tags="speech-rate")
    )
    items = list(importer(NAME).rows(tmp_path))
    assert [item.path[-5] for item in items if isinstance(item, Row)] == ["3"]
    (left_out,) = (item for item in items if isinstance(item, LeftOut))
    assert "dataset-language-audio-mismatch" in left_out.reason


def test_answers_of_several_lines(tmp_path: Path) -> None:
    spontaneous(
        tmp_path,
        "5.0-2026-09-11",
        answer("anna", 1, said='"Ja,\nett ""ja""\toch\n\nett till."'),
        answer("bo", 2, said='"Nej" sa hon.'),
        answer("cia", 3, said='"Aldrig'),
        answer("dan", 4, said='Det "vet" jag'),
        answer("eva", 5),
    )
    rows, faults = read(NAME, tmp_path)
    assert faults == []
    assert [row.speaker.partition(":")[2] for row in rows] == ["anna", "bo", "cia", "dan", "eva"]


def test_releases_of_spontaneous_speech_side_by_side(tmp_path: Path) -> None:
    """Each has the answers of the ones before; a delta, those that came since."""
    spontaneous(tmp_path, "5.0-2026-09-11", answer("anna", 1, "dev"), answer("bo", 2))
    spontaneous(tmp_path, "5.0-delta-2026-09-11", answer("bo", 2), answer("cia", 3))
    assert [(row.path.partition("/")[0][:16], row.path[-5]) for row in clips(NAME, tmp_path)] == [
        ("sps-corpus-5.0-2", "1"),
        ("sps-corpus-5.0-2", "2"),
        ("sps-corpus-5.0-d", "3"),
    ]


def test_spontaneous_speech_in_no_language(tmp_path: Path) -> None:
    table(tmp_path / "ss-corpus-xx.tsv", SPONTANEOUS, answer("anna", 1))
    assert read(NAME, tmp_path) == (
        [],
        [Fault("ss-corpus-xx.tsv", "'xx' is no code of a language")],
    )
