"""Lengths are those of the decoded audio, whatever the header says."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tqdm import tqdm

from edge.errors import EdgelidError
from train.corpus.durations import length_s, measure

RATE_HZ = 48_000
FRAMES = 5 * RATE_HZ + 123

# Of the two bytes of an MP3 frame header that tell its size, for MPEG-1 layer III.
KBIT_RATES = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
RATES_HZ = (44_100, 48_000, 32_000)


def mp3(path: Path, mode: str) -> bytes:
    """Noise that grows louder, so that the bit rate varies; its first frame counts the others."""
    noise = np.random.default_rng(0).standard_normal(FRAMES) * 0.1 * np.linspace(0, 1, FRAMES) ** 4
    with soundfile.SoundFile(
        path, "w", RATE_HZ, 1, format="MP3", bitrate_mode=mode, compression_level=0.5
    ) as file:
        file.write(noise.astype(np.float32))
    return path.read_bytes()


def without_count(data: bytes) -> bytes:
    """An MP3 file without its first frame."""
    size = 144_000 * KBIT_RATES[data[2] >> 4] // RATES_HZ[data[2] >> 2 & 3] + (data[2] >> 1 & 1)
    return data[size:]


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
def test_mp3(tmp_path: Path, mode: str) -> None:
    counted = mp3(tmp_path / "a.mp3", mode)
    assert length_s(tmp_path / "a.mp3") == FRAMES / RATE_HZ
    tag = b"ID3\x04\0\0" + bytes((0, 0, 2, 3)) + bytes(2 * 128 + 3)
    (tmp_path / "b.mp3").write_bytes(tag + counted)
    assert length_s(tmp_path / "b.mp3") == FRAMES / RATE_HZ
    (tmp_path / "c.mp3").write_bytes(tag + without_count(counted))
    # Its padding, up to two frames, can no longer be told from audio.
    assert 0 <= length_s(tmp_path / "c.mp3") - FRAMES / RATE_HZ < 0.05


def test_the_header_alone_would_be_wrong(tmp_path: Path) -> None:
    """Why `length_s` decodes such files: should this fail, it need not any more."""
    (tmp_path / "a.mp3").write_bytes(without_count(mp3(tmp_path / "b.mp3", "VARIABLE")))
    assert soundfile.info(tmp_path / "a.mp3").frames > 1.2 * FRAMES


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus"])
def test_other_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {}
    soundfile.write(path, np.zeros((FRAMES, 2), np.float32), RATE_HZ, **options)
    assert length_s(path) == FRAMES / RATE_HZ


def test_a_wav_file_that_was_piped(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(FRAMES, np.float32), RATE_HZ, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    path.write_bytes(data)
    assert length_s(path) == FRAMES / RATE_HZ


def test_what_has_no_length(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "none.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros(0), RATE_HZ)
    for name, reason in {
        "text": "no audio that libsndfile can read",
        "none": "no audio that libsndfile can read",
        "folder": "no file",
        "pipe": "no file",
        "silent": "holds no audio",
        "missing": "no such file",
        "n" * 300: "cannot be read",
    }.items():
        with pytest.raises(EdgelidError, match=reason):
            length_s(tmp_path / f"{name}.wav")


def test_many_files_in_their_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 6):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(number * 100), 100 * 100)
    (tmp_path / "7.mp3").write_bytes(mp3(tmp_path / "6.mp3", "VARIABLE")[:9000])
    files = [tmp_path / f"{number}.wav" for number in (5, 1, 9, 3)] + [tmp_path / "7.mp3"]
    with tqdm(disable=True) as progress:
        first, second, missing, third, _ = measure(files, 3, progress)
    assert (first, second, third) == (0.05, 0.01, 0.03)
    assert isinstance(missing, EdgelidError)
    assert capfd.readouterr().err == ""  # libsndfile has words for a file that was cut off


@pytest.mark.parametrize("suffix", ["ogg", "mp3", "wav", "flac"])
def test_joined_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.full(RATE_HZ, 0.1, np.float32), RATE_HZ)
    data = path.read_bytes()
    path.write_bytes(data * 3)
    assert length_s(path) == pytest.approx(3.0, abs=0.05)


def test_a_wav_of_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.full(RATE_HZ, 0.1, np.float32), RATE_HZ)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"data") + 4, 0)
    path.write_bytes(data)
    assert length_s(path) == 1.0


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg from apt")
def test_the_formats_of_phones(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(3 * RATE_HZ, 0.1, np.float32), RATE_HZ)
    path = tmp_path / "voice.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", path], check=True)
    assert length_s(path) == pytest.approx(3.0, abs=0.05)


def test_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    path = tmp_path / "voice.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A " + bytes(1_000))
    with pytest.raises(EdgelidError, match="MPEG-4, which needs ffmpeg: sudo apt install ffmpeg"):
        length_s(path)
