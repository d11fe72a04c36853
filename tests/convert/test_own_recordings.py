"""A user's recordings: whole files are held out, and what says little is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from convert.own_recordings import own_recordings
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from tests.synthetic import speech, write_audio

LABELS = ("de", "en", "other", "nonspeech")


def write(folder: Path, *names: str, seconds: float = 1.2) -> Path:
    for i, name in enumerate(names):
        write_audio(folder / name, speech("de", f"voice{i}", i, seconds))
    return folder


def silence(folder: Path, name: str) -> None:
    write_audio(folder / name, np.zeros(SAMPLE_RATE_HZ, np.float32))


def test_whole_files_are_held_out(tmp_path: Path) -> None:
    names = [f"{language}/{i}.wav" for language in ("de", "en") for i in range(6)]
    own = own_recordings(write(tmp_path, *names), LABELS[:2], 1.0, 0)
    shown, held = ({each.name for each in part} for part in (own.shown, own.held_out))
    assert not shown & held
    assert shown | held == set(names)
    assert sorted(each.label for each in own.held_out) == ["de"] * 3 + ["en"] * 3
    assert own.labelled
    assert own.notes == (
        "fewer than 5 recordings were held out of de, en: the accuracy says little",
    )


def test_whole_speakers_are_held_out(tmp_path: Path) -> None:
    names = [f"{x}/{who}/{i}.wav" for x in ("de", "en") for who in "abcd" for i in range(2)]
    own = own_recordings(write(tmp_path, *names), LABELS[:2], 1.0, 0)
    assert not {each.speaker for each in own.shown} & {each.speaker for each in own.held_out}
    assert {each.speaker for each in own.held_out} < {
        f"{x}/{w}" for x in ("de", "en") for w in "abcd"
    }


def test_folders_that_mean_a_class(tmp_path: Path) -> None:
    """By name or code, at any depth; other languages and noises, where there is a class of them."""
    names = [
        f"train/{x}/{i}.wav"
        for x in ("German", "en-US", "sv", "Finnish", "noise", "odd")
        for i in (0, 1)
    ]
    own = own_recordings(write(tmp_path, *names), LABELS, 1.0, 0)
    found = {each.name.split("/")[1]: each.label for each in (*own.shown, *own.held_out)}
    others = {"sv": "other", "Finnish": "other", "noise": "nonspeech"}
    assert found == {"German": "de", "en-US": "en", **others}
    assert "in no folder of a class, and left out: train/odd/0.wav, train/odd/1.wav" in own.notes


def test_folders_of_no_language(tmp_path: Path) -> None:
    """What edgelid answers besides languages is none that is spoken."""
    names = [f"{x}/{i}.wav" for x in ("de", "en", "unknown", "nonspeech") for i in (0, 1)]
    own = own_recordings(write(tmp_path, *names), LABELS[:3], 1.0, 0)
    assert {each.label for each in (*own.shown, *own.held_out)} == {"de", "en"}


def test_what_says_little(tmp_path: Path) -> None:
    write(tmp_path, *(f"de/anna/{i}.wav" for i in range(10)), *(f"en/{i}.wav" for i in range(10)))
    silence(tmp_path, "en/10.wav")
    own = own_recordings(tmp_path, ("de", "en", "fr"), 2.0, 0)
    assert own.notes == (
        "silent, and left out: en/10.wav",
        "nothing is known of fr: there are no recordings",
        "one speaker alone of de (de/anna): the accuracy says nothing of other voices",
        "20 of 20 recordings are shorter than the window of 2 s: they were repeated until "
        "it was full",
    )
    assert len(own.held_out) == 10  # of one speaker, files


def test_copies_prove_nothing(tmp_path: Path) -> None:
    write(tmp_path, *(f"{label}/{i}.wav" for label in ("de", "en") for i in range(4)))
    for i in range(4):
        shutil.copy(tmp_path / "de" / f"{i}.wav", tmp_path / "de" / f"{i} copy.wav")
    own = own_recordings(tmp_path, LABELS[:2], 1.0, 0)
    assert len(own.shown) == len(own.held_out) == 4
    assert own.notes[0] == (
        "copies of others, and left out: de/0.wav (of de/0 copy.wav), de/1.wav (of de/1 copy.wav), "
        "de/2.wav (of de/2 copy.wav) and 1 more"
    )
    one = (tmp_path / "de" / "0.wav").read_bytes()
    for path in (tmp_path / "de").iterdir():
        path.write_bytes(one)
    with pytest.raises(EdgelidError, match=r"one recording of de \(copies of .*\), too few"):
        own_recordings(tmp_path, LABELS[:2], 1.0, 0)


def test_of_nothing_known(tmp_path: Path) -> None:
    own = own_recordings(write(tmp_path, *(f"{i}.wav" for i in range(4))), LABELS[:2], 1.0, 0)
    assert not own.labelled
    assert (len(own.shown), len(own.held_out)) == (2, 2)
    assert own.notes[0].startswith("no accuracy was measured, as no folder says what is spoken")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "no audio files to quantise with"),
        (("a.wav", "b.wav", "c.wav"), "has 3 recordings, too few"),
        (("de/a.wav", "en/b.wav", "en/c.wav"), "has one recording of de, too few"),
        (("de/a.wav", "de/b.wav"), "has recordings in de alone"),
    ],
)
def test_too_few(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=message):
        own_recordings(write(tmp_path, *names), LABELS[:2], 1.0, 0)


def test_silence_is_nothing_to_prove_on(tmp_path: Path) -> None:
    silence(tmp_path, "a.wav")
    with pytest.raises(EdgelidError, match=r"no recordings \(silent.*: a\.wav\), too few"):
        own_recordings(tmp_path, LABELS[:2], 1.0, 0)
    write(tmp_path, "de/a.wav", "en/a.wav", "en/b.wav")
    silence(tmp_path, "de/b.wav")
    with pytest.raises(EdgelidError, match=r"one recording of de \(silent.*, de/b\.wav\)"):
        own_recordings(tmp_path, LABELS[:2], 1.0, 0)
