"""Files and raw PCM: the right sound from every format, one sentence for everything else."""

from __future__ import annotations

import contextlib
import io
import itertools
import logging
import math
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
import pytest
import soundfile

from edge.audio import sources
from edge.audio.sources import AudioSource, FileSource, PcmSource, paced
from edge.audio.wakeup import WAKE_S
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from tests.edge.permissions import without_root
from tests.ogg import with_a_jump

TONE_HZ = 1_000.0
TONE_PEAK = 0.5
TONE_S = 2.0


def tone(rate_hz: int, duration_s: float = TONE_S) -> Float32Array:
    """A sine of `TONE_HZ` and `TONE_PEAK`, shape (n,)."""
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return (TONE_PEAK * np.sin(2 * np.pi * TONE_HZ * time_s)).astype(np.float32)


def write(path: Path, samples: Float32Array, rate_hz: int = SAMPLE_RATE_HZ, **kind: str) -> Path:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", rate_hz, channels, **kind) as file:
        for start in range(0, len(samples), 4_096):  # libsndfile crashes on long Ogg writes
            file.write(samples[start : start + 4_096])
    return path


def read(source: AudioSource) -> Float32Array:
    """Everything a source yields, shape (n,), once its blocks have been checked."""
    with source:
        blocks = list(source.blocks())
    for block in blocks:
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert block.size > 0
        assert np.abs(block).max() <= 1.0
    return np.concatenate(blocks)


