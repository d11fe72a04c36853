"""What is told of the sample recording, and what is forgiven."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge.decoder import Segment
from edge.languages import UNKNOWN
from edge.model.modelfile import NONSPEECH

# A second of its Spanish ("tanto que el río casi") sounds Italian, to the large model as well. What
# is told for no longer than this, from where a passage begins, is counted to what follows.
FORGIVEN_S = 2.0


def passages(told: Sequence[Segment]) -> list[Segment]:
    """Segments, those that are forgiven as a part of the ones behind them."""
    found: list[Segment] = []
    for segment in told:
        before = found[-1] if found else None
        if (
            before is not None
            and before.language not in (NONSPEECH, UNKNOWN, segment.language)
            and before.end_s - before.start_s <= FORGIVEN_S
            and before.end_s == segment.start_s
            and segment.language not in (NONSPEECH, UNKNOWN)
        ):
            segment = replace(segment, start_s=found.pop().start_s)
        found.append(segment)
    return found
