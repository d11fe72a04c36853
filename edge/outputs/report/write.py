"""``edgelid report``: from files of events to a file to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge.errors import EdgelidError
from edge.outputs.plotstyle import check_matplotlib
from edge.outputs.report.page import page
from edge.outputs.report.picture import picture
from edge.outputs.report.read import real_path
from edge.outputs.report.tally import Tally, tally
from edge.outputs.timeline import time_of
from edge.system.atomic import check_writable, write_atomically


def report(files: Sequence[Path], output: Path, skip_bad: bool = False) -> Tally:
    """Write a report of files of events, as HTML or PNG by the ending of its name.

    Parameters
    ----------
    files : sequence of Path
    output : Path
    skip_bad : bool
        See `tally`.

    Raises
    ------
    EdgelidError
        If a file holds something else, or the report cannot be written.
    """
    kind = output.suffix.lower()
    if kind not in (".html", ".png"):
        raise EdgelidError(f"a report is .html or .png, and {str(output)!r} is neither.")
    if real_path(output) in {real_path(file) for file in files}:
        raise EdgelidError(f"{output} is both read and written: choose another name for one.")
    if kind == ".png":
        check_matplotlib("a report in PNG", ", or ask for .html")
    check_writable(output)
    found = tally(files, skip_bad)
    write_atomically(output, page(found).encode() if kind == ".html" else picture(found))
    return found


def summary(found: Tally) -> dict[str, Any]:
    """The figures of a report, for programs."""
    return {
        "start": time_of(found.first),
        "end": time_of(found.last),
        "heard_s": round(found.heard_s, 3),
        "languages": {
            name: {
                "seconds": round(found.totals[name].seconds, 3),
                "segments": found.totals[name].segments,
                "confidence": round(found.totals[name].confidence, 4),
            }
            for name in found.names()
            if name in found.totals
        },
        "changes": sum(found.changes.values()),
        "gaps": {
            reason: {"times": times, "seconds": round(found.lost_s[reason], 3)}
            for reason, times in found.gaps.items()
        },
        "starts": found.starts,
        "unlogged_events": found.unlogged,
        "skipped_lines": found.skipped,
    }
