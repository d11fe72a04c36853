"""The picture of a corpus: hours of each language by split, and how long its clips are."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge.outputs.plotstyle import COLOURS, GREY, STYLE
from edge.system.atomic import write_atomically
from train.corpus.manifest import SPLITS

WIDTH_IN = 10.0
ROW_IN = 0.2  # of a language, with room for its name
ROUND_IN = 1.6  # above and below the rows
DPI = 130


def write_plot(report: dict[str, Any], path: Path) -> None:
    """Draw, as PNG; it grows with the number of languages.

    Parameters
    ----------
    report
        From `train.corpus.validation.validate`.
    path

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    languages = report["languages"]
    names = sorted(languages, key=lambda name: -sum(languages[name]["hours"].values()))
    height_in = ROUND_IN + ROW_IN * max(len(names), 6)
    with rc_context(STYLE):
        sheet = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        left, right = sheet.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
        _hours(left, [languages[name]["hours"] for name in names])
        lengths = np.array([languages[name]["lengths"] for name in names], float)
        _lengths(right, lengths, report["length_edges_s"])
        left.set_yticks(range(len(names)), names)
        left.set_ylim(len(names) - 0.4, -0.6)
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="png", dpi=DPI)
    write_atomically(path, buffer.getvalue())


def _hours(axes: Axes, hours: list[dict[str, float]]) -> None:
    at = np.arange(len(hours))
    start = np.zeros(len(hours))
    for split, colour in zip(SPLITS, COLOURS[: len(SPLITS)], strict=True):
        width = np.array([row[split] for row in hours])
        if width.any():
            axes.barh(at, width, 0.7, start, color=colour, label=split)
        start += width
    for y, total in zip(at, start, strict=True):
        label = f"{total:,.0f}" if total >= 100 else f"{total:.2g}"
        axes.annotate(
            label, (total, y), (3, 0), textcoords="offset points", va="center", color=GREY, size=8
        )
    axes.set_xlim(0, 1.12 * start.max())
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("hours")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(SPLITS), borderaxespad=0.2)


def _lengths(axes: Axes, lengths: np.ndarray, edges_s: list[float]) -> None:
    """Shares of the clips of each language, a row of cells each; the last ends hold all beyond."""
    shares = 100 * lengths / lengths.sum(axis=1, keepdims=True)
    rows = np.arange(len(lengths) + 1) - 0.5
    cells = axes.pcolormesh(edges_s, rows, shares, cmap="Blues", vmin=0)
    axes.set_xscale("log")
    axes.set_xlim(edges_s[0], edges_s[-1])
    ticks = [0.1, 0.3, 1, 3, 10, 30, 100]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds of a clip")
    label = "% of the language's clips"
    axes.figure.colorbar(cells, ax=axes, label=label, location="top", aspect=40, pad=0.01)
