"""Files of several recordings, of phones, and cut ones: all that is in them is heard, or told."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge.audio import decoding, ffmpeg
from edge.audio.decoding import NeedsFfmpeg
from edge.audio.formats import mpeg_frame_bytes
from edge.audio.sections import MAX_SECTIONS, sections
from edge.audio.sources import FileSource
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg from apt")

TONES_HZ = (500.0, 1_000.0, 2_000.0)
TONE_S = 2.0


def tone(hz: float, rate_hz: int = SAMPLE_RATE_HZ, duration_s: float = TONE_S) -> Float32Array:
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def encoded(path: Path, samples: Float32Array, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """The samples in the format that the name of a file stands for."""
    kind = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    with soundfile.SoundFile(path, "w", rate_hz, 1, **kind) as file:
        for start in range(0, len(samples), 4_096):  # libsndfile crashes on long Ogg writes
            file.write(samples[start : start + 4_096])
    return path.read_bytes()


def read(path: Path) -> Float32Array:
    with FileSource(path) as source:
        return np.concatenate(list(source.samples()))


def main_hz(samples: Float32Array) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE_HZ / len(samples))


def assert_are_the_tones(samples: Float32Array, tones_hz: tuple[float, ...] = TONES_HZ) -> None:
    """Check that tones of `TONE_S` follow one another."""
    assert len(samples) / SAMPLE_RATE_HZ == pytest.approx(TONE_S * len(tones_hz), abs=0.3)
    for part, hz in zip(np.array_split(samples, len(tones_hz)), tones_hz, strict=True):
        middle = part[len(part) // 4 : -len(part) // 4]
        assert main_hz(middle) == pytest.approx(hz, abs=3)


# --- several in one file ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    [".ogg", ".opus", ".mp3", ".flac", ".wav", ".aiff", ".au", ".caf", ".w64", ".rf64"],
)
def test_recordings_that_were_joined(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = [encoded(tmp_path / f"{hz}{suffix}", tone(hz)) for hz in TONES_HZ]
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(b"".join(parts))
    assert_are_the_tones(read(path))
    assert caplog.messages == []


@pytest.mark.parametrize("suffix", [".ogg", ".mp3", ".wav", ".aiff"])
def test_joined_recordings_of_several_rates(tmp_path: Path, suffix: str) -> None:
    rates_hz = (44_100, 16_000, 22_050)
    parts = [
        encoded(tmp_path / f"{hz}{suffix}", tone(hz, rate_hz), rate_hz)
        for hz, rate_hz in zip(TONES_HZ, rates_hz, strict=True)
    ]
    path = tmp_path / f"joined{suffix}"
    path.write_bytes(b"".join(parts))
    assert_are_the_tones(read(path))


@pytest.mark.parametrize(
    "suffixes", [(".ogg", ".opus"), (".wav", ".aiff", ".flac"), (".au", ".mp3")]
)
def test_recordings_of_several_formats_in_one_file(
    tmp_path: Path, suffixes: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    tones_hz = TONES_HZ[: len(suffixes)]
    parts = [
        encoded(tmp_path / f"{hz}{suffix}", tone(hz))
        for hz, suffix in zip(tones_hz, suffixes, strict=True)
    ]
    path = tmp_path / "joined"
    path.write_bytes(b"".join(parts))
    assert_are_the_tones(read(path), tones_hz)
    assert caplog.messages == []


def test_padding_between_recordings(tmp_path: Path) -> None:
    parts = [encoded(tmp_path / f"{hz}.wav", tone(hz)) for hz in TONES_HZ]
    path = tmp_path / "joined.wav"
    path.write_bytes(bytes(512).join(parts))
    assert_are_the_tones(read(path))


def test_what_is_behind_a_recording_and_nothing_known_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "more.wav"
    path.write_bytes(encoded(path, tone(500.0)) + 30_000 * b"\x01")
    assert_are_the_tones(read(path), (500.0,))
    (message,) = caplog.messages
    assert "30000 bytes behind its end are nothing that is known" in message


def test_an_mp3_that_does_not_count_before_one_that_does(tmp_path: Path) -> None:
    first = encoded(tmp_path / "1.mp3", tone(500.0))
    frames = first[mpeg_frame_bytes(first) :]  # without the frame that counts
    path = tmp_path / "joined.mp3"
    path.write_bytes(frames + encoded(tmp_path / "2.mp3", tone(2_000.0)))
    assert_are_the_tones(read(path), (500.0, 2_000.0))


def test_an_mp3_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    """libsndfile guesses from the first frame, which here is far longer than the others."""
    path = tmp_path / "radio.mp3"
    data = encoded(path, tone(500.0))
    path.write_bytes(data[mpeg_frame_bytes(data) :])
    assert soundfile.info(path).duration < 0.5 * TONE_S
    assert_are_the_tones(read(path), (500.0,))


@pytest.fixture
def without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def uncounted(path: Path, samples: Float32Array, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """An MP3 file without the frame that says how many there are, as radios send it."""
    data = encoded(path, samples, rate_hz)
    return data[mpeg_frame_bytes(data) :]


ID3_TAG = b"ID3\x04\0\0" + bytes((0, 0, 2, 0)) + bytes(256)


@pytest.mark.usefixtures("without_ffmpeg")
@pytest.mark.parametrize("between", [b"", ID3_TAG, bytes(3_000)], ids=["nothing", "tag", "zeros"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_mp3_of_a_radio_needs_nothing_but_libsndfile(
    tmp_path: Path, between: bytes, rate_hz: int
) -> None:
    path = tmp_path / "radio.mp3"
    first = uncounted(tmp_path / "1.mp3", tone(500.0))
    path.write_bytes(
        first + between + uncounted(tmp_path / "2.mp3", tone(2_000.0, rate_hz), rate_hz)
    )
    assert_are_the_tones(read(path), (500.0, 2_000.0))


@pytest.mark.usefixtures("without_ffmpeg")
def test_an_mp3_that_begins_amid_a_frame(tmp_path: Path) -> None:
    path = tmp_path / "radio.mp3"
    path.write_bytes(uncounted(path, tone(500.0))[100:])
    assert_are_the_tones(read(path), (500.0,))


@pytest.mark.usefixtures("without_ffmpeg")
@pytest.mark.parametrize("count", [0, 10, 100_000])
def test_an_mp3_that_counts_wrongly(tmp_path: Path, count: int) -> None:
    path = tmp_path / "lies.mp3"
    data = bytearray(encoded(path, tone(500.0)))
    name = max(data.find(b"Xing", 0, 64), data.find(b"Info", 0, 64))
    assert name > 0 and data[name + 7] & 1
    data[name + 8 : name + 12] = count.to_bytes(4, "big")
    path.write_bytes(data)
    assert_are_the_tones(read(path), (500.0,))


@pytest.mark.parametrize("left_bytes", range(9))
@pytest.mark.parametrize("name", [b"Xing", b"Info"])
def test_an_mp3_that_ends_where_it_counts(tmp_path: Path, name: bytes, left_bytes: int) -> None:
    path = tmp_path / "cut.mp3"
    count = b"\0\0\0\1\0\0\0\0"[:left_bytes]
    path.write_bytes(b"\xff\xfb\x90\x00" + bytes(32) + name + count)
    with pytest.raises(EdgelidError, match=r"cut\.mp3"):
        read(path)


@pytest.mark.usefixtures("without_ffmpeg")
@pytest.mark.parametrize("counts", [False, True])
def test_an_mp3_that_is_damaged_in_the_middle_goes_on_behind(
    tmp_path: Path, counts: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "damaged.mp3"
    samples = np.concatenate([tone(hz) for hz in TONES_HZ])
    data = bytearray((encoded if counts else uncounted)(path, samples))
    middle = len(data) // 2
    data[middle : middle + 2_000] = bytes(2_000)
    path.write_bytes(data)
    heard = read(path)
    assert len(heard) / SAMPLE_RATE_HZ > 0.8 * TONE_S * len(TONES_HZ)
    assert main_hz(heard[-SAMPLE_RATE_HZ:]) == pytest.approx(2_000.0, abs=3)
    (message,) = caplog.messages
    assert "truncated or damaged" in message


@pytest.mark.usefixtures("without_ffmpeg")
def test_an_mp3_that_does_not_count_and_is_cut(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cut.mp3"
    path.write_bytes(uncounted(path, tone(500.0))[:-100])
    assert_are_the_tones(read(path), (500.0,))
    (message,) = caplog.messages
    assert "its end is missing" in message


def test_tags_behind_an_mp3_are_no_recording(tmp_path: Path) -> None:
    data = encoded(tmp_path / "1.mp3", tone(500.0))
    path = tmp_path / "tagged.mp3"
    path.write_bytes(data + b"TAG" + bytes(125))
    assert_are_the_tones(read(path), (500.0,))


def test_a_part_that_cannot_be_decoded_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = encoded(tmp_path / "1.ogg", tone(500.0))
    bad = bytearray(encoded(tmp_path / "2.ogg", tone(1_000.0)))
    bad[28:35] = b"\x01nothing"[:7]
    path = tmp_path / "chain.ogg"
    path.write_bytes(first + bytes(bad) + encoded(tmp_path / "3.ogg", tone(2_000.0)))
    assert_are_the_tones(read(path), (500.0, 2_000.0))
    (message,) = caplog.messages
    assert f"part 2 of 3, of {len(bad)} bytes" in message


def test_a_million_tiny_parts_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "hostile.ogg"
    page = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, 1, 0, 0, 0)
    data_page = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 1, 0, 0, 0)
    path.write_bytes((page + data_page) * 100_000)
    with path.open("rb") as file:
        found = sections(file.fileno())
    assert len(found) == MAX_SECTIONS
    assert found[-1].end == path.stat().st_size


def far_tags() -> bytes:
    """ID3 tags behind a byte that is none, which all lead two MiB on, where there is nothing."""
    tag = b"ID3\x03\0\0"
    return tag + bytes(4) + b"\1" + 300 * (tag + b"\1\0\0\0") + bytes(3 << 20)


def false_pages() -> bytes:
    """Pages of Ogg of no segments, a byte apart."""
    return (struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 1, 0, 0, 0) + b"\1") * 3_000


@pytest.mark.parametrize("contents", [far_tags, false_pages])
def test_a_file_is_read_about_once_to_find_its_parts(
    tmp_path: Path, contents: Callable[[], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes = 0

    def counted(descriptor: int, count: int, position: int) -> bytes:
        nonlocal read_bytes
        data = pread(descriptor, count, position)
        read_bytes += len(data)
        return data

    pread = os.pread
    monkeypatch.setattr(os, "pread", counted)
    path = tmp_path / "hostile"
    path.write_bytes(contents())
    with path.open("rb") as file:
        sections(file.fileno())
    assert read_bytes < 2 * path.stat().st_size


@pytest.mark.parametrize(
    "start",
    [
        b"\0\0\0\x02ftypM4A ",
        b"\0\0\0\x01ftyp" + (7).to_bytes(8, "big"),
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + (12).to_bytes(8, "little"),
    ],
    ids=["a box of two bytes", "a long box of seven", "an object of twelve"],
)
@pytest.mark.parametrize("more_bytes", [0, 3_000])
def test_a_size_that_leads_nowhere_is_one_recording(
    tmp_path: Path, start: bytes, more_bytes: int
) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(start[: None if more_bytes else 12] + bytes(more_bytes))
    with path.open("rb") as file:
        (found,) = sections(file.fileno())
    assert (found.start, found.end) == (0, path.stat().st_size)


FORMAT_CHUNK = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)


@pytest.mark.parametrize(
    "data",
    [
        b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + bytes(28) + FORMAT_CHUNK + b"data",
        b"caff\0\1\0\0desc" + bytes(7) + b"\x20" + bytes(32) + b"free\x7f" + b"\xff" * 7,
    ],
    ids=["RF64, cut behind the word data", "CAF, a chunk longer than any file"],
)
def test_a_header_that_is_cut_or_damaged_is_one_recording(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(data)
    with path.open("rb") as file:
        (found,) = sections(file.fileno())
    assert (found.start, found.end) == (0, len(data))
    with pytest.raises(EdgelidError, match="damaged"):
        read(path)


def test_a_wav_whose_samples_lie_behind_what_its_sizes_can_say(tmp_path: Path) -> None:
    path = tmp_path / "hostile.wav"
    junk_bytes = 0xFFFFFFF0
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WAVEJUNK" + junk_bytes.to_bytes(4, "little"))
        file.seek(junk_bytes, os.SEEK_CUR)  # takes no room on the disk
        file.write(b"data\0\0\0\0" + bytes(range(256)))
    with path.open("rb") as file:
        assert sections(file.fileno())[0].start == 0


def test_no_serial_number_is_needed_to_tell_links_apart(tmp_path: Path) -> None:
    data = encoded(tmp_path / "1.ogg", tone(500.0))
    path = tmp_path / "twice.ogg"
    path.write_bytes(data + data)
    assert_are_the_tones(read(path), (500.0, 500.0))


# --- lengths that a recorder did not know ----------------------------------------------------


@pytest.mark.parametrize("sizes", [(0, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0, 0xFFFFFFFF)])
def test_a_wav_from_a_stream(
    tmp_path: Path, sizes: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "piped.wav"
    data = bytearray(encoded(path, tone(500.0)))
    struct.pack_into("<I", data, 4, sizes[0])
    struct.pack_into("<I", data, data.index(b"data") + 4, sizes[1])
    path.write_bytes(data)
    assert_are_the_tones(read(path), (500.0,))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("suffix", "places"),
    [
        (".rf64", [(b"ds64", 8, 24)]),  # sizes of the file, of its samples, and their count
        (".au", [(b".snd", 8, 4)]),
        (".caf", [(b"data", 4, 8)]),
    ],
)
@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
def test_other_formats_from_a_stream(
    tmp_path: Path,
    suffix: str,
    places: list[tuple[bytes, int, int]],
    byte: bytes,
    caplog: pytest.LogCaptureFixture,
    without_ffmpeg: None,
) -> None:
    path = tmp_path / f"piped{suffix}"
    data = bytearray(encoded(path, tone(500.0)))
    for mark, at, count in places:
        begin = data.index(mark) + at
        data[begin : begin + count] = byte * count
    path.write_bytes(data)
    assert_are_the_tones(read(path), (500.0,))
    assert caplog.messages == []


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_wavs_from_streams_that_were_joined(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    parts = []
    for hz, rate_hz in zip(TONES_HZ, (16_000, 44_100, 8_000), strict=True):
        data = bytearray(encoded(tmp_path / "one.wav", tone(hz, rate_hz), rate_hz))
        for at in (4, data.index(b"data") + 4):
            struct.pack_into("<I", data, at, size)
        parts.append(bytes(data))
    path = tmp_path / "joined.wav"
    path.write_bytes(b"".join(parts))
    assert_are_the_tones(read(path))
    assert caplog.messages == []


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_wav_from_a_stream_with_a_header_in_its_header(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing begins within what lies before the samples, whatever it looks like."""
    path = tmp_path / "piped.wav"
    start = b"RIFF\0\0\0\0WAVEJUNK"
    samples = (tone(500.0) * 32_767).astype("<i2").tobytes()
    junk = b"\x2c\0\0\0" + bytes(28) + start
    path.write_bytes(start + junk + FORMAT_CHUNK + b"data" + size.to_bytes(4, "little") + samples)
    assert_are_the_tones(read(path), (500.0,))
    assert caplog.messages == []


