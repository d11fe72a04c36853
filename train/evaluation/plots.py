"""The plots of an evaluation report, as SVG."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from edge.outputs.plotstyle import COLOURS, GREY, INK, STYLE
from train.evaluation.report import yardstick_of

MODEL, OTHER_MODEL, SECOND, THIRD = COLOURS
SAME_BYTES = {"svg.hashsalt": "edgelid"}  # for the same report
BUDGET_TICKS = (0, 1, 3, 10, 30, 100)  # per cent of a core
DET_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9)


def draw(plot: Callable[[Axes], None], width: float = 6.0, height: float = 4.0) -> str:
    """A plot as the address of an image, to be put into a page.

    Parameters
    ----------
    plot : callable
        Draws into the axes it is given.
    width, height : float
        In inches of matplotlib, which decide how large the text is.
    """
    with rc_context({**STYLE, **SAME_BYTES}):
        figure = Figure(figsize=(width, height), layout="constrained")
        plot(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def _errors(rows: list[dict[str, Any]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Figures in per cent, and their distances from the ends of their intervals, (2, rows)."""
    values = np.array([row[name] for row in rows]) * 100
    ends = np.array([row["intervals"][name] for row in rows]).T * 100
    return values, np.maximum(np.stack([values - ends[0], ends[1] - values]), 0)


def accuracy_by_duration(report: dict[str, Any]) -> Callable[[Axes], None]:
    """Balanced accuracy against seconds of speech, and that of the yardstick."""

    def plot(axes: Axes) -> None:
        durations = report["durations"]
        seconds = [float(key) for key in durations]
        rows = [entry["languages"] for entry in durations.values()]
        values, errors = _errors(rows, "balanced_accuracy")
        axes.errorbar(
            seconds, values, errors, color=MODEL, marker="o", capsize=3, label=report["model"]
        )
        for x, y in zip(seconds, values, strict=True):
            axes.annotate(f"{y:.0f}", (x, y), (6, -12), textcoords="offset points", color=MODEL)
        both = {float(k): e["yardstick"] for k, e in durations.items() if "yardstick" in e}
        if both:
            values, errors = _errors([b["yardstick"] for b in both.values()], "balanced_accuracy")
            label = f"{yardstick_of(report)}, on those of the cuts that it has"
            axes.errorbar(
                list(both), values, errors, color=OTHER_MODEL, marker="D", capsize=3, label=label
            )
        axes.set_xscale("log")
        axes.set_xticks(seconds, [f"{s:g}" for s in seconds])
        axes.minorticks_off()
        axes.set_ylim(0, 103)
        axes.set_xlabel("seconds of speech")
        axes.set_ylabel("macro accuracy, %")
        axes.legend(loc="lower right")

    return plot


def accuracy_by_budget(budget: dict[str, Any]) -> Callable[[Axes], None]:
    """Balanced accuracy of each duration, and the time of streams that is right, against the share
    of a core: from the compact model alone, at zero, to the large one always.
    """

    def plot(axes: Axes) -> None:
        found = list(budget["durations"].items())
        chosen = found if len(found) <= len(COLOURS) else found[: len(COLOURS)]
        for (duration, row), colour in zip(chosen, COLOURS, strict=False):
            shares = [point["share"] * 100 for point in row["curve"]]
            values = [point["balanced_accuracy"] * 100 for point in row["curve"]]
            axes.plot(shares, values, color=colour, marker=".", label=f"{duration} s of speech")
            always = row["large"]
            _always(axes, shares, values, (always["share"], always["balanced_accuracy"]), colour)
        streams = [
            row for row in budget.get("streams", ()) if row["by"] != "large" and not row["at_once"]
        ]
        if streams:
            shares = [row["share"] * 100 for row in streams]
            values = [(1 - row["error_rate"]) * 100 for row in streams]
            label = "streams, time that is right"
            axes.plot(shares, values, color=GREY, marker="s", linestyle="--", label=label)
            large = budget["streams"][-1]
            _always(axes, shares, values, (large["share"], 1 - large["error_rate"]), GREY)
        axes.plot([], [], "D", color=INK, markersize=6, label="the large model alone, always")
        axes.set_xscale("symlog", linthresh=BUDGET_TICKS[1], linscale=0.5)
        axes.set_xticks(BUDGET_TICKS, [f"{tick:g}" for tick in BUDGET_TICKS])
        axes.minorticks_off()
        axes.set_xlim(left=-0.1)
        axes.set_ylim(0, 103)
        axes.set_xlabel("share of one core of a Raspberry Pi 4, %")
        axes.set_ylabel("right, %")
        axes.legend(loc="lower right")

    return plot


def errors_by_seconds_taught(
    curves: Mapping[str, Sequence[tuple[float, float]]],
) -> Callable[[Axes], None]:
    """Errors against seconds taught, by what is heard."""

    def plot(axes: Axes) -> None:
        for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
            seconds, errors = zip(*points, strict=True)
            values = np.array(errors) * 100
            axes.plot(seconds, values, color=colour, marker="o", label=name)
            for x, y in zip(seconds, values, strict=True):
                axes.annotate(f"{y:.0f}", (x, y), (4, 5), textcoords="offset points", color=colour)
        axes.set_xticks(sorted({s for points in curves.values() for s, _ in points}))
        _of_errors(axes, "seconds taught of each voice")

    return plot


def errors_by_round(
    rounds: Sequence[Mapping[str, float]], names: Sequence[str]
) -> Callable[[Axes], None]:
    """Errors after each of many lessons, by what is heard."""

    def plot(axes: Axes) -> None:
        numbers = range(1, len(rounds) + 1)
        for name, colour in zip(names, COLOURS, strict=False):
            values = [one[name] * 100 for one in rounds]
            axes.plot(numbers, values, color=colour, marker=".", label=name)
        _of_errors(axes, "lessons given")

    return plot


