"""Cuts are nested, exact in length, and the same whenever they are made."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ
from train.corpus.cuts import Cut, balanced, cuts, load_cut, load_cuts, read_audio
from train.corpus.manifest import Clip

DURATIONS_S = (1.0, 3.0, 5.0, 10.0)


def clip(path: str, duration_s: float, speaker: str = "anna", language: str = "de") -> Clip:
    return Clip(
        path=path,
        language=language,
        target=True,
        split="test",
        speaker=speaker,
        source="home",
        kind="human",
        duration_s=duration_s,
        licence="CC0-1.0",
        origin="",
    )


def corpus() -> list[Clip]:
    """25.9 s of anna (short clips), 34.01 s of bert (one long, one short), 2 s of carl."""
    return [
        *(clip(f"anna/{i:02}", 0.37 + 0.05 * i) for i in range(20)),
        *(clip(f"anna/{i}", 4.5, language="en") for i in range(100, 102)),
        clip("bert/0", 33.0, "bert"),
        clip("bert/1", 1.01, "bert"),
        clip("carl/0", 2.0, "carl"),
    ]


def spans(cut: Cut) -> list[tuple[str, int, int]]:
    """Pieces in samples."""
    return [
        (path, round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ))
        for path, start_s, end_s in cut.pieces
    ]


def expand(cut: Cut) -> list[tuple[str, int]]:
    """(clip, sample) of every 80th sample of a cut."""
    every = [(path, i) for path, first, last in spans(cut) for i in range(first, last)]
    return every[::80]


@pytest.mark.parametrize("duration_s", DURATIONS_S)
def test_length_is_exact(duration_s: float) -> None:
    found = cuts(corpus(), duration_s=duration_s, seed=0)
    assert found
    for cut in found:
        total = sum(last - first for _, first, last in spans(cut))
        assert total == duration_s * SAMPLE_RATE_HZ
        assert cut.duration_s == duration_s


def test_nested() -> None:
    by_key = [{c.item_key: c for c in cuts(corpus(), duration_s=d, seed=0)} for d in DURATIONS_S]
    for shorter, longer in pairwise(by_key):
        assert set(longer) < set(shorter)
        for key, cut in longer.items():
            beginning = expand(shorter[key])
            assert expand(cut)[: len(beginning)] == beginning


def test_items_do_not_overlap_and_use_all_that_fits() -> None:
    seen = Counter(what for cut in cuts(corpus(), duration_s=10, seed=0) for what in expand(cut))
    assert set(seen.values()) == {1}
    keys = Counter(cut.speaker for cut in cuts(corpus(), duration_s=10, seed=0))
    speech_s = sum(c.duration_s for c in corpus() if c.speaker == "anna" and c.language == "de")
    assert keys == {"anna": speech_s // 10, "bert": 3}
    # What is left at the end is good for a shorter cut: 4 s of bert.
    assert sum(c.speaker == "bert" for c in cuts(corpus(), duration_s=3, seed=0)) == 4


def test_one_speaker_and_language_a_cut() -> None:
    where = {c.path: (c.speaker, c.language) for c in corpus()}
    for cut in cuts(corpus(), duration_s=1, seed=0):
        assert {where[path] for path, _, _ in cut.pieces} == {(cut.speaker, cut.language)}


def test_pieces_lie_in_their_clips() -> None:
    length_s = {c.path: c.duration_s for c in corpus()}
    for cut in cuts(corpus(), duration_s=5, seed=0):
        for path, start_s, end_s in cut.pieces:
            assert 0 <= start_s < end_s <= length_s[path]


def test_deterministic_whatever_the_order_and_the_others() -> None:
    found = cuts(corpus(), duration_s=3, seed=7)
    assert cuts(corpus()[::-1], duration_s=3, seed=7) == found
    anna = [c for c in corpus() if c.speaker == "anna"]
    assert cuts(anna, duration_s=3, seed=7) == [c for c in found if c.speaker == "anna"]


def test_seed_changes_the_order() -> None:
    assert cuts(corpus(), duration_s=3, seed=1) != cuts(corpus(), duration_s=3, seed=2)


def test_does_not_change_its_argument() -> None:
    rows = corpus()
    cuts(rows, duration_s=1, seed=0)
    assert rows == corpus()


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 10.5, float("nan"), float("inf"), 1e-9])
def test_bad_duration(duration_s: float) -> None:
    with pytest.raises(EdgelidError, match="at most 10 s"):
        cuts(corpus(), duration_s=duration_s, seed=0)


def test_balanced_takes_turns_between_speakers() -> None:
    rows = [
        *(clip(f"{s}/{i}", 2.0, s) for s in ("anna", "bert", "carl") for i in range(10)),
        *(clip(f"x/{i}", 2.0, "xi", "zh") for i in range(50)),
    ]
    # Items are of 10 s, 5 clips: two for each of the German speakers, ten for the Chinese one.
    drawn = balanced(cuts(rows, duration_s=1, seed=0), per_language=4, seed=0)
    assert Counter(cut.language for cut in drawn) == {"de": 4, "zh": 4}
    assert set(Counter(c.speaker for c in drawn if c.language == "de").values()) == {1, 2}
    longer = balanced(cuts(rows, duration_s=10, seed=0), per_language=4, seed=0)
    assert [c.item_key for c in longer] == [c.item_key for c in drawn]


def write_clips(folder: Path, rows: list[Clip]) -> None:
    """Write each clip as a ramp, so that every sample says where it is from."""
    soundfile = pytest.importorskip("soundfile")
    for number, row in enumerate(rows):
        samples = np.arange(round(row.duration_s * SAMPLE_RATE_HZ), dtype=np.int16) % 1000
        path = folder / row.path
        soundfile.write(path, samples + 1000 * np.int16(number), SAMPLE_RATE_HZ, subtype="PCM_16")


def test_load_cut(tmp_path: Path) -> None:
    rows = [clip(f"{i}.wav", 0.7) for i in range(5)]
    write_clips(tmp_path, rows)
    (cut,) = cuts(rows, duration_s=3, seed=3)
    samples = load_cut(cut, tmp_path)
    assert samples.shape == (3 * SAMPLE_RATE_HZ,)
    assert samples.dtype == np.float32
    expected = [1000 * int(path[0]) + i % 1000 for path, a, b in spans(cut) for i in range(a, b)]
    np.testing.assert_array_equal(np.rint(samples * 32768), expected)


def test_load_cuts_reads_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [clip("0.wav", 23.0), clip("1.wav", 1.7)]
    write_clips(tmp_path, rows)
    found = [cut for d in (1.0, 10.0) for cut in cuts(rows, duration_s=d, seed=0)]
    read = Counter[str]()

    def counted(path: Path) -> np.ndarray:
        read[path.name] += 1
        return read_audio(path)

    monkeypatch.setattr("train.corpus.cuts.read_audio", counted)
    together = load_cuts(found, tmp_path)
    assert len(together) == 3 + 2
    assert set(read.values()) == {1}
    for cut, samples in zip(found, together, strict=True):
        np.testing.assert_array_equal(samples, load_cut(cut, tmp_path))
    assert load_cuts([], tmp_path) == []


def test_read_audio_stops_where_it_is_told(tmp_path: Path) -> None:
    write_clips(tmp_path, [clip("0.wav", 2.0)])
    whole = read_audio(tmp_path / "0.wav")
    assert len(whole) == 2 * SAMPLE_RATE_HZ
    np.testing.assert_array_equal(read_audio(tmp_path / "0.wav", 0.55), whole[:8800])
    np.testing.assert_array_equal(read_audio(tmp_path / "0.wav", 5.0), whole)


def test_load_cut_fills_a_rounding_of_the_manifest(tmp_path: Path) -> None:
    write_clips(tmp_path, [clip("0.wav", 1.0 - 0.004)])
    (cut,) = cuts([clip("0.wav", 1.0)], duration_s=1, seed=0)
    samples = load_cut(cut, tmp_path)
    assert len(samples) == SAMPLE_RATE_HZ
    assert not samples[-60:].any()


def test_load_cut_refuses_a_short_file(tmp_path: Path) -> None:
    write_clips(tmp_path, [clip("0.wav", 0.5)])
    (cut,) = cuts([clip("0.wav", 1.0)], duration_s=1, seed=0)
    with pytest.raises(EdgelidError, match=r"has 0\.50 s where the manifest promises 1\.00 s"):
        load_cut(cut, tmp_path)


def test_load_cut_refuses_what_it_cannot_decode(tmp_path: Path) -> None:
    pytest.importorskip("soundfile")
    (cut,) = cuts([clip("0.wav", 1.0)], duration_s=1, seed=0)
    with pytest.raises(EdgelidError, match="does not exist"):
        load_cut(cut, tmp_path)
    (tmp_path / "0.wav").write_bytes(b"not audio")
    with pytest.raises(EdgelidError, match="is not audio"):
        load_cut(cut, tmp_path)


def test_any_rate_and_number_of_channels(tmp_path: Path) -> None:
    """Common Voice is MP3 at 48 kHz."""
    soundfile = pytest.importorskip("soundfile")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([tone, 0 * tone], axis=1), 48_000)
    soundfile.write(tmp_path / "voice.mp3", tone, 48_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for name, share in (("stereo.wav", 0.5), ("voice.mp3", 1.0)):
        samples = read_audio(tmp_path / name)
        assert len(samples) == pytest.approx(16_000, abs=1200)  # MP3 has whole frames
        heard, wanted = samples[4000:12_000], share * expected[4000:12_000]
        spectrum = np.abs(np.fft.rfft(heard)) / np.abs(np.fft.rfft(wanted)).max()
        assert spectrum.argmax() == 220  # 440 Hz
        assert spectrum.max() == pytest.approx(1, abs=0.02)
    assert len(read_audio(tmp_path / "stereo.wav", most_s=0.25)) == 4000


def test_import_needs_neither_soundfile_nor_tensorflow() -> None:
    code = (
        "import sys, train.corpus.cuts; "
        "print({'soundfile', 'tensorflow', 'librosa'} & {*sys.modules})"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
