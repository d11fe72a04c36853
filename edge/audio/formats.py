"""Formats of audio files, by what they begin with rather than by what they are called."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge.errors import EdgelidError

logger = logging.getLogger(__name__)

# What a file of each kind begins with, and at which byte: all of it, as RIFF and FORM hold many
# things besides sound.
SIGNATURES: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("WAV", ((0, b"RIFF"), (8, b"WAVE"))),
    ("WAV", ((0, b"RIFX"), (8, b"WAVE"))),
    ("RF64", ((0, b"RF64"), (8, b"WAVE"))),
    ("RF64", ((0, b"BW64"), (8, b"WAVE"))),
    ("W64", ((0, b"riff\x2e\x91\xcf\x11"),)),
    ("FLAC", ((0, b"fLaC"),)),
    ("Ogg", ((0, b"OggS"),)),
    ("MP3", ((0, b"ID3"),)),
    ("AIFF", ((0, b"FORM"), (8, b"AIF"))),
    ("CAF", ((0, b"caff"),)),
    ("8SVX", ((0, b"FORM"), (8, b"8SVX"))),
    ("8SVX", ((0, b"FORM"), (8, b"16SV"))),
    ("AU", ((0, b".snd"),)),
    ("AU", ((0, b"dns."),)),
    ("NIST SPHERE", ((0, b"NIST_1A"),)),
    ("MPEG-4", ((4, b"ftyp"),)),
    ("QuickTime", ((4, b"moov"),)),
    ("QuickTime", ((4, b"mdat"),)),
    ("QuickTime", ((4, b"wide"),)),
    ("Matroska or WebM", ((0, b"\x1a\x45\xdf\xa3"),)),
    ("AMR", ((0, b"#!AMR"),)),
    ("Windows Media", ((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),)),
    ("AVI", ((0, b"RIFF"), (8, b"AVI "))),
    ("QCP", ((0, b"RIFF"), (8, b"QLCM"))),
    ("Windows Media", ((0, b"RIFF"), (8, b"XWMA"))),
    ("VOC", ((0, b"Creative Voice File"),)),
    ("IRCAM", ((0, b"\x64\xa3"), (3, b"\0"))),
    ("IRCAM", ((0, b"\0"), (2, b"\xa3\x64"))),
    ("PAF", ((0, b" paf"),)),
    ("PAF", ((0, b"fap "),)),
    ("DSF", ((0, b"DSD \x1c\0\0\0"),)),
    ("Flash video", ((0, b"FLV\x01"),)),
    ("WavPack", ((0, b"wvpk"),)),
    ("Monkey's Audio", ((0, b"MAC "),)),
    ("True Audio", ((0, b"TTA1"),)),
    ("Musepack", ((0, b"MPCK"),)),
    ("Musepack", ((0, b"MP+"),)),
    ("RealMedia", ((0, b".RMF"),)),
    ("MPEG program stream", ((0, b"\0\0\x01\xba"),)),
)
SIGNATURE_BYTES = 32

# Formats without a signature repeat a short mark at the start of every frame; so do samples, by
# chance, but hardly three times at the right distances.
SYNC_BYTES = 16_384
FRAMES_IN_A_ROW = 3
TS_PACKET_BYTES = 188

# By which people call sound. A file of such a name that is none is named, not passed over.
AUDIO_SUFFIXES = frozenset(
    (
        *(".wav", ".wave", ".flac", ".mp3", ".mp2", ".mpga", ".ogg", ".oga", ".opus", ".spx"),
        *(".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".rf64", ".sph", ".nist"),
        *(".m4a", ".m4b", ".mp4", ".aac", ".alac", ".webm", ".weba", ".mka", ".amr", ".awb"),
        *(".3gp", ".3ga", ".3gpp", ".wma", ".ac3", ".ape", ".wv", ".tta", ".dss", ".qcp"),
        *(".eac3", ".latm", ".loas", ".voc", ".gsm", ".dsf", ".dts", ".mpc", ".ra", ".m4r"),
    )
)

_KBIT_S = {  # of MPEG audio, by (MPEG-1 or not, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_AC3_KBIT_S = (
    *(32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)
_AC3_RATES_HZ = (48_000, 44_100, 32_000)
_RATES_HZ = (44_100, 48_000, 32_000)  # of MPEG-1; halved and quartered in the later ones


def kind_of(start: bytes) -> str | None:
    """The kind of audio file, or of file that may hold audio, that begins like this.

    Parameters
    ----------
    start : bytes
        The first `SYNC_BYTES` of it, or all if it has fewer.

    Returns
    -------
    str or None
        What people call the format; None for what is none of those known.
    """
    for name, marks in SIGNATURES:
        if all(start[at : at + len(mark)] == mark for at, mark in marks):
            return name
    if _repeats(start, mpeg_frame_bytes):
        return "MP3"
    if _repeats(start, _adts_frame_bytes):
        return "AAC"
    if _repeats(start, _loas_frame_bytes):
        return "AAC"
    if _repeats(start, _ac3_frame_bytes):
        return "AC-3"
    if _repeats(start, lambda header: TS_PACKET_BYTES * header.startswith(b"\x47")):
        return "MPEG transport stream"
    return None


def kind_amid_frames(start: bytes) -> str | None:
    """The same of a radio that was recorded from the middle of a frame on."""
    for at, byte in enumerate(start[: SYNC_BYTES // 4]):
        if byte == 0xFF and (kind := kind_of(start[at:])) in ("MP3", "AAC"):
            return kind
    return None


def wanted_bytes(start: bytes) -> int:
    """How much of a stream that begins like this `kind_of` has to see to be sure.

    It is little for almost every stream of samples, so that looking delays none of them.
    """
    if len(start) < SIGNATURE_BYTES:
        return SIGNATURE_BYTES
    frames = (mpeg_frame_bytes, _adts_frame_bytes, _loas_frame_bytes, _ac3_frame_bytes)
    is_synchronous = start[:1] == b"\x47" or any(length(start) for length in frames)
    return SYNC_BYTES if is_synchronous else SIGNATURE_BYTES


def mpeg_frame_bytes(header: bytes) -> int:
    """Length of the frame of MPEG audio (layers I to III) that begins so; 0 if none does."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate == 3:
        return 0
    is_first = version == 3
    rate_hz = _RATES_HZ[rate] // (1 if is_first else 2 if version == 2 else 4)
    bits_s = 1_000 * _KBIT_S[is_first, layer][bitrate - 1]
    if layer == 1:
        return 4 * (12 * bits_s // rate_hz + padding)
    samples = 72 if layer == 3 and not is_first else 144
    return samples * bits_s // rate_hz + padding


def mpeg_frame_form(header: bytes) -> int:
    """What all frames of a recording have in common: version, layer, rate, and if it is mono."""
    is_mono = header[3] >> 6 == 3
    return (header[1] & 0x1E) << 3 | (header[2] & 0x0C) | is_mono


def is_recording(path: Path) -> bool:
    """Whether a file in a folder is a recording by its name, or else by what it begins with."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return True
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe could wait for ever
            return False
        with path.open("rb", buffering=0) as file:
            start = file.read(SIGNATURE_BYTES) or b""
            if (more := wanted_bytes(start) - len(start)) > 0:
                start += file.read(more) or b""
    except OSError:
        return False
    return kind_of(start) is not None


def find_recordings(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are given, and the recordings in folders, sorted, at any depth.

    A folder without any stands for itself. Hidden files and folders (also the ``._`` files of
    AppleDouble, which hold no sound) are left out; links to folders are not followed.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(_recordings_in(path)) if _is_folder(path) else []
        found.extend(inside or [path])
    return found


def check_no_folder(path: Path) -> None:
    """Refuse a folder that `find_recordings` let stand for itself.

    Raises
    ------
    EdgelidError
        If it is one.
    """
    if not _is_folder(path):
        return
    try:
        os.scandir(path).close()
    except PermissionError as error:
        raise EdgelidError(
            f"{str(path)!r} may not be read: ask its owner for permission."
        ) from error
    except OSError as error:
        raise EdgelidError(f"{str(path)!r} cannot be read ({error.strerror}).") from error
    raise EdgelidError(f"{str(path)!r} is a folder without any audio files: check the path.")


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - no error where it may not be looked at


def _recordings_in(folder: Path) -> Iterator[Path]:
    errors: list[OSError] = []
    others = 0
    for parent, inner, names in os.walk(folder, onerror=errors.append):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if is_recording(path):
                yield path
            else:
                others += 1
    for error in errors:
        if error.filename == str(folder):  # whoever gave it is told
            continue
        logger.warning("%r cannot be read (%s): it is left out", error.filename, error.strerror)
    if others:
        logger.info("%r has %d files that are no recordings", str(folder), others)


def _repeats(start: bytes, frame_bytes: Callable[[bytes], int]) -> bool:
    """Whether frames follow one another from the first byte on."""
    at = 0
    for _ in range(FRAMES_IN_A_ROW):
        length = frame_bytes(start[at : at + 8])
        if not length:
            return False
        at += length
        if at == len(start):  # all that there is
            return True
    return True


def _adts_frame_bytes(header: bytes) -> int:
    """Length of the frame of AAC in ADTS that begins so; 0 if none does."""
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    if header[2] >> 2 & 15 > 12:  # no such rate
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def _loas_frame_bytes(header: bytes) -> int:
    """Length of the frame of AAC in LOAS that begins so; 0 if none does."""
    if len(header) < 3 or header[0] != 0x56 or header[1] & 0xE0 != 0xE0:
        return 0
    return 3 + ((header[1] & 0x1F) << 8 | header[2])


def _ac3_frame_bytes(header: bytes) -> int:
    """Length of the frame of AC-3, or E-AC-3, that begins so; 0 if none does."""
    if len(header) < 6 or not header.startswith(b"\x0b\x77"):
        return 0
    if header[5] >> 3 > 10:
        return 2 * (((header[2] & 7) << 8 | header[3]) + 1)
    rate, size = header[4] >> 6, header[4] & 63
    if rate == 3 or size >= 2 * len(_AC3_KBIT_S):
        return 0
    words = 96_000 * _AC3_KBIT_S[size // 2] // _AC3_RATES_HZ[rate]
    return 2 * (words + (rate == 1 and size % 2))