def _of_errors(axes: Axes, against: str) -> None:
    """Name the axes of errors in per cent."""
    axes.set_ylim(bottom=0)
    axes.set_xlabel(against)
    axes.set_ylabel("errors, %")
    axes.legend(loc="lower left")


def _always(
    axes: Axes, shares: list[float], values: list[float], large: tuple[float, float], colour: str
) -> None:
    """The end of a line: the large model alone, its share of a core and how often it is right."""
    x, y = large[0] * 100, large[1] * 100
    axes.plot([shares[-1], x], [values[-1], y], color=colour, linewidth=0.8, linestyle=":")
    axes.plot(x, y, "D", color=colour, markersize=6)


def accuracy_by_noise(
    conditions: dict[str, Any], snr_db: dict[str, float]
) -> Callable[[Axes], None]:
    """Balanced accuracy against the signal-to-noise ratio, from clean to as loud as the speech."""

    def plot(axes: Axes) -> None:
        names = [name for name in conditions if name == "clean" or name in snr_db]
        values, errors = _errors([conditions[name] for name in names], "balanced_accuracy")
        axes.errorbar(range(len(names)), values, errors, color=MODEL, marker="o", capsize=3)
        for x, y in enumerate(values):
            axes.annotate(f"{y:.0f}", (x, y), (6, 4), textcoords="offset points", color=MODEL)
        ticks = [f"{snr_db[name]:g} dB" if name in snr_db else name for name in names]
        axes.set_xticks(range(len(names)), ticks)
        axes.set_ylim(0, 103)
        axes.set_xlabel("speech to noise")
        axes.set_ylabel("macro accuracy, %")

    return plot


def accuracy_by_condition(conditions: dict[str, Any]) -> Callable[[Axes], None]:
    """Balanced accuracy in each condition, one below the other."""

    def plot(axes: Axes) -> None:
        rows = list(conditions.values())
        values, errors = _errors(rows, "balanced_accuracy")
        at = range(len(rows))
        axes.errorbar(values, at, xerr=errors, color=MODEL, marker="o", capsize=3, linestyle="none")
        axes.axvline(values[0], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_yticks(at, [row["title"] for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 103)
        axes.set_xlabel("macro accuracy, %")

    return plot


def confusion(table: dict[str, dict[str, int]], labels: list[str]) -> Callable[[Axes], None]:
    """Answers in per cent of the cuts of each language."""

    def plot(axes: Axes) -> None:
        truths = list(table)
        answers = [name for name in labels if any(name in row for row in table.values())]
        counts = np.array([[table[t].get(a, 0) for a in answers] for t in truths], float)
        shares = counts / counts.sum(axis=1, keepdims=True) * 100
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(shares):
            if counts[row, column]:
                colour = "white" if value > 60 else INK
                axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(answers)), answers)
        axes.set_yticks(range(len(truths)), truths)
        axes.set_xlabel("answer")
        axes.set_ylabel("spoken")
        axes.grid(False)

    return plot


def reliability(curves: dict[str, list[dict[str, float]]]) -> Callable[[Axes], None]:
    """Accuracy against confidence; the larger a point, the more cuts."""

    def plot(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=0.8, linestyle=":")
        for (name, bins), colour in zip(curves.items(), (MODEL, SECOND), strict=False):
            cuts = np.array([b["cuts"] for b in bins], float)
            confidence = [b["confidence"] * 100 for b in bins]
            accuracy = [b["accuracy"] * 100 for b in bins]
            axes.plot(confidence, accuracy, color=colour, linewidth=1, alpha=0.6)
            size = 8 + 160 * cuts / cuts.sum()
            axes.scatter(confidence, accuracy, size, color=colour, label=name, alpha=0.85)
        axes.set_xlim(0, 102)
        axes.set_ylim(0, 102)
        axes.set_xlabel("confidence, %")
        axes.set_ylabel("right, %")
        axes.legend(loc="lower right")

    return plot


def detection_trade_off(
    curves: dict[str, list[list[float]]], points: dict[str, tuple[float, float]]
) -> Callable[[Axes], None]:
    """Misses against false alarms on normal deviates (Martin et al. 1997).

    Parameters
    ----------
    curves : dict of str to list of [threshold, misses, false alarms]
    points : dict of str to (misses, false alarms)
        To be marked.
    """

    def plot(axes: Axes) -> None:
        low, high = DET_TICKS[0] / 2, 1 - (1 - DET_TICKS[-1]) / 2

        def place(values: Any) -> np.ndarray:
            return np.asarray(norm.ppf(np.clip(values, low, high)))

        for (name, curve), colour in zip(curves.items(), (MODEL, SECOND, THIRD), strict=False):
            _, misses, alarms = np.array(curve).T
            axes.step(place(alarms), place(misses), color=colour, label=name, where="pre")
        for (name, (miss, alarm)), marker in zip(points.items(), "os", strict=False):
            axes.plot(place(alarm), place(miss), marker, color=SECOND, markersize=7, label=name)
        ends = place([low, high])
        axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":")
        ticks = [f"{tick * 100:g}" for tick in DET_TICKS]
        axes.set_xticks(place(DET_TICKS), ticks)
        axes.set_yticks(place(DET_TICKS), ticks)
        axes.set_xlim(*ends)
        axes.set_ylim(*ends)
        axes.set_xlabel("taken in wrongly, %")
        axes.set_ylabel("kept out wrongly, %")
        axes.legend(loc="upper right")

    return plot
