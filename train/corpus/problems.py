"""The kinds of problems a corpus can have: name, severity, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

ERROR, WARNING = "error", "warning"
CLIPS, SPEAKERS, LANGUAGES = "clips", "speakers", "languages"
EXAMPLES = 100  # of a finding, kept at most


@dataclass(frozen=True)
class Kind:
    """A kind of defect.

    Attributes
    ----------
    severity
        ``error``: it stops a run, or makes its labels or its results false. ``warning``: it makes
        a model worse than it need be.
    unit
        What is counted.
    what
        Words for it.
    advice
        A sentence that says what to do.
    """

    severity: str
    unit: str
    what: str
    advice: str


# In the order in which they are told.
KINDS = {
    # What stops a run.
    "missing": Kind(
        ERROR,
        CLIPS,
        "the file is not there",
        "Fetch the corpus again, or take these lines out of the manifest.",
    ),
    "empty": Kind(
        ERROR,
        CLIPS,
        "the file holds no audio",
        "A download or a conversion was cut off: do it again for these.",
    ),
    "undecodable": Kind(
        ERROR,
        CLIPS,
        "the file cannot be decoded",
        "Fetch or convert it again, or take these lines out of the manifest.",
    ),
    "repeated-path": Kind(
        ERROR,
        CLIPS,
        "the path is listed more than once",
        "Keep one line for each file; where the lines differ, find out which one is right.",
    ),
    "shorter": Kind(
        ERROR,
        CLIPS,
        "shorter than the manifest says",
        "Fetch the files again if they were cut off; else correct the column seconds.",
    ),
    # What makes results false.
    "divided-speaker": Kind(
        ERROR,
        SPEAKERS,
        "in more than one split",
        "Results would be too good: divide the corpus by speakers with edgelid-train split.",
    ),
    "copy-across-splits": Kind(
        ERROR,
        CLIPS,
        "the same audio is in another split",
        "Results would be too good: keep one of each, and give their speakers one key.",
    ),
    # What makes labels false.
    "copy-across-languages": Kind(
        ERROR,
        CLIPS,
        "the same audio has another language",
        "One of the labels is wrong: listen to them, and take the wrong ones out.",
    ),
    "silent": Kind(
        ERROR,
        CLIPS,
        "digital silence",
        "There is no speech to learn from: take these lines out of the manifest.",
    ),
    "constant": Kind(
        ERROR,
        CLIPS,
        "a constant, without sound",
        "The recording failed: take these lines out of the manifest.",
    ),
    "untrained-language": Kind(
        ERROR,
        LANGUAGES,
        "a target without a clip in train",
        "Bring speech of it into train, or have target say no.",
    ),
    # What later commands cannot do.
    "one-language": Kind(
        ERROR,
        LANGUAGES,
        "the only language",
        "There is nothing to tell it from: add another one, or speech for the class other.",
    ),
    "nothing-held-out": Kind(
        ERROR,
        LANGUAGES,
        "nobody in dev says a second in any language",
        "fit and convert would refuse it: give clips of one person one folder, or longer clips.",
    ),
    "undivided": Kind(
        WARNING,
        LANGUAGES,
        "nothing in dev",
        "fit and convert decide by speech that was held out: edgelid-train split does that.",
    ),
    "undividable": Kind(
        WARNING,
        LANGUAGES,
        "one speaker in all",
        "Nobody can be held out, so it takes no part in any decision or test: add speakers.",
    ),
    "unheard": Kind(
        WARNING,
        LANGUAGES,
        "nobody in dev says a second",
        "It takes no part in decisions: give clips of one person one folder, or longer clips.",
    ),
    "short-held-out": Kind(
        WARNING,
        LANGUAGES,
        "nobody in dev says ten seconds",
        "It is judged, and windows are calibrated, on the lengths there are: if several clips "
        "are one person's, put them in one folder.",
    ),
    # What makes a model worse.
    "quiet": Kind(
        WARNING,
        CLIPS,
        "nothing louder than -60 dB",
        "There is hardly speech in these: listen to some, and take them out or record anew.",
    ),
    "clipped": Kind(
        WARNING,
        CLIPS,
        "over 1 % of it is at full scale",
        "The recordings are too loud for their format: get better ones, or leave a few be.",
    ),
    "offset": Kind(
        WARNING,
        CLIPS,
        "a large DC offset",
        "The recorder was faulty: filter the offset out, or take these lines out.",
    ),
    "copy": Kind(
        WARNING,
        CLIPS,
        "the same audio comes again",
        "It counts twice, within one split and language: keep one line of each.",
    ),
    "longer": Kind(
        WARNING,
        CLIPS,
        "longer than the manifest says",
        "What the manifest promises is right, but not all is used: correct seconds.",
    ),
    "low-rate": Kind(
        WARNING,
        CLIPS,
        "below 16 kHz, as telephones are",
        "Half the spectrum is missing: see that this is so in every language, or in none.",
    ),
    "narrowband": Kind(
        WARNING,
        CLIPS,
        "nothing above 4 kHz despite its rate",
        "It was a telephone's, or resampled up: see that every language has such clips, or none.",
    ),
    "short": Kind(
        WARNING,
        CLIPS,
        "shorter than 0.5 s",
        "Hardly a word fits in: take them out, or see that they are few in every language.",
    ),
    "one-speaker": Kind(
        WARNING,
        LANGUAGES,
        "one speaker in train",
        "A model would learn the voice instead of the language: add speakers.",
    ),
    "one-source": Kind(
        WARNING,
        LANGUAGES,
        "one source in train",
        "A model can learn the recording instead of the language: add another collection.",
    ),
    "dominant-speaker": Kind(
        WARNING,
        LANGUAGES,
        "one speaker has over half of train",
        "Add speakers, or cut that one down.",
    ),
    "few-hours": Kind(
        WARNING,
        LANGUAGES,
        "under a tenth of the largest in train",
        "Add speech of these: evening out the draw repeats what is there.",
    ),
    "lacks-split": Kind(
        WARNING,
        LANGUAGES,
        "not in a split that others are in",
        "Nothing is measured for it there: edgelid-train split gives every language its share.",
    ),
}


@dataclass(frozen=True)
class Example:
    """Where to look.

    Attributes
    ----------
    name
        The path of a clip, a speaker or a language.
    detail
        What was found there, or nothing.
    """

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Finding:
    """All that is wrong in one way.

    Attributes
    ----------
    code
        A key of `KINDS`.
    count, of
        How many are so, of how many that were looked at.
    examples
        The first of them, `EXAMPLES` at most.
    """

    code: str
    count: int
    of: int
    examples: tuple[Example, ...]

    @property
    def kind(self) -> Kind:
        """What it is."""
        return KINDS[self.code]

    @property
    def share(self) -> float:
        """Of those that were looked at."""
        return self.count / self.of

    def record(self) -> dict[str, Any]:
        """As an object of JSON."""
        kind = self.kind
        return {
            "code": self.code,
            "severity": kind.severity,
            "what": kind.what,
            "count": self.count,
            "of": self.of,
            "unit": kind.unit,
            "share": self.share,
            "advice": kind.advice,
            "examples": [asdict(example) for example in self.examples],
        }


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Errors before warnings, in the order of `KINDS`."""
    codes = list(KINDS)
    return sorted(findings, key=lambda finding: codes.index(finding.code))
