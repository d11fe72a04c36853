"""What fit and convert would refuse or leave out is said by validate and split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from convert.from_checkpoint import MIN_DEVELOPMENT_CLIP_S
from tests.synthetic import rows_of, write_audio
from tests.train.corpus.test_validation import noise
from train.cli import main
from train.corpus.held_out import SHORTEST_CLIP_S, WANTED_S, check_held_out
from train.corpus.manifest import Clip


def clips(language: str, split: str, lengths_s: list[float], speaker: str = "") -> list[Clip]:
    """Each of a speaker of its own, unless one is named."""
    return [
        Clip(
            path=f"{language}/{split}{speaker}{number}.wav",
            language=language,
            split=split,
            target=True,
            speaker=speaker or f"{language}-{split}-{number}",
            source="home",
            kind="human",
            duration_s=length_s,
            licence="none",
            origin="here",
        )
        for number, length_s in enumerate(lengths_s)
    ]


def found(*given: list[Clip]) -> dict[str, list[str]]:
    rows = rows_of([clip for each in given for clip in each])
    return {f.code: [e.name for e in f.examples] for f in check_held_out(rows)}


BOTH = [*clips("de", "train", [20.0, 20.0]), *clips("en", "train", [20.0, 20.0])]


def test_conversion_leaves_out_the_same_clips() -> None:
    assert SHORTEST_CLIP_S == MIN_DEVELOPMENT_CLIP_S


def test_enough() -> None:
    assert found(BOTH, clips("de", "dev", [WANTED_S]), clips("en", "dev", [5.0, 5.0], "bo")) == {}


def test_nothing_is_held_out() -> None:
    assert found(BOTH) == {"undivided": ["de", "en"]}


def test_a_language_of_short_clips() -> None:
    got = found(BOTH, clips("de", "dev", [2.5, 2.5]), clips("en", "dev", [12.0]))
    assert got == {"short-held-out": ["de"]}


def test_a_language_of_words() -> None:
    """Even many of them by one person are none of conversion's clips."""
    got = found(BOTH, clips("de", "dev", [0.8] * 9, "bo"), clips("en", "dev", [12.0]))
    assert got == {"unheard": ["de"]}
    got = found(BOTH, clips("de", "dev", [0.8]), clips("en", "dev", [0.5]))
    assert got == {"unheard": ["de", "en"], "nothing-held-out": ["de", "en"]}


def test_one_speaker_and_one_language() -> None:
    got = found(clips("de", "train", [20.0, 20.0], "bo"))
    assert got == {"one-language": ["de"], "undividable": ["de"], "undivided": ["de"]}
    stranger = [dataclasses.replace(clip, target=False) for clip in clips("en", "train", [9.0])]
    got = found(clips("de", "train", [20.0, 20.0]), stranger)
    assert got == {"undivided": ["de"]}


def test_split_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for language in ("de", "en"):
        for number in range(8 if language == "de" else 2):
            name = f"{language}/{number}.wav"
            write_audio(tmp_path / "own" / name, noise(name, 2.5))
    manifest, out = tmp_path / "m.parquet", tmp_path / "d.parquet"
    assert main(["import", "folders", str(tmp_path / "own"), "-o", str(manifest)]) == 0
    assert main(["split", str(manifest), "-o", str(out)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "no dev, for want of another speaker to give away: en" in told
    assert "nobody in dev says ten seconds: de (2.5 s at most)" in told
