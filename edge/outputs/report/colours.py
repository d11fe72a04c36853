"""The colour of each language in a report, on paper and on a dark screen alike."""

from __future__ import annotations

from collections.abc import Sequence

from edge.outputs.report.tally import GAP

# Told apart by most who do not see all colours, the first ones best (after Paul Tol's "bright").
LANGUAGES = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377",
    "#ee8866", "#44bb99", "#9370b8", "#8b6b3d", "#a9c23f", "#d96fb6",
)  # fmt: skip
MORE = "#8d99ae"  # all further ones
OTHERS = {"nonspeech": "#d5dae0", "unknown": "#9aa3ad", GAP: "#e8b4ae"}


def colours(names: Sequence[str]) -> dict[str, str]:
    """Colours of names, in the order of `Tally.names`."""
    rest = iter(LANGUAGES)
    return {name: OTHERS.get(name) or next(rest, MORE) for name in names}