def test_an_aiff_of_a_recorder_that_knew_no_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As sox writes it to a pipe."""
    path = tmp_path / "piped.aiff"
    data = bytearray(encoded(path, tone(500.0)))
    struct.pack_into(">I", data, 4, 0x7F000050)
    struct.pack_into(">I", data, data.index(b"SSND") + 4, 0x7F000008)
    path.write_bytes(data)
    assert_are_the_tones(read(path), (500.0,))
    assert caplog.messages == []


def test_a_wav_that_really_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    data = encoded(path, np.zeros(0, np.float32))
    path.write_bytes(data + b"LIST" + struct.pack("<I", 400) + bytes(400))
    with pytest.raises(EdgelidError, match="0 samples"):
        read(path)


# --- what is cut ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".au", ".w64", ".rf64", ".caf"]
)
def test_one_rule_for_what_is_cut(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"cut{suffix}"
    noise = np.random.default_rng(1).normal(0, 0.1, 6 * SAMPLE_RATE_HZ).astype(np.float32)
    data = encoded(path, noise)
    path.write_bytes(data[: len(data) // 2 + 1])
    with FileSource(path) as source:
        heard = np.concatenate(list(source.samples()))
        assert source.shortfall is not None
    assert 1.0 < len(heard) / SAMPLE_RATE_HZ < 3.5
    (message,) = caplog.messages
    assert message == source.shortfall
    words = "its end is missing" if suffix in (".ogg", ".opus", ".caf") else "it promises 6.0 s"
    assert f"is truncated or damaged: {len(heard) / SAMPLE_RATE_HZ:.1f} s of it" in message
    assert words in message


def test_nothing_of_a_file_can_be_decoded(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    data = encoded(path, tone(500.0))
    path.write_bytes(data[:200])
    with pytest.raises(EdgelidError, match=r"nothing of it can be decoded|not audio"):
        read(path)


# --- the formats of phones ------------------------------------------------------------------

PHONES = {
    "voice.m4a": ["-c:a", "aac"],
    "lossless.m4a": ["-c:a", "alac"],
    "voice.aac": ["-c:a", "aac"],
    "voice.3gp": ["-c:a", "aac"],
    "voice.webm": ["-c:a", "libopus"],
    "voice.mka": ["-c:a", "pcm_s16le"],
    "voice.wma": ["-c:a", "wmav2"],
    "voice.spx": ["-c:a", "libspeex"],
    "voice.mp2": ["-c:a", "mp2"],
    "voice.wv": ["-c:a", "wavpack"],
    "voice.ts": ["-c:a", "aac"],
    "voice.ac3": ["-c:a", "ac3"],
    "voice.eac3": ["-c:a", "eac3"],
    "voice.latm": ["-c:a", "aac", "-f", "latm"],
    "voice.avi": ["-c:a", "aac"],
    "voice.oga": ["-c:a", "flac", "-f", "ogg"],
    "movie.mp4": ["-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"],
}


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes a recording of three tones, as a phone does."""
    folder = tmp_path_factory.mktemp("phone")
    wav = folder / "tones.wav"
    encoded(wav, np.concatenate([tone(hz) for hz in TONES_HZ]))

    def make(name: str) -> Path:
        path = folder / name
        if not path.exists():
            command = ["ffmpeg", "-v", "error", "-i", wav, *PHONES[name], "-strict", "-2", path]
            subprocess.run(command, check=True)
        return path

    return make


