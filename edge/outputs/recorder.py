"""The recorder, for debugging: never on unless asked for, and never without end."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from edge.audio.decoding import import_soundfile
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.outputs.stdout import now

logger = logging.getLogger(__name__)

# As heard, to the last bit: played back, it gives the same answers.
SUBTYPE, SAMPLE_BYTES = "FLOAT", 4
FILE_S = 60
FILE_SAMPLES = FILE_S * SAMPLE_RATE_HZ
HEADER_BYTES = 1024  # more than a WAV file has
FILE_BYTES = FILE_SAMPLES * SAMPLE_BYTES + HEADER_BYTES
_FAILURES = (OSError, RuntimeError)  # soundfile's errors are of the latter kind
CLOCK_ERROR = timedelta(days=1)  # more than boards are behind that have only seen the network late
PREFIX, SUFFIX = "edgelid-heard-", ".wav"


class Recorder:
    """Writes the stream as heard, 16 kHz mono, to WAV files of a minute.

    A disk that cannot take them is no reason to stop listening: a warning, and another try with
    the minute after.

    Parameters
    ----------
    folder : Path
        It must exist. Files in it that an earlier recording left count.
    max_bytes : int
        Of all recordings in it; the oldest are deleted. At least two files.

    Raises
    ------
    EdgelidError
        If nothing can be written there.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._soundfile = import_soundfile()
        self._folder = folder
        self._max_bytes = max_bytes
        self._sound: Any = None
        self._left_samples = 0  # of this minute
        self._failed = False
        self._written: list[str] = []  # names of what this run has recorded and is still there
        try:
            self._begin()
        except _FAILURES as error:
            raise EdgelidError(
                f"recordings cannot be written to {str(folder)!r} ({_reason(error)}): check the "
                "folder and its permissions."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def announcement(self) -> dict[str, Any]:
        """The event that tells of it."""
        return {
            "type": "recording",
            "folder": str(self._folder),
            "max_bytes": self._max_bytes,
            "time": now(),
        }

    def sentence(self) -> str:
        """The same for a person."""
        minutes = self._max_bytes // FILE_BYTES
        return (
            f"RECORDING everything that is heard to {str(self._folder)!r}: the last {minutes} "
            f"minutes, at most {self._max_bytes / 1e6:.0f} MB"
        )

    def write(self, samples: Float32Array) -> None:
        """Take the next samples, shape (n,)."""
        while len(samples):
            some, samples = samples[: self._left_samples], samples[self._left_samples :]
            self._left_samples -= len(some)
            with self._tolerated():
                if self._sound is not None and len(some):
                    self._sound.write(some)
            if self._left_samples == 0:
                with self._tolerated():
                    self._end()
                    self._begin()

    def close(self) -> None:
        """Finish the file; a second call does nothing."""
        with self._tolerated():
            self._end()

    @contextlib.contextmanager
    def _tolerated(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES as error:
            if not self._failed:
                logger.warning(
                    "recordings cannot be written to %r (%s): trying again every minute",
                    str(self._folder),
                    _reason(error),
                )
            self._failed = True
            sound, self._sound = self._sound, None
            with contextlib.suppress(*_FAILURES):
                if sound is not None:
                    sound.close()

    def _end(self) -> None:
        sound, self._sound = self._sound, None
        if sound is not None:
            sound.close()

    def _begin(self) -> None:
        self._left_samples = FILE_SAMPLES
        self._make_room()
        path = self._folder / _name_of(datetime.now(UTC))
        self._written.append(path.name)
        with open(path, "xb"):  # libsndfile would not say why it cannot
            path.chmod(0o600)
            self._sound = self._soundfile.SoundFile(
                os.fsencode(path), "w", SAMPLE_RATE_HZ, 1, SUBTYPE, format="WAV"
            )
        self._failed = False

    def _make_room(self) -> None:
        """Delete the oldest recordings, so that a whole file more keeps to the bound.

        Those of the future, from before a clock was set back, go first: they would stay the
        newest, and each minute that ends would be deleted in their place. Only those of days to
        come: a board without a clock begins some time behind what it has just recorded. What this
        run has recorded goes last, in the order in which it did, whatever the clock said.
        """
        newest = _name_of(datetime.now(UTC) + CLOCK_ERROR)
        found = list(self._folder.glob(f"{PREFIX}*{SUFFIX}"))
        names = {file.name for file in found}
        self._written = [name for name in self._written if name in names]
        place = {name: number for number, name in enumerate(self._written)}
        files = sorted(
            found,
            key=lambda file: (place.get(file.name, -1), file.name <= newest, file.name),
        )
        total_bytes = sum(file.stat().st_size for file in files)
        for file in files:
            if total_bytes + FILE_BYTES <= self._max_bytes:
                return
            total_bytes -= file.stat().st_size
            file.unlink()


def _name_of(when: datetime) -> str:
    """Of a recording that begins then; in the order of their names, they are in that of time."""
    return f"{PREFIX}{when:%Y%m%dT%H%M%S.%fZ}{SUFFIX}"


def _reason(error: Exception) -> str:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
    # Which is all that libsndfile tells of a write that failed.
    return "the disk may be full" if reason == "System error" else reason
