"""Noise and room responses that lie beside a corpus, for augmentation and for noisy tests."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgelidError
from edge.system.regular import check_regular

# Recordings of public places hold intelligible speech: good noise, but no example of nonspeech.
KINDS_WITH_SPEECH = frozenset({"babble_places"})
COLUMNS = ("path", "kind", "split")  # of a manifest; others do not matter


@dataclass(frozen=True, slots=True)
class NoiseClip:
    """One recording without (unless `has_speech`) speech.

    Attributes
    ----------
    path : str
        Relative to the folder that holds the manifest.
    kind : str
        What made the noise; ``real`` or ``simulated`` for a room response.
    split : str
        ``train`` or ``test``.
    """

    path: str
    kind: str
    split: str

    @property
    def has_speech(self) -> bool:
        """Whether intelligible speech is in it."""
        return self.kind in KINDS_WITH_SPEECH


def read_noise(folder: Path, split: str) -> list[NoiseClip]:
    """Read the ``manifest.tsv`` of a folder of noise or of room responses.

    Parameters
    ----------
    folder : Path
    split : str

    Raises
    ------
    EdgelidError
        If it cannot be read, has nothing of that split, or its files are missing.
    """
    file, clips = folder / "manifest.tsv", []
    try:
        check_regular(file)
        with open(file, encoding="utf-8-sig", newline="") as lines:
            rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            for row in rows:
                values = [row[name] for name in COLUMNS]
                if None in values:  # the line ends before the column
                    name = COLUMNS[values.index(None)]
                    raise EdgelidError(
                        f"line {rows.line_num} of the noise manifest {file} has no {name}"
                    )
                clips.append(NoiseClip(*values))
    except OSError as error:
        raise EdgelidError(f"cannot read the noise manifest {file}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EdgelidError(f"the noise manifest {file} is not UTF-8 text") from error
    except KeyError as error:
        raise EdgelidError(f"the noise manifest {file} lacks the column {error}") from error
    clips = [clip for clip in clips if clip.split == split]
    if not clips:
        raise EdgelidError(f"the noise manifest {file} has nothing of split {split}")
    missing = [clip.path for clip in clips if not (folder / clip.path).is_file()]
    if missing:
        raise EdgelidError(
            f"the audio file {missing[0]} is not in {folder} (files missing: {len(missing)}): "
            "fetch the whole folder again"
        )
    return clips
