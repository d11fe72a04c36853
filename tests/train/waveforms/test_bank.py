"""A bank keeps every recording, and a speaker's speech together."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edge.audio.formats import mpeg_frame_bytes
from edge.errors import EdgelidError
from tests.ogg import with_a_jump
from train.corpus.manifest import COLUMNS
from train.features import codecs
from train.waveforms.bank import (
    DEVELOPMENT,
    NOISE,
    ROOM,
    TRAIN,
    Entry,
    Segments,
    check_parts,
    decode,
    decode_bank,
    entries_of,
    read_part,
    transcode,
    trimmed,
    write_bank,
)
from train.waveforms.draws import Drawer, development_windows, macro_accuracy

RATE = 16_000


def tone(hz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(RATE * seconds)) / RATE)).astype(
        np.float32
    )


def encoded(samples: np.ndarray, kind: str = "FLAC", rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    made = [
        Entry(TRAIN, "de", "attic", f"p{i % 2}", "human", encoded(tone(200 + i, 1.0)))
        for i in range(6)
    ]
    made += [Entry(TRAIN, "en", "attic", "q", "tts", encoded(tone(300, 4.0)))]
    made += [Entry(TRAIN, "sv", "attic", "r", "human", encoded(tone(350, 2.0)))]
    made += [Entry(DEVELOPMENT, "en", "cellar", "s", "human", encoded(tone(400, 2.5)))]
    made += [Entry(NOISE, "", "", "", "rain", encoded(tone(50, 3.0))) for _ in range(2)]
    made += [Entry(ROOM, "", "", "", "real", encoded(np.r_[0, 0, 0.9, np.zeros(500), 0.3]))]
    return made


@pytest.fixture(scope="module")
def segments(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Segments:
    folder = tmp_path_factory.mktemp("bank")
    assert write_bank(entries, folder / "parts", part_bytes=100_000) > 1
    decoded = decode_bank(sorted((folder / "parts").iterdir()), coded_share=1.0, workers=1)
    decoded.save(folder / "decoded")
    return Segments.load(folder / "decoded")


def test_parts_hold_what_was_put_in(entries: list[Entry], tmp_path: Path) -> None:
    write_bank(entries, tmp_path, part_bytes=50_000)
    found = [e for part in sorted(tmp_path.iterdir()) for e in read_part(part)]
    assert found == entries


def test_where_nothing_can_be_had_no_folder_is_left(entries: list[Entry], tmp_path: Path) -> None:
    def refused() -> Iterator[Entry]:
        yield from ()
        raise EdgelidError("no corpus")

    with pytest.raises(EdgelidError, match="no corpus"):
        write_bank(refused(), tmp_path / "parts")
    (tmp_path / "file").touch()
    with pytest.raises(EdgelidError, match=r"cannot make the folder .*file: File exists"):
        write_bank(entries, tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_parts_of_an_older_bank_go(entries: list[Entry], tmp_path: Path) -> None:
    write_bank(entries * 2, tmp_path, part_bytes=50_000)
    write_bank(entries, tmp_path, part_bytes=50_000)
    files = sorted(tmp_path.iterdir())
    check_parts(files)
    assert [e for part in files for e in read_part(part)] == entries


def test_parts_of_a_bank_that_was_not_finished_are_refused(
    entries: list[Entry], tmp_path: Path
) -> None:
    def stopped() -> Iterator[Entry]:
        yield from entries
        raise KeyboardInterrupt

    write_bank(entries * 2, tmp_path, part_bytes=50_000)
    with pytest.raises(KeyboardInterrupt):
        write_bank(stopped(), tmp_path, part_bytes=50_000)
    with pytest.raises(EdgelidError, match="are of several banks"):
        decode_bank(sorted(tmp_path.iterdir()), workers=1)


@pytest.mark.parametrize("lacking", [0, 1, -1])
def test_a_bank_that_lacks_a_part_is_refused(
    lacking: int, entries: list[Entry], tmp_path: Path
) -> None:
    count = write_bank(entries, tmp_path, part_bytes=50_000)
    sorted(tmp_path.iterdir())[lacking].unlink()
    with pytest.raises(EdgelidError, match=f"there are {count - 1} parts in"):
        check_parts(sorted(tmp_path.iterdir()))


def test_parts_without_the_name_of_a_bank_are_taken(entries: list[Entry], tmp_path: Path) -> None:
    write_bank(entries, tmp_path)
    (file,) = tmp_path.iterdir()
    with np.load(file) as archive:
        kept = {name: archive[name] for name in ("rows", "sizes", "sound")}
    np.savez(file, **kept)
    np.savez(tmp_path / "part-01.npz", **kept)
    files = sorted(tmp_path.iterdir())
    check_parts(files)
    assert [e for part in files for e in read_part(part)] == entries * 2


@pytest.mark.parametrize("damage", ["cut", "other", "rows"])
def test_damaged_parts_are_one_sentence(damage: str, entries: list[Entry], tmp_path: Path) -> None:
    file = tmp_path / "part-00.npz"
    write_bank(entries, tmp_path)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    elif damage == "other":
        file.write_bytes(b"nothing")
    else:
        np.savez(file, rows="[[1, 2]]", sizes=np.array([1]), sound=np.zeros(1, np.uint8))
    with pytest.raises(EdgelidError, match=r"part-00.npz is no part of a bank, or is damaged"):
        decode_bank([file], workers=1)


def die(_: object) -> None:
    os._exit(3)


def test_a_process_that_dies_is_one_sentence(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bank(entries, tmp_path)
    monkeypatch.setattr("train.waveforms.bank._decoded", die)
    with pytest.raises(EdgelidError, match="a worker process died"):
        decode_bank(sorted(tmp_path.iterdir()), workers=2)


def test_processes_change_nothing(entries: list[Entry], tmp_path: Path) -> None:
    write_bank(entries, tmp_path)
    one, two = (decode_bank(sorted(tmp_path.iterdir()), workers=count) for count in (1, 2))
    np.testing.assert_array_equal(one.samples, two.samples)
    assert one.rows == two.rows


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (Entry(TRAIN, "de", "attic", "p1", "human", b"no sound"), "of p1 from attic is damaged"),
        (Entry(NOISE, "", "", "", "rain", b""), r"\(noise\) is damaged"),
        (Entry(ROOM, "", "", "", "real", encoded(np.zeros(0))), r"\(room\) is damaged"),
    ],
)
def test_a_damaged_recording_is_named(
    entry: Entry, words: str, entries: list[Entry], tmp_path: Path
) -> None:
    write_bank([*entries[:2], entry], tmp_path)
    with pytest.raises(EdgelidError, match=words):
        decode_bank(sorted(tmp_path.iterdir()), workers=1)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg, to make such a file")
def test_what_a_recording_needs_is_told(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", tmp_path / "a.m4a"]
    subprocess.run(command, check=True)
    data = (tmp_path / "a.m4a").read_bytes()
    assert len(decode(data)[0]) > 0.9 * RATE
    write_bank([*entries[:2], Entry(TRAIN, "de", "attic", "p1", "human", data)], tmp_path / "bank")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EdgelidError, match=r"of p1 from attic .*which needs the program ffmpeg"):
        decode_bank(sorted((tmp_path / "bank").iterdir()), workers=1)


def test_a_bank_that_is_too_long_is_refused(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bank(entries, tmp_path)
    monkeypatch.setattr("train.waveforms.bank.MOST_SAMPLES", 10 * RATE)
    with pytest.raises(EdgelidError, match="at most 0 hours"):
        decode_bank(sorted(tmp_path.iterdir()), workers=1)


def test_the_speech_of_a_speaker_lies_together(segments: Segments) -> None:
    plain = {
        (r["role"], r["language"], r["speaker"]): n / RATE
        for r, n in zip(segments.rows, segments.lengths, strict=True)
        if not r["coded"]
    }
    assert plain[TRAIN, "de", "p0"] == pytest.approx(3.0, abs=0.05)
    assert plain[TRAIN, "de", "p1"] == pytest.approx(3.0, abs=0.05)
    assert plain[DEVELOPMENT, "en", "s"] == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": None},
        {"rows": [{}]},
        {"lengths": [5]},
        {"starts": [-1]},
        {"starts": [10**9]},
        {"lengths": ["all"]},
        [],
    ],
)
def test_a_table_that_does_not_fit_the_samples_is_refused(change: Any, tmp_path: Path) -> None:
    row = dict.fromkeys(("role", "language", "source", "speaker", "kind", "coded"), "")
    Segments(np.zeros(4, np.int16), np.array([0]), np.array([4]), [row]).save(tmp_path)
    file = tmp_path / "segments.json"
    assert len(Segments.load(tmp_path).rows) == 1
    told = json.loads(file.read_text())
    if isinstance(change, dict):
        told |= change
        told = {name: value for name, value in told.items() if value is not None}
    else:
        told = change
    file.write_text(json.dumps(told))
    with pytest.raises(EdgelidError, match="there is no decoded bank in"):
        Segments.load(tmp_path)


def test_samples_without_their_table_are_no_bank(
    segments: Segments, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments.save(tmp_path)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        segments.save(tmp_path)
    with pytest.raises(EdgelidError, match="there is no decoded bank in"):
        Segments.load(tmp_path)


def test_what_is_held_out_is_not_trained_on(segments: Segments) -> None:
    segments.check_held_out({"en": ["cellar"], "sv": ["cellar"], "xx": ["attic"]})
    with pytest.raises(EdgelidError, match="the bank has attic in sv to train on"):
        segments.check_held_out({"sv": ["cellar", "attic"]})


def test_codecs_are_for_training_alone(segments: Segments) -> None:
    assert {r["role"] for r in segments.rows if r["coded"]} == {TRAIN}


def test_each_noise_and_room_is_one_segment(segments: Segments) -> None:
    roles = [r["role"] for r in segments.rows]
    assert (roles.count(NOISE), roles.count(ROOM)) == (2, 1)
    at = roles.index(ROOM)
    room = segments.samples[segments.starts[at] :][: segments.lengths[at]]
    assert np.abs(room).argmax() == 0  # the direct sound comes at once


def test_other_rates_and_channels_are_heard() -> None:
    stereo = np.stack([tone(440, 1.0), tone(440, 1.0)], axis=1)[::2]
    found, _ = decode(encoded(stereo, "WAV", 8_000))
    assert len(found) == pytest.approx(RATE, abs=20)


def test_all_of_a_chained_stream_is_heard() -> None:
    parts = [encoded(tone(hz, 1.0), "OGG") for hz in (300, 500)]
    found, problems = decode(b"".join(parts))
    assert len(found) == pytest.approx(2 * RATE, abs=200)
    assert problems == []


def test_what_comes_behind_a_time_stamp_that_jumps_is_heard() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(300, 6.0), RATE, format="OGG", subtype="OPUS")
    found, problems = decode(with_a_jump(buffer.getvalue(), 4, 1_920))
    assert len(found) > 5.9 * RATE
    assert problems == []


def test_all_of_an_mp3_that_does_not_say_how_long_it_is_is_heard() -> None:
    """Its bit rate varies, so that its size and its first frame tell nothing."""
    clip = np.r_[tone(300, 2.0), np.random.default_rng(1).uniform(-0.3, 0.3, 8 * RATE)]
    data = codecs.encode(clip.astype(np.float32), "MP3", "MPEG_LAYER_III", 0.5, "VARIABLE")
    found, problems = decode(data[mpeg_frame_bytes(data[:16]) :])
    assert len(found) == pytest.approx(10 * RATE, abs=0.2 * RATE)
    assert problems == []


def test_what_was_read_before_a_damaged_end_is_kept() -> None:
    whole = encoded(tone(300, 6.0), "FLAC")
    found, problems = decode(whole[: len(whole) // 2])
    assert len(found) > RATE
    assert "it promises 6.0 s" in problems[0]


def test_what_is_missing_is_told(
    entries: list[Entry], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut = encoded(tone(300, 6.0))[:-2_000]
    write_bank([*entries, Entry(TRAIN, "de", "attic", "p3", "human", cut)], tmp_path)
    decode_bank(sorted(tmp_path.iterdir()), workers=1)
    (message,) = caplog.messages
    assert f"1 of {len(entries) + 1} recordings are truncated or damaged" in message
    assert "as one of p3 from attic" in message


def test_silence_at_the_ends_is_left_out() -> None:
    padded = np.r_[np.zeros(RATE), tone(300, 1.0), np.zeros(RATE)].astype(np.float32)
    assert len(trimmed(padded)) == pytest.approx(RATE * 1.16, abs=400)
    assert len(trimmed(np.zeros(RATE, np.float32))) == 0


def test_codecs_keep_the_length() -> None:
    clip = tone(300, 1.0)
    for seed in range(8):
        assert transcode(clip, np.random.default_rng(seed)).shape == clip.shape


def test_draws_stay_within_their_segments(segments: Segments) -> None:
    drawer = Drawer(segments, ["de", "en", "other", "nonspeech"], seed=1)
    draw = drawer.batch(256, RATE, 98, 64)
    assert set(np.unique(draw["labels"])) == {0, 1, 2, 3}
    ends = segments.starts + segments.lengths
    at = np.searchsorted(segments.starts, draw["starts"], side="right") - 1
    assert (draw["starts"] + draw["counts"] <= ends[at]).all()
    languages = {"de": 0, "en": 1, "sv": 2, "": 3}
    assert [languages[segments.rows[i]["language"]] for i in at] == draw["labels"].tolist()
    assert all(segments.rows[i]["role"] in (TRAIN, NOISE) for i in at)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("language", "de", "the bank has no speech in de to train on"),
        ("language", "sv", "the bank has no speech in another language to train on"),
        ("role", NOISE, "the bank has no noise without voices to train on"),
    ],
)
def test_a_bank_without_a_class_is_refused(
    column: str, value: str, words: str, segments: Segments
) -> None:
    labels = ["de", "en", "other", "nonspeech"]
    Drawer(segments, labels, seed=1).check(labels)
    kept = np.array([row[column] != value for row in segments.rows])
    rows = [row for row in segments.rows if row[column] != value]
    less = Segments(segments.samples, segments.starts[kept], segments.lengths[kept], rows)
    with pytest.raises(EdgelidError, match=words):
        Drawer(less, labels, seed=1).check(labels)


def test_equal_seeds_draw_the_same(segments: Segments) -> None:
    one, other = (
        Drawer(segments, ["de", "en", "other", "nonspeech"], seed=4).batch(8, RATE, 98, 64)
        for _ in range(2)
    )
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_decisions_are_made_on_held_out_speech(segments: Segments) -> None:
    starts, labels, sources = development_windows(segments, ["de", "en", "other", "x"], RATE)
    assert (labels.tolist(), set(sources)) == ([1, 1], {"en/cellar"})
    scores = np.array([[0.0, 1, 5, 5], [1, 0, 0, 0]])
    assert macro_accuracy(scores, labels, sources, 2)["macro"] == 0.5
    assert len(starts) == 2


def test_a_corpus_becomes_entries(tiny_corpus: Path) -> None:
    held = {"de": ["attic"], "en": ["attic"]}
    found = list(entries_of(tiny_corpus, held, tiny_corpus.parent))
    roles = [e.role for e in found]
    assert set(roles) == {TRAIN, DEVELOPMENT, NOISE, ROOM}
    assert {e.source for e in found if e.role == DEVELOPMENT and e.language == "de"} == {"attic"}
    speakers = {role: {e.speaker for e in found if e.role == role} for role in (TRAIN, DEVELOPMENT)}
    assert not speakers[TRAIN] & speakers[DEVELOPMENT]


def test_noise_is_looked_for_beside_the_corpus_that_a_manifest_is_of(tiny_corpus: Path) -> None:
    held = {"de": ["attic"], "en": ["attic"]}
    wanted = list(entries_of(tiny_corpus, held, tiny_corpus.parent))
    assert list(entries_of(tiny_corpus / "manifest.tsv", held, None)) == wanted


def another_corpus(folder: Path, *clips: tuple[str, str, str, str]) -> Path:
    """With a clip of each (speaker, language, split, source), and one to train on."""
    rows: list[Sequence[str]] = [COLUMNS]
    for i, (speaker, language, split, source) in enumerate(
        [*clips, ("new", "de", "train", "barn")]
    ):
        path = f"more/{i}.flac"
        rows.append([path, language, split, "yes", speaker, source, "human", "1.0", "CC0", ""])
        (folder / "more").mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(encoded(tone(300, 1.0)))
    (folder / "manifest.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


def test_another_corpus_brings_more_speech_and_no_noise(tiny_corpus: Path, tmp_path: Path) -> None:
    held = {"de": ["attic"]}
    more = another_corpus(tmp_path, ("d", "de", "train", "attic"))
    roles, both = (
        [e.role for e in entries_of(tiny_corpus, held, tiny_corpus.parent, also)]
        for also in ((), [more])
    )
    for role, added in ((TRAIN, 1), (DEVELOPMENT, 1), (NOISE, 0), (ROOM, 0)):
        assert both.count(role) == roles.count(role) + added


@pytest.mark.parametrize("lacking", ["corpus", "also", "noise"])
def test_a_corpus_that_lacks_a_recording_replaces_no_bank(
    lacking: str, entries: list[Entry], tiny_corpus: Path, tmp_path: Path
) -> None:
    """Whichever of them it is, an older bank stays as it was."""
    write_bank(entries, tmp_path / "parts")
    kept = (tmp_path / "parts" / "part-00.npz").read_bytes()
    more, sounds = another_corpus(tmp_path / "more"), tiny_corpus.parent
    if lacking == "noise":
        sounds = tmp_path / "sounds"
        (sounds / "noise").mkdir(parents=True)
        (sounds / "noise" / "manifest.tsv").write_text("path\tkind\tsplit\nx.wav\train\ttrain\n")
    else:
        (more / "more" / "0.flac").unlink()
    corpora = (more, tiny_corpus) if lacking == "corpus" else (tiny_corpus, more)
    found = entries_of(corpora[0], {"de": ["attic"]}, sounds, corpora[1:])
    with pytest.raises(EdgelidError, match=r"the audio file \S+ is not in .*files missing: 1"):
        write_bank(found, tmp_path / "parts", part_bytes=1)
    assert [file.name for file in (tmp_path / "parts").iterdir()] == ["part-00.npz"]
    assert (tmp_path / "parts" / "part-00.npz").read_bytes() == kept


def test_who_is_held_out_in_one_corpus_is_in_no_other_trained_on(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    held = {"de": ["attic"]}
    more = another_corpus(tmp_path, ("attic-de-0", "de", "train", "barn"))
    for corpora in ((tiny_corpus, more), (more, tiny_corpus)):
        found = list(entries_of(corpora[0], held, tiny_corpus.parent, corpora[1:]))
        roles = {e.role for e in found if e.speaker == "attic-de-0"}
        assert roles == {DEVELOPMENT}
        assert {e.role for e in found if e.speaker == "new"} == {TRAIN}


@pytest.mark.parametrize(
    ("clip", "held", "words"),
    [
        (("home-en-0", "en", "test", "barn"), {}, "is in train in one corpus and in test"),
        (("field-en-0", "en", "train", "barn"), {}, "is in test in one corpus and in train"),
        (("x", "de", "train", "barn"), {"de": ["atic"]}, "no training clips in de from atic"),
    ],
)
def test_corpora_that_cannot_be_divided_are_refused(
    clip: tuple[str, str, str, str],
    held: dict[str, list[str]],
    words: str,
    tiny_corpus: Path,
    tmp_path: Path,
) -> None:
    more = another_corpus(tmp_path, clip)
    with pytest.raises(EdgelidError, match=words):
        list(entries_of(tiny_corpus, held, tiny_corpus.parent, [more]))
