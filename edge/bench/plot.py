"""The plot of a bench: how the cost of a hop is distributed, and how it depends on the hop."""

from __future__ import annotations

import io
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.bench.table import machine_name, run_name
from edge.errors import EdgelidError
from edge.outputs.plotstyle import DPI, GREY, INK, LOOK, STYLE, check_matplotlib
from edge.system.atomic import check_writable, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

COLOURS = ("#1f6f8b", "#b5651d", "#8a4f7d", "#6b8e23", "#4a5f9c", "#a63d40")
STAGE_COLOURS = {
    "front_end": "#1f6f8b",
    "step": "#b5651d",
    "head": "#8a4f7d",
    "window": "#b5651d",
    "decoder": "#6b8e23",
    "rest": "#aab4bd",
}


def check_plot(path: Path) -> None:
    """Find out whether a plot can be made and written, before the measuring.

    Raises
    ------
    EdgelidError
        If it cannot.
    """
    if path.suffix.lower() != ".png":
        raise EdgelidError(f"--plot writes PNG, and {str(path)!r} has another ending: use .png.")
    check_matplotlib("--plot")
    check_writable(path)


def write_plot(document: dict[str, Any], path: Path) -> None:
    """Draw, as PNG.

    Parameters
    ----------
    document : dict
        Of :func:`edge.bench.measure.measure`.
    path : Path

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    runs = document["runs"]
    with rc_context({**STYLE, **LOOK}):
        sheet = Figure(figsize=(11, 4.2 + 0.28 * max(0, len(runs) - 2)), layout="constrained")
        left, middle, right = sheet.subplots(1, 3, width_ratios=(1.15, 1, 1))
        _distribution(left, runs)
        _stages(middle, runs)
        _against_hop(right, runs)
        sheet.suptitle(
            f"What listening costs: {machine_name(document['machine'])}",
            x=0.01,
            ha="left",
            fontsize=12,
            fontweight="bold",
        )
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="png", dpi=DPI)
    write_atomically(path, buffer.getvalue())


def _distribution(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """Share of hops that took longer, against time: its tail is what deadlines meet."""
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        histogram = run["whole"]["histogram"]
        hops = run["whole"]["hops"]
        remaining = [1 - done / hops for done in accumulate(histogram["hops"], initial=0)]
        shares = [100 * share for share in remaining[:-1]]
        axes.plot(histogram["edges_ms"][:-1], shares, color=colour, label=run_name(run))
        for name, longer in (("p50", 50), ("p99", 1)):
            if (ms := run["whole"]["wall_ms_per_hop"][name]) is not None:
                axes.plot(ms, longer, "o", color=colour, markersize=5)
    axes.set(
        xscale="log",
        yscale="log",
        title="Hops that take longer, flat out",
        xlabel="ms, clock on the wall",
        ylabel="% of hops",
    )
    axes.plot([], [], "o", color=GREY, label="p50 and p99")
    lowest, _ = axes.get_ylim()
    axes.set_ylim(lowest / 4 / 1.8 ** len(runs), 150)  # the legend goes below
    _plain_ticks(axes.xaxis)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="lower left", borderaxespad=0.1, handlelength=1.2)


def _stages(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """Where the processor time goes."""
    shown: set[str] = set()
    for row, run in enumerate(runs):
        start = 0.0
        for name, cost in run["stages"].items():
            width = cost["cpu_ms_per_audio_s"]
            axes.barh(
                row,
                width,
                left=start,
                height=0.6,
                color=STAGE_COLOURS[name],
                label=None if name in shown else name.replace("_", " "),
            )
            shown.add(name)
            start += width
        axes.plot(1e3 * run["paced"]["core_share"], row, "D", color=INK, markersize=6)
    axes.plot([], [], "D", color=INK, label="all, in real time")
    axes.set(
        title="Where it goes",
        xlabel="ms of processor, a second of audio",
        ylim=(len(runs) - 0.4, -0.6 - 0.35 * len(runs)),
    )
    axes.set_yticks(range(len(runs)), [run_name(run).replace(", ", "\n", 1) for run in runs])
    axes.grid(visible=False, axis="y")
    axes.legend(loc="upper right", ncols=3, fontsize=8, columnspacing=1.0, handlelength=1.0)


def _against_hop(axes: Axes, runs: list[dict[str, Any]]) -> None:
    """Share of a core against the time between answers, and that of recomputing."""
    hops_ms = sorted({run["hop_ms"] for run in runs})
    range_ms = [min(hops_ms) / 2, max(hops_ms) * 4]
    for number, run in enumerate(runs):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(run["hop_ms"], 100 * run["whole"]["core_share"], "o", color=colour)
        axes.plot(run["hop_ms"], 100 * run["paced"]["core_share"], "D", color=colour)
        if run["recomputation"] is not None:
            cost_ms = run["recomputation"]["recomputed"]["cpu_ms_per_answer"]
            axes.plot(range_ms, [100 * cost_ms / ms for ms in range_ms], "--", color=colour)
    for marker, label in (
        ("o", "flat out"),
        ("D", "in real time"),
        ("--", "recomputing, flat out"),
    ):
        axes.plot([], [], marker, color=GREY, label=label)
    axes.set(
        xscale="log",
        yscale="log",
        title="Cost against hop",
        xlabel="ms between answers",
        ylabel="% of one core",
    )
    lowest, highest = axes.get_ylim()
    axes.set_ylim(lowest / 1.5, highest * 3)
    _plain_ticks(axes.xaxis)
    _plain_ticks(axes.yaxis)
    axes.legend(loc="upper right", fontsize=8)


def _plain_ticks(axis: Axis) -> None:
    """Decimal numbers instead of powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
