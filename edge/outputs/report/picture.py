"""The picture of a report, as PNG."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from edge.outputs.colours import colour_of
from edge.outputs.plotstyle import DPI, GREY, INK, LOOK, NOTE, STYLE
from edge.outputs.report.tally import CELLS, GAP, GAP_COLOUR, NO_LANGUAGE, Tally
from edge.outputs.report.words import (
    ROW_NAMES,
    TITLE,
    changes_title,
    duration,
    facts,
    name_of,
    span,
    timeline_note,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAD_INCHES = 0.95
UNITS = (("Hours", 3_600), ("Minutes", 60), ("Seconds", 1))
LEGEND_COLUMNS, LEGEND_INCHES = 7, 0.22


def picture(tally: Tally) -> bytes:
    """Draw what is added up, as PNG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    names = tally.names()
    legend = LEGEND_INCHES * -(-len(names) // LEGEND_COLUMNS)
    heights = (0.5 + 0.24 * len(names), 0.7 + 0.2 * len(tally.rows()) + legend, 1.6)
    height = HEAD_INCHES + 0.7 + sum(heights)
    with rc_context({**STYLE, **LOOK}):
        below_head = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - HEAD_INCHES / height), hspace=0.06)
        sheet = Figure(figsize=(11, height), layout=below_head)
        top, middle, bottom = sheet.subplots(3, 1, height_ratios=heights)
        _languages(top, tally)
        _timeline(middle, tally)
        _changes(bottom, tally)
        told = "  ·  ".join(f"{figure} {what}" for figure, what in facts(tally))
        for inches, text, look in (
            (0.12, TITLE, {"fontsize": 14, "fontweight": "bold"}),
            (0.42, span(tally), {"color": NOTE}),
            (0.63, told, {}),
        ):
            sheet.text(0.01, 1 - inches / height, text, va="top", **look)
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _look(tally: Tally) -> dict[str, str]:
    return {name: GAP_COLOUR if name == GAP else colour_of(name) for name in tally.names()}


def _languages(axes: Axes, tally: Tally) -> None:
    names = [name for name in tally.names() if name in tally.totals]
    look = _look(tally)
    # What is no language can last much longer than all that is one: it has no bar.
    bars = [0.0 if name in NO_LANGUAGE else tally.totals[name].seconds for name in names]
    most_s = max(bars, default=0.0)
    unit, unit_s = next((u for u in UNITS if most_s >= 2 * u[1]), UNITS[-1])
    axes.barh(
        range(len(names)),
        [value / unit_s for value in bars],
        height=0.7,
        color=[look[name] for name in names],
    )
    for row, (name, bar) in enumerate(zip(names, bars, strict=True)):
        total = tally.totals[name]
        share = total.seconds / max(tally.heard_s, 1e-9)
        text = f" {duration(total.seconds)}, {share:.0%}, confidence {total.confidence:.0%}"
        axes.text(bar / unit_s, row, text, va="center", fontsize=9, color=INK)
    axes.set(
        title=f"{unit} by language",
        xlim=(0, 1.35 * max(most_s, 1.0) / unit_s),
        ylim=(len(names) - 0.4, -0.6),
    )
    axes.set_yticks(range(len(names)), [_plain(name_of(name)) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _timeline(axes: Axes, tally: Tally) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    names, rows = tally.names(), tally.rows()
    look = _look(tally)
    palette = np.array([*(to_rgb(look[name]) for name in names), (1.0, 1.0, 1.0)])
    cells = palette[tally.strips()]  # (rows, CELLS, 3): -1 is the last, white
    white = np.ones_like(cells)
    # Rows with some air between them.
    bands = np.stack([cells] * 4 + [white], axis=1).reshape(-1, CELLS, 3)
    axes.imshow(
        bands,
        aspect="auto",
        interpolation="nearest",
        extent=(0, 1, len(rows) - 0.4, -0.6),
    )
    places, texts = zip(*tally.ticks(), strict=True)
    axes.set_xticks(places, texts)
    axes.set_yticks(range(len(rows)), [tally.row_label(row) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", alpha=0.5)
    lines = -(-len(names) // LEGEND_COLUMNS)
    axes.set_title(f"Timeline, {ROW_NAMES[tally.row_s]}", pad=10 + 72 * LEGEND_INCHES * lines)
    axes.set_xlabel(timeline_note(tally), fontsize=9, color=NOTE, loc="left")
    axes.legend(
        handles=[Patch(color=look[name], label=_plain(name_of(name))) for name in names],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=LEGEND_COLUMNS,
        borderaxespad=0.2,
        borderpad=0.1,
        handlelength=1.0,
        columnspacing=1.4,
    )


def _changes(axes: Axes, tally: Tally) -> None:
    from matplotlib.ticker import MaxNLocator

    bars = tally.bars()
    axes.bar(range(len(bars)), [count for _, count in bars], width=0.9, align="edge", color=GREY)
    step = -(-len(bars) // 8)
    axes.set_xticks(range(0, len(bars), step), [text for text, _ in bars[::step]])
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set(title=changes_title(tally), xlim=(0, len(bars)))
    axes.set_ylim(0, max(1.1 * max(count for _, count in bars), 1.0))
    axes.grid(visible=False, axis="x")


def _plain(text: str) -> str:
    """Without what matplotlib takes for mathematics."""
    return text.replace("$", r"\$")