def assert_is_the_tone(samples: Float32Array, tolerance_db: float) -> None:
    """Check frequency and level of the middle second."""
    middle = samples[len(samples) // 2 - 8_000 :][:16_000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) == TONE_HZ  # bins of 1 Hz
    level_db = 20 * np.log10(np.sqrt(2 * np.mean(middle.astype(np.float64) ** 2)) / TONE_PEAK)
    assert abs(level_db) < tolerance_db


# --- files that are fine ---------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000, 192_000, 384_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_a_tone_keeps_frequency_and_level(tmp_path: Path, rate_hz: int, channels: int) -> None:
    samples = np.tile(tone(rate_hz)[:, np.newaxis], (1, channels))
    path = write(tmp_path / "tone.wav", samples, rate_hz)
    source = FileSource(path)
    assert source.rate_hz == rate_hz
    assert source.duration_s == TONE_S
    assert source.name == str(path)
    assert source.channels == channels
    heard = read(source)
    assert len(heard) == TONE_S * SAMPLE_RATE_HZ
    assert_is_the_tone(heard, tolerance_db=0.02)


@pytest.mark.parametrize(
    ("name", "kind", "tolerance_db"),
    [
        ("tone.flac", {}, 0.02),
        ("tone.ogg", {}, 0.3),
        ("tone.mp3", {}, 0.3),
        ("tone.opus", {"format": "OGG", "subtype": "OPUS"}, 0.3),
        ("tone.aiff", {}, 0.02),
        ("float.wav", {"subtype": "FLOAT"}, 0.02),
        ("telephone.wav", {"subtype": "ULAW"}, 0.1),
        ("24-bit.wav", {"subtype": "PCM_24"}, 0.02),
    ],
)
def test_formats(
    tmp_path: Path,
    name: str,
    kind: dict[str, str],
    tolerance_db: float,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = write(tmp_path / name, tone(48_000), 48_000, **kind)
    capfd.readouterr()
    heard = read(FileSource(path))
    assert abs(len(heard) / SAMPLE_RATE_HZ - TONE_S) < 0.1  # lossy formats may pad
    assert_is_the_tone(heard, tolerance_db)
    assert capfd.readouterr().err == ""  # the decoders print complaints themselves


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_reading_in_blocks_changes_nothing(
    tmp_path: Path, name: str, rate_hz: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    noisy = tone(rate_hz) + rng.normal(0, 0.05, round(rate_hz * TONE_S)).astype(np.float32)
    path = write(tmp_path / name, noisy, rate_hz)
    in_blocks = read(FileSource(path))
    monkeypatch.setattr(sources, "BLOCK_S", 10.0)
    np.testing.assert_array_equal(in_blocks, read(FileSource(path)))


def test_blocks_are_short_whatever_the_number_of_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "many.wav", np.full((20_000, 600), 0.25, np.float32))
    with FileSource(path) as source:
        lengths = [len(block) for block in source.blocks()]
    assert sum(lengths) == 20_000
    assert max(lengths) * 600 <= sources.MAX_BLOCK_VALUES


def test_the_lowest_rate(tmp_path: Path) -> None:
    path = write(tmp_path / "slow.wav", np.full(2_000, 0.25, np.float32), 1_000)
    heard = read(FileSource(path))
    assert len(heard) == 32_000
    np.testing.assert_allclose(heard[8_000:24_000], 0.25, atol=1e-3)


def test_a_file_of_unknown_length(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "piped.flac", tone(SAMPLE_RATE_HZ))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the number of samples: 36 bits of STREAMINFO, where 0 means unknown
    data[22:26] = bytes(4)
    path.write_bytes(data)
    source = FileSource(path)
    assert source.duration_s is None
    assert_is_the_tone(read(source), tolerance_db=0.02)
    assert caplog.messages == []


def test_a_wav_recorded_to_a_pipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "piped.wav", tone(SAMPLE_RATE_HZ))
    data = path.read_bytes()
    unknown = b"\xff\xff\xff\xff"
    path.write_bytes(data[:4] + unknown + data[8:40] + unknown + data[44:])
    assert_is_the_tone(read(FileSource(path)), tolerance_db=0.02)
    assert caplog.messages == []


def test_stop_ends_a_file_early(tmp_path: Path) -> None:
    path = write(tmp_path / "long.wav", tone(SAMPLE_RATE_HZ, 10.0))
    with FileSource(path) as source:
        blocks = source.blocks()
        first = next(blocks)
        source.stop()
        rest = list(blocks)
    assert len(first) + sum(map(len, rest)) < SAMPLE_RATE_HZ


def test_close_closes_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", tone(SAMPLE_RATE_HZ))
    before = set(Path("/proc/self/fd").iterdir())
    source = FileSource(path)
    source.close()
    source.close()
    with contextlib.suppress(EdgelidError):
        FileSource(__file__)
    assert set(Path("/proc/self/fd").iterdir()) == before


# --- files that are not ----------------------------------------------------------------------


def message_of(path: str | Path) -> str:
    """The one sentence that opening and reading a file ends with."""
    with pytest.raises(EdgelidError) as caught:
        read(FileSource(path))
    message = str(caught.value)
    assert repr(str(path)) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def test_missing_file(tmp_path: Path) -> None:
    assert "does not exist" in message_of(tmp_path / "none.wav")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in message_of(tmp_path)


def test_an_impossible_name() -> None:
    assert "cannot be opened" in message_of("a\0b.wav")


def test_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening one would wait for a writer, perhaps for ever
    assert "no regular file: copy it to a file, or follow it with" in message_of(tmp_path / "fifo")


def test_no_permission(tmp_path: Path) -> None:
    path = write(tmp_path / "secret.wav", tone(SAMPLE_RATE_HZ))
    path.chmod(0)
    with without_root():
        assert "may not be read" in message_of(path)


def test_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    path.touch()
    assert "0 bytes" in message_of(path)


# A file of the kernel that opens, has a size, and cannot be read.
UNREADABLE = Path("/sys/class/net/lo/speed")


@pytest.mark.skipif(not UNREADABLE.exists(), reason=f"needs {UNREADABLE}, which opens unread")
def test_a_file_that_the_disk_does_not_give_back() -> None:
    assert "cannot be read (Invalid argument)" in message_of(UNREADABLE)


@pytest.mark.parametrize("name", ["words.wav", "words.txt", "words.raw", "words.vox", "words.gsm"])
def test_a_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("Es war einmal ein Text.\n" * 1_000)
    assert "not audio" in message_of(path)


@pytest.mark.parametrize("start", [b"", b"OggS", b"fLaC", b"RIFF", b"ID3\x03\0\0\0\0\0\x10"])
def test_random_bytes(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "random.wav"
    path.write_bytes(start + np.random.default_rng(1).bytes(100_000))
    assert "not audio" in message_of(path)


def test_half_a_header(tmp_path: Path) -> None:
    path = write(tmp_path / "header.wav", tone(SAMPLE_RATE_HZ))
    path.write_bytes(path.read_bytes()[:30])
    assert "not audio" in message_of(path)


@pytest.mark.parametrize("name", ["none.wav", "none.ogg"])
def test_no_samples(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.zeros(0, np.float32))
    assert "0 samples" in message_of(path)


@pytest.mark.parametrize("rate_hz", [999, 384_001])
def test_an_impossible_rate(tmp_path: Path, rate_hz: int) -> None:
    path = write(tmp_path / "rate.wav", np.zeros(1_000, np.float32), rate_hz)
    assert f"{rate_hz} Hz" in message_of(path)


def claiming(path: Path, **claims: int) -> Path:
    """A second of WAV whose header says something else."""
    write(path, np.zeros(SAMPLE_RATE_HZ, np.float32))
    data = bytearray(path.read_bytes())
    places = {"riff_bytes": (4, "<I"), "channels": (22, "<H"), "rate_hz": (24, "<I")}
    places |= {"frame_bytes": (32, "<H"), "data_bytes": (data.index(b"data") + 4, "<I")}
    for name, value in claims.items():
        place, code = places[name]
        struct.pack_into(code, data, place, value)
    path.write_bytes(data)
    return path


def peak_bytes(path: Path) -> int:
    """What reading a file allocates at most, whatever comes of it."""
    tracemalloc.start()
    try:
        with contextlib.suppress(EdgelidError), FileSource(path) as source:
            for _ in source.blocks():
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "claims",
    [
        {"riff_bytes": (1 << 31) + 36, "data_bytes": 1 << 31},
        {"riff_bytes": (1 << 32) - 1, "data_bytes": (1 << 32) - 1},
        {"channels": 1_000, "frame_bytes": 2_000},
        {"channels": 65_535, "frame_bytes": 65_534},
        {"rate_hz": 1},
        {"rate_hz": 384_000, "channels": 1_024, "frame_bytes": 2_048},
        {"rate_hz": (1 << 31) - 1},
        {"rate_hz": (1 << 32) - 1},
    ],
    ids=lambda claims: "-".join(f"{name}-{value}" for name, value in claims.items()),
)
def test_what_a_header_claims_takes_no_memory(tmp_path: Path, claims: dict[str, int]) -> None:
    assert peak_bytes(claiming(tmp_path / "claims.wav", **claims)) < 4 << 20


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 1])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float, channel: int) -> None:
    samples = np.zeros((88_200, 2), np.float32)
    samples[55_125, channel] = value  # at 1.25 s
    path = write(tmp_path / "nan.wav", samples, 44_100, subtype="FLOAT")
    assert "the first at 1.250 s" in message_of(path)


