"""What `edgelid-train own` will cost in time and disk, before anything is read or written."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.frontend import FRAMES_PER_SECOND, FrontEndConfig
from train.corpus.importers.packed import ARCHIVES

# Of an hour of speech, as recorders and corpora commonly have it: Common Voice's MP3 at 48 kbit/s,
# phones at 64, 16-bit samples at 16 kHz.
HOUR_BYTES = {
    ".mp3": 22e6,
    ".opus": 11e6,
    ".ogg": 25e6,
    ".m4a": 29e6,
    ".aac": 29e6,
    ".amr": 5e6,
    ".flac": 60e6,
    ".wav": 115e6,
    ".parquet": 22e6,
    **dict.fromkeys(ARCHIVES, 22000000.0),
}
FRAME_BYTES = 2 * FrontEndConfig().mels  # of float16
# Measured, see docs/data.md: hours of audio, of one variant, that a core does in an hour.
PREPARED_HOURS = 200.0


@dataclass(frozen=True)
class Estimate:
    """What is known of the work.

    Attributes
    ----------
    files : int
        Of sound, and archives.
    packed_bytes : float
        Of the archives among them.
    hours : float
        Of speech, from the sizes of the files.
    """

    files: int
    packed_bytes: float
    hours: float

    def lines(self, variants: int, cores: int) -> Iterator[str]:
        """What to tell, if features are kept in so many augmented variants."""
        copies = variants + 1
        features_bytes = self.hours * 3600 * FRAMES_PER_SECOND * FRAME_BYTES * copies
        yield f"speech       {self.files} files, about {self.hours:.1f} h (by their size)"
        unpacked = f"{self.packed_bytes / 1e9:.1f} GB of clips, unpacked, and "
        yield (
            f"disk         {unpacked if self.packed_bytes else ''}"
            f"{features_bytes / 1e9:.1f} GB of features, in {copies} variants"
        )
        minutes = 60 * self.hours * copies / (PREPARED_HOURS * cores)
        yield f"features     about {minutes:.0f} min on {cores} cores"


def estimate(root: Path, most_hours: float | None = None) -> Estimate:
    """Look at the sizes of all files.

    Parameters
    ----------
    root : Path
        Of recordings or archives.
    most_hours : float, optional
        In all.
    """
    sizes: Counter[str] = Counter()
    count = 0
    for path in [root] if root.is_file() else _files(root):
        ending = next((each for each in HOUR_BYTES if path.name.lower().endswith(each)), None)
        if ending is not None:
            with contextlib.suppress(OSError):  # a link that leads nowhere
                sizes[ending] += path.stat().st_size
                count += 1
    hours = sum(size / HOUR_BYTES[ending] for ending, size in sizes.items())
    packed = sum(sizes[ending] for ending in (*ARCHIVES, ".parquet"))
    share = min(1.0, most_hours / hours) if most_hours is not None and hours else 1.0
    return Estimate(count, packed, hours * share)


def _files(root: Path) -> Iterator[Path]:
    for parent, inner, names in os.walk(root):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))
