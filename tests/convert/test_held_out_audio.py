"""Calibration on the lengths that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.held_out_audio import held_out_audio
from edge.errors import EdgelidError
from tests.synthetic import speech, write_audio
from train.corpus.manifest import Clip

LABELS = ("de", "en", "other", "nonspeech")


def clips(
    root: Path, language: str, count: int, duration_s: float, speaker: str = ""
) -> list[Clip]:
    made = []
    for number in range(count):
        path = f"{language}/{number}.wav"
        write_audio(root / path, speech(language, path, number, duration_s))
        who = speaker or path
        row = (path, language, "dev", True, who, "home", "human", duration_s, "none", "here")
        made.append(Clip(*row))
    return made


def test_short_clips(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = clips(tmp_path, "de", 3, 2.5) + clips(tmp_path, "en", 2, 2.5)
    sets = held_out_audio(given, tmp_path, [], tmp_path, (1.0, 3.0, 10.0), LABELS)
    assert {length: held.audio.shape for length, held in sets.items()} == {1.0: (5, 16_000)}
    assert "nobody held out speaks for 3, 10 s" in caplog.text


def test_a_language_that_takes_no_part_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = clips(tmp_path, "de", 2, 2.5, "anna") + clips(tmp_path, "en", 2, 2.5)
    sets = held_out_audio(given, tmp_path, [], tmp_path, (1.0, 3.0), LABELS)
    assert list(sets) == [1.0, 3.0]
    assert caplog.messages == ["no 3 s of held-out speech of en: no part in that calibration"]


def test_nothing_long_enough(tmp_path: Path) -> None:
    given = clips(tmp_path, "de", 2, 0.5)
    with pytest.raises(EdgelidError, match="holds no 1 s of any speaker"):
        held_out_audio(given, tmp_path, [], tmp_path, (1.0, 3.0), LABELS)