@needs_ffmpeg
@pytest.mark.parametrize("name", PHONES)
def test_formats_of_phones(
    phone: Callable[[str], Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = phone(name)
    assert_are_the_tones(read(path))
    assert caplog.messages == []


@needs_ffmpeg
def test_the_name_does_not_matter(phone: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "-i http:$(x)\n'%d'.wav"
    shutil.copyfile(phone("voice.m4a"), path)
    assert_are_the_tones(read(path))


@needs_ffmpeg
@pytest.mark.parametrize("name", ["voice.webm", "movie.mp4", "voice.wma"])
def test_a_cut_recording_of_a_phone(
    phone: Callable[[str], Path], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = phone(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * 2 // 3])
    assert 1.0 < len(read(path)) / SAMPLE_RATE_HZ < 5.0
    (message,) = caplog.messages
    assert "truncated or damaged" in message


@needs_ffmpeg
@pytest.mark.parametrize(
    "name", ["voice.m4a", "voice.webm", "voice.wma", "voice.mka", "voice.spx", "voice.oga"]
)
def test_recordings_of_a_phone_that_were_joined(
    phone: Callable[[str], Path], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    path.write_bytes(2 * phone(name).read_bytes())
    assert_are_the_tones(read(path), TONES_HZ * 2)
    assert caplog.messages == []


@needs_ffmpeg
def test_a_chain_of_what_libsndfile_knows_and_what_not(
    phone: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chain.ogg"
    vorbis = encoded(tmp_path / "1.ogg", np.concatenate([tone(hz) for hz in TONES_HZ]))
    path.write_bytes(phone("voice.spx").read_bytes() + vorbis + phone("voice.oga").read_bytes())
    assert_are_the_tones(read(path), TONES_HZ * 3)
    assert caplog.messages == []


@needs_ffmpeg
def test_a_part_that_needs_ffmpeg_where_there_is_none(
    phone: Callable[[str], Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speex, vorbis = phone("voice.spx").read_bytes(), encoded(tmp_path / "1.ogg", tone(500.0))
    path = tmp_path / "chain.ogg"
    monkeypatch.setenv("PATH", "/nowhere")
    for number, parts in enumerate(((speex, vorbis), (vorbis, speex)), 1):
        caplog.clear()
        path.write_bytes(b"".join(parts))
        assert_are_the_tones(read(path), (500.0,))
        (message,) = caplog.messages
        assert f"part {number} of 2, of {len(speex)} bytes: " in message
        assert message.endswith("ffmpeg may know it: sudo apt install ffmpeg)")
    path.write_bytes(speex)
    with pytest.raises(EdgelidError, match=r": ffmpeg may: sudo apt install ffmpeg\.$"):
        read(path)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["voice.spx", "voice.oga"])
def test_a_cut_ogg_that_ffmpeg_reads(
    phone: Callable[[str], Path], name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    data = phone(name).read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    read(path)
    (message,) = caplog.messages
    assert "its end is missing" in message


@needs_ffmpeg
def test_a_film_without_sound_is_told_as_that(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    film = ["-f", "lavfi", "-i", "color=size=16x16:duration=0.2", path]
    subprocess.run(["ffmpeg", "-v", "error", *film], check=True)
    with pytest.raises(EdgelidError, match="there is no sound in it"):
        read(path)


@needs_ffmpeg
def test_what_ffmpeg_cannot_read_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(1_000))
    with pytest.raises(EdgelidError, match=r"not audio that .* or ffmpeg \(.*\) can read: .*\.$"):
        read(path)


def test_without_ffmpeg_the_sentence_says_what_to_install(
    tmp_path: Path, without_ffmpeg: None
) -> None:
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(1_000))
    with pytest.raises(NeedsFfmpeg, match=r"is MPEG-4, which needs .*: sudo apt install ffmpeg\.$"):
        read(path)


def test_a_part_of_which_the_disk_gives_back_the_beginning_is_told(tmp_path: Path) -> None:
    path = tmp_path / "chain.wav"
    path.write_bytes(2 * encoded(tmp_path / "1.wav", tone(500.0, duration_s=60.0)))
    folder = os.open(tmp_path, os.O_RDONLY)  # a folder is opened, and not read
    with FileSource(path) as source:
        blocks = source.samples()
        next(blocks)
        os.dup2(folder, source.recording._file.fileno())
        assert sum(map(len, blocks)) < 59 * SAMPLE_RATE_HZ
        assert source.recording.problems[0] == "Is a directory; it promises 60.0 s"
    os.close(folder)


@needs_ffmpeg
def test_a_part_that_the_disk_does_not_give_back_is_told(
    phone: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / "chain"
    path.write_bytes(encoded(tmp_path / "1.wav", tone(500.0)) + phone("voice.m4a").read_bytes())
    folder = os.open(tmp_path, os.O_RDONLY)  # a folder is opened, and not read
    with FileSource(path) as source:
        parts = source.recording.parts()
        next(parts)
        os.dup2(folder, source.recording._file.fileno())
        assert [*parts] == []
        assert source.recording.problems[0].endswith(": Is a directory")
    os.close(folder)


@needs_ffmpeg
@pytest.mark.parametrize(
    "script",
    [
        "ffconcat version 1.0\nfile '{secret}'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    ],
    ids=["concat", "playlist", "session"],
)
def test_a_recording_leads_to_no_other_file(tmp_path: Path, script: str) -> None:
    """Even where our own look at its contents let it through."""
    secret = tmp_path / "secret.wav"
    encoded(secret, tone(500.0))
    path = tmp_path / "script.m4a"
    path.write_text(script.format(secret=secret))
    with path.open("rb") as file:
        child = ffmpeg.of_file("script", file.fileno())
        try:
            with pytest.raises(EdgelidError, match="cannot read"):
                ffmpeg.wait_ready(child, lambda: False)
        finally:
            child.close()


def program(folder: Path, script: str) -> None:
    """An ffmpeg that does something else."""
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def other_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts something in its place; returns a recording that needs it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(1_000))

    def put(script: str) -> Path:
        program(tmp_path, script)
        return path

    return put


def test_a_file_of_parts_that_ffmpeg_refuses_is_given_up(
    other_ffmpeg: Callable[[str], Path], tmp_path: Path
) -> None:
    """Each takes a process: of 80 kB, 10,000 of them."""
    path = other_ffmpeg(f"echo >>{tmp_path}/starts; exit 1")
    path.write_bytes(b"\0\0\0\x08ftyp" * 10_000)
    with pytest.raises(EdgelidError, match="not audio"):
        read(path)
    starts = (tmp_path / "starts").read_text().splitlines()
    assert len(starts) == decoding.MAX_REFUSED + 1  # once with the file as a whole


def test_parts_that_were_not_tried_are_told(
    other_ffmpeg: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = other_ffmpeg("exit 1")
    first = encoded(tmp_path / "1.wav", tone(500.0))
    path.write_bytes(first + b"\0\0\0\x08ftyp" * (decoding.MAX_REFUSED + 7))
    with FileSource(path) as source:
        assert_are_the_tones(np.concatenate(list(source.samples())), (500.0,))
        problems = source.recording.problems
    assert len(problems) == decoding.MAX_REFUSED + 1
    assert problems[-1] == "7 parts behind it were not tried"
    assert "is truncated or damaged" in caplog.text


# Of what it makes of sound: 16 kHz, one channel.
HEADER = (
    r"printf '.snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\076\200'; "
    r"printf '\000\000\000\001'"
)


def test_an_ffmpeg_that_hangs(
    other_ffmpeg: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(decoding, "SILENT_S", 3.0)
    start_s = time.monotonic()
    path = other_ffmpeg(f"{HEADER}; head -c 64000 /dev/zero; exec sleep 100")
    assert len(read(path)) == SAMPLE_RATE_HZ
    assert "made nothing more of it" in caplog.text
    assert time.monotonic() - start_s < 60


def test_an_ffmpeg_that_complains_does_not_hang(
    other_ffmpeg: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More messages than there are waits, of a tenth of a second each, before it hangs."""
    monkeypatch.setattr(decoding, "SILENT_S", 20.0)
    path = other_ffmpeg(
        f"{HEADER}; head -c 64000 /dev/zero; i=0; "
        "while [ $i -lt 400 ]; do echo '[error] broken' >&2; i=$((i+1)); sleep 0.001; done; "
        "head -c 64000 /dev/zero"
    )
    assert len(read(path)) == 2 * SAMPLE_RATE_HZ


def test_an_ffmpeg_that_may_not_take_so_much(
    other_ffmpeg: Callable[[str], Path], tmp_path: Path
) -> None:
    path = other_ffmpeg("sleep 0.3; ulimit -d >limits; ulimit -t >>limits; ulimit -c >>limits")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        with pytest.raises(EdgelidError, match="not audio"):
            read(path)
    finally:
        os.chdir(here)
    limits = (tmp_path / "limits").read_text().split()
    assert limits == [str(ffmpeg.MAX_BYTES >> 10), str(ffmpeg.MAX_PROCESSOR_S), "0"]


@pytest.mark.parametrize(
    "script",
    [
        "exit 3",
        "head -c 100000 /dev/urandom",
        "exec sleep 100",
        "yes '[error] x' | head -c 9000000 >&2",
    ],
)
def test_whatever_ffmpeg_does_is_a_sentence(
    other_ffmpeg: Callable[[str], Path], script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ffmpeg, "SILENT_S", 0.3)
    monkeypatch.setattr(ffmpeg.wait_ready, "__defaults__", (0.5,))
    with pytest.raises(EdgelidError) as caught:
        read(other_ffmpeg(script))
    assert "\n" not in str(caught.value)


def test_no_child_stays_behind(other_ffmpeg: Callable[[str], Path]) -> None:
    path = other_ffmpeg(f"{HEADER}; exec cat /dev/zero")
    before = set(Path("/proc/self/fd").iterdir())
    with FileSource(path) as source:
        next(iter(source.samples()))
        child = source.recording.first._child  # type: ignore[attr-defined]
        pid = child._process.pid
    assert not Path(f"/proc/{pid}").exists()
    assert len(set(Path("/proc/self/fd").iterdir())) == len(before)


def test_it_can_be_stopped_while_it_waits(other_ffmpeg: Callable[[str], Path]) -> None:
    with FileSource(other_ffmpeg(f"{HEADER}; head -c 6400 /dev/zero; exec sleep 100")) as source:
        start_s = time.monotonic()
        for _ in source.samples():
            source.stop()
        assert time.monotonic() - start_s < 5


@pytest.mark.parametrize(("largest", "extra"), [(2**63 - 1, "edge"), (2**31 - 1, "edge-legacy")])
def test_a_missing_package_is_named_as_there_is_one(
    largest: int, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    monkeypatch.setattr(sys, "maxsize", largest)
    monkeypatch.setattr(sys, "hexversion", 0x030B0000)  # as on Raspberry Pi OS bookworm
    with pytest.raises(EdgelidError, match=rf'pip install "edgelid\[{extra}\]"'):
        decoding.import_soundfile()