def test_what_comes_before_a_bad_sample_is_heard(tmp_path: Path) -> None:
    samples = tone(SAMPLE_RATE_HZ)
    samples[-1] = np.nan
    path = write(tmp_path / "nan.wav", samples, subtype="FLOAT")
    heard = 0
    with FileSource(path) as source, pytest.raises(EdgelidError):
        for block in source.blocks():
            heard += len(block)
    assert heard > SAMPLE_RATE_HZ


def test_integers_stored_as_floats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = tone(SAMPLE_RATE_HZ) * 32_768
    path = write(tmp_path / "scaled.wav", samples, subtype="FLOAT")
    assert np.abs(read(FileSource(path))).max() == 1.0
    (message,) = caplog.messages  # one, however many blocks are too loud
    assert "times full scale" in message


@pytest.mark.parametrize("name", ["cut.wav", "cut.aiff", "cut.au"])
def test_a_truncated_file_is_read_as_far_as_it_goes(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    samples = tone(SAMPLE_RATE_HZ)
    path = write(tmp_path / name, samples)
    path.write_bytes(path.read_bytes()[:40_001])  # in the middle of a sample
    heard = read(FileSource(path))
    assert 19_900 < len(heard) < 20_000
    np.testing.assert_allclose(heard, samples[: len(heard)], atol=1e-4)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    assert "truncated" in record.getMessage()


def test_a_truncated_mp3(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "cut.mp3", tone(SAMPLE_RATE_HZ))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    heard = read(FileSource(path))
    assert SAMPLE_RATE_HZ * 0.5 < len(heard) < SAMPLE_RATE_HZ * 1.5
    (message,) = caplog.messages
    assert "truncated or damaged" in message


def test_a_file_damaged_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noisy = np.random.default_rng(2).uniform(-0.5, 0.5, 64_000).astype(np.float32)
    path = write(tmp_path / "damaged.flac", noisy)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = np.random.default_rng(3).bytes(20_000)
    path.write_bytes(data)
    assert len(read(FileSource(path))) / SAMPLE_RATE_HZ == pytest.approx(1.8, abs=0.3)
    (message,) = caplog.messages
    assert "truncated or damaged: 1." in message
    assert "it promises 4.0 s" in message


@pytest.mark.parametrize("shift_samples", [-1_920, -177, 489, 1_920])  # at 48 kHz
@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_an_opus_file_whose_time_stamps_jump(
    tmp_path: Path, rate_hz: int, shift_samples: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As ffmpeg writes them: libsndfile complains, and little of the sound is lost."""
    path = write(tmp_path / "a.opus", tone(rate_hz, 6.0), rate_hz, format="OGG", subtype="OPUS")
    path.write_bytes(with_a_jump(path.read_bytes(), 4, shift_samples))
    with soundfile.SoundFile(path) as file, pytest.raises(soundfile.LibsndfileError):
        while file.tell() < file.frames:
            file.read(rate_hz // 10)
    heard = read(FileSource(path))
    assert 5.955 < len(heard) / SAMPLE_RATE_HZ <= 6.0  # two packets of 20 ms at most
    assert_is_the_tone(heard[: SAMPLE_RATE_HZ * 2], tolerance_db=0.3)
    assert_is_the_tone(heard[-SAMPLE_RATE_HZ * 2 :], tolerance_db=0.3)
    assert caplog.messages == []  # such files are common, and nobody can do anything about it


def test_a_missing_soundfile_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "tone.wav", tone(SAMPLE_RATE_HZ))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(EdgelidError, match=r'pip install "edgelid\[edge\]"'):
        FileSource(path)


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_missing_libsndfile_is_a_sentence(tmp_path: Path) -> None:
    script = """
import sys
import _soundfile

class NoLibraries:
    def dlopen(self, name):
        raise OSError(f"cannot load library {name!r}")

_soundfile.ffi = NoLibraries()  # all that soundfile does to find the library ends here
from edge.errors import EdgelidError
from edge.audio.sources import FileSource
try:
    FileSource(sys.argv[1])
except EdgelidError as error:
    print(error)
"""
    path = write(tmp_path / "tone.wav", tone(SAMPLE_RATE_HZ))
    done = run_python(script, str(path))
    assert "sudo apt install libsndfile1" in done.stdout, done.stderr


def test_importing_the_sources_loads_no_audio_library() -> None:
    script = """
import sys
import edge.audio.microphone, edge.audio.sources
audio = {"soundfile", "soxr", "sounddevice", "scipy", "librosa", "tensorflow"}
print(sorted(audio & set(sys.modules)))
"""
    done = run_python(script)
    assert done.stdout == "[]\n", done.stderr


# --- raw PCM ---------------------------------------------------------------------------------


class Dribble(io.RawIOBase):
    """A raw stream that hands out the given pieces one at a time; None is `nothing yet`."""

    def __init__(self, pieces: list[bytes | None]) -> None:
        self.pieces = pieces

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes | None:
        return self.pieces.pop(0) if self.pieces else b""


def pcm_source(stream: Any, rate_hz: int = SAMPLE_RATE_HZ, channels: int = 1) -> PcmSource:
    return PcmSource(cast(BinaryIO, stream), rate_hz, channels)


def pcm(samples: Float32Array) -> bytes:
    return (samples * 32_768).round().clip(-32_768, 32_767).astype("<i2").tobytes()


def test_pcm_scale() -> None:
    data = np.array([0, 1, -1, 32_767, -32_768], "<i2").tobytes()
    heard = read(pcm_source(io.BytesIO(data)))
    np.testing.assert_array_equal(heard * 32_768, [0, 1, -1, 32_767, -32_768])


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2), (8_000, 8)])
def test_pcm_tone(rate_hz: int, channels: int) -> None:
    samples = np.tile(tone(rate_hz)[:, np.newaxis], (1, channels))
    source = pcm_source(io.BytesIO(pcm(samples)), rate_hz, channels)
    assert source.duration_s is None
    assert_is_the_tone(read(source), tolerance_db=0.02)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_partial_reads_change_nothing(channels: int) -> None:
    data = np.random.default_rng(4).bytes(2 * channels * 4_000)
    whole = read(pcm_source(io.BytesIO(data), 22_050, channels))
    cuts = np.sort(np.random.default_rng(5).integers(0, len(data), 300))
    edges = [0, 1, 2, 3, *cuts[cuts > 3], len(data)]
    pieces: list[bytes | None] = [
        data[start:end] for start, end in itertools.pairwise(edges) if start < end
    ]
    pieces[5:5] = [None, None]
    np.testing.assert_array_equal(read(pcm_source(Dribble(pieces), 22_050, channels)), whole)


def test_a_pipe_is_read_to_its_end() -> None:
    data = pcm(tone(SAMPLE_RATE_HZ))
    reading_end, writing_end = os.pipe()

    def feed() -> None:
        with open(writing_end, "wb", buffering=0) as pipe:
            pipe.writelines(data[start : start + 777] for start in range(0, len(data), 777))

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open(reading_end, "rb") as pipe:
        heard = read(pcm_source(pipe))
    feeder.join()
    assert pcm(heard) == data


def test_a_regular_file_as_standard_input(tmp_path: Path) -> None:
    (tmp_path / "raw.pcm").write_bytes(pcm(tone(SAMPLE_RATE_HZ)))
    with open(tmp_path / "raw.pcm", "rb") as file:
        assert_is_the_tone(read(pcm_source(file)), tolerance_db=0.02)


def test_an_odd_byte_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    heard = read(pcm_source(io.BytesIO(pcm(tone(SAMPLE_RATE_HZ)) + b"\x01")))
    assert len(heard) == TONE_S * SAMPLE_RATE_HZ
    (message,) = caplog.messages
    assert "last 1 bytes" in message


def test_a_single_sample() -> None:
    assert len(read(pcm_source(io.BytesIO(b"\x00\x40")))) == 1


def test_a_silent_pipe_can_be_stopped() -> None:
    reading_end, writing_end = os.pipe()
    with open(reading_end, "rb") as pipe, open(writing_end, "wb"):
        source = pcm_source(pipe)
        blocks: list[Float32Array] = []
        reader = threading.Thread(target=lambda: blocks.extend(source.blocks()), daemon=True)
        reader.start()
        source.stop()
        reader.join(timeout=60)
        assert not reader.is_alive()
    assert blocks == []


def test_no_audio_at_all() -> None:
    with pytest.raises(EdgelidError, match="without any audio"):
        read(pcm_source(io.BytesIO(b"")))


def test_a_terminal() -> None:
    leader, follower = os.openpty()
    with (
        open(leader, "rb", buffering=0),
        open(follower, "rb", buffering=0) as terminal,
        pytest.raises(EdgelidError, match="is a terminal"),
    ):
        pcm_source(terminal)


@pytest.mark.parametrize("piece_bytes", [1, 3, 10_000])
def test_a_wav_file_instead_of_raw_samples(piece_bytes: int) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, SAMPLE_RATE_HZ, 0, "NONE", ""))
        recording.writeframes(pcm(tone(SAMPLE_RATE_HZ, 0.1)))
    data = file.getvalue()
    pieces: list[bytes | None] = [
        data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)
    ]
    with pytest.raises(EdgelidError, match="carries WAV instead of raw"):
        read(pcm_source(Dribble(pieces)))


def test_a_stream_that_breaks() -> None:
    class Broken(Dribble):
        def read(self, size: int = -1, /) -> bytes | None:
            if not self.pieces:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(EdgelidError, match=r"read any further \(Input/output error\)"):
        read(pcm_source(Broken([b"\0\0\0\0"])))


@pytest.mark.parametrize(("rate_hz", "channels"), [(500, 1), (16_000, 0)])
def test_impossible_pcm(rate_hz: int, channels: int) -> None:
    with pytest.raises(EdgelidError):
        pcm_source(io.BytesIO(b"\0\0"), rate_hz, channels)


# --- real time -------------------------------------------------------------------------------


class FakeTime:
    """A clock that only moves when someone sleeps, and then a little too far."""

    OVERSLEEP_S = 0.003

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.sleeps = 0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        assert duration_s > 0
        self.sleeps += 1
        self.now_s += duration_s + self.OVERSLEEP_S


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    clock = FakeTime()
    module = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr(sources, "time", module)
    return clock


def test_pacing_does_not_drift(fake_time: FakeTime) -> None:
    blocks = [np.zeros(1_000 + 37 * (i % 5), np.float32) for i in range(2_000)]
    start_s = fake_time.now_s
    samples = 0
    for block, given in zip(paced(blocks), blocks, strict=True):
        assert block is given
        samples += len(block)
        late_s = fake_time.now_s - start_s - samples / SAMPLE_RATE_HZ
        assert 0 <= late_s + 1e-9 < WAKE_S + FakeTime.OVERSLEEP_S + 1e-6
    assert fake_time.sleeps == math.ceil(samples / SAMPLE_RATE_HZ / WAKE_S)


def test_pacing_catches_up(fake_time: FakeTime) -> None:
    start_s = fake_time.now_s
    delivered_s = []
    for i, _ in enumerate(paced([np.zeros(1_600, np.float32)] * 30)):
        if i == 0:
            fake_time.now_s += 1.0  # the listener was busy
        delivered_s.append(fake_time.now_s - start_s)
    assert delivered_s[11] == delivered_s[0]  # all that was due by then at once
    assert delivered_s[-1] == pytest.approx(10 * WAKE_S, abs=2 * FakeTime.OVERSLEEP_S)
