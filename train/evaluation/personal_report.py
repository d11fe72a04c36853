"""What lessons bring, as lines for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edge.system.atomic import write_atomically
from train.evaluation import plots
from train.evaluation.html_report import figure, html_table, whole_page
from train.evaluation.personal import JUDGED_S, OTHERS, SAME, WRONG_SHARE
from train.evaluation.report import share
from train.evaluation.voices import MAIN_S


def table(report: Mapping[str, Any]) -> list[str]:
    """The report as lines."""
    lines = [
        f"{report['model']} (sha256 {report['sha256'][:12]}), split {report['split']}: errors "
        "without -> with lessons",
        "",
        *(
            f"{'met' if row['met'] else 'MISSED':<7} {row['measure']}, {row['target']}: "
            f"{_reached(row)}"
            for row in report["targets"]
        ),
    ]
    parts = {f"{taught_s} s taught": part for taught_s, part in report["households"].items()}
    parts[f"{JUDGED_S:g} s taught, {WRONG_SHARE:.0%} of the labels wrong"] = report["wrong_labels"]
    for title, part in parts.items():
        if part is None:
            continue
        lines += [
            "",
            f"{title}, {part['households']} households of {part['voices']} voices "
            f"({part['refused']} refused, {part['strength']:.0%} applied)",
            *_pairs(part),
        ]
    if report["rounds"]:
        lines += ["", "after so many rounds"]
        for number, one in enumerate(report["rounds"], 1):
            taught, others = one[f"taught, {MAIN_S:g} s"], one[OTHERS]
            lines.append(f"  {number:>4}  taught {taught:6.1%}  all others {others:6.1%}")
    for language, by_time in report["new_languages"].items():
        for taught_s, row in by_time.items():
            told = (
                "refused"
                if row.get("refused")
                else f"found {row['found']:.1%}; known languages {row['known_before']:.1%} -> "
                f"{row['known_after']:.1%}"
            )
            lines.append(f"new language {language}, {taught_s} s: {told}")
    music = report["music"]
    lines += [
        "",
        f"music: {music['taken_for_speech']} of {music['windows']} windows are taken for speech, "
        "and taught as a language",
        *_pairs(music),
    ]
    if report["cost"]:
        cost = report["cost"]
        lines += [
            "",
            f"adapting to {cost['windows']} windows: {cost['processor_s']} s of a core, "
            f"{cost['memory_mb']} MB",
        ]
    return lines


def _pairs(part: Mapping[str, Any]) -> Iterator[str]:
    for name, errors in part.items():
        if isinstance(errors, list):
            yield f"  {name:<30} {errors[0]:6.1%} -> {errors[1]:6.1%}"


def _reached(row: Mapping[str, Any]) -> str:
    if row["before"] is None:
        return f"{row['after']:g}"
    return f"{share(row['before'])} -> {share(row['after'])}"


def write_html(path: Path, report: Mapping[str, Any]) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : Path
    report : dict
        From `train.evaluation.personal.evaluate_personal`.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    write_atomically(path, page(report).encode())


def page(report: Mapping[str, Any]) -> str:
    """The whole page. It refers to nothing outside itself, and the same report gives the same."""
    sections = (_head, _targets, _by_seconds, _by_round, _new_languages, _music, _method)
    body = "\n".join(part for section in sections for part in section(report))
    title = f"{report['model']}: what lessons bring, on the {report['split']} split"
    return whole_page(title, body)


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h1>{escape(report['model'])}: what lessons bring</h1>"
    yield (
        f"<p>Split <b>{escape(report['split'])}</b>. Simulated households of two to four people, "
        "each of whom speaks another language, teach the int8 model, and are heard by it in what "
        "they say afterwards. Counted are windows that are taken for something else, all classes "
        "being possible.</p>"
    )
    yield f'<p class="note">Model file, sha256 <span class="sha">{report["sha256"]}</span></p>'


def _targets(report: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>Targets</h2>"
    rows = [
        (
            row["measure"],
            "–" if row["before"] is None else share(row["before"]),
            f"{row['after']:g}" if row["before"] is None else share(row["after"]),
            row["target"],
            "yes" if row["met"] else "no",
        )
        for row in report["targets"]
    ]
    caption = f"Windows of {MAIN_S:g} s, {JUDGED_S:g} s taught of each voice."
    yield html_table(("measure", "without", "with lessons", "target", "met"), rows, caption)


def _by_seconds(report: Mapping[str, Any]) -> Iterator[str]:
    found = {seconds: part for seconds, part in report["households"].items() if part}
    yield "<h2>By seconds taught</h2>"
    yield figure(
        plots.draw(plots.errors_by_seconds_taught(curves(report)), 6.4, 3.8),
        "Errors against seconds taught of each voice, of which the first point has none. Fewer "
        "people can teach for longer, so each later point is the error of the first households "
        "without lessons, times the share of errors that was left in those who could teach so "
        "long.",
    )
    parts = {f"{seconds} s": part for seconds, part in found.items()}
    if report["wrong_labels"]:
        title = f"{JUDGED_S:g} s, {WRONG_SHARE:.0%} of the labels wrong"
        parts[title] = report["wrong_labels"]
    names = [name for name, pair in next(iter(found.values())).items() if isinstance(pair, list)]
    yield html_table(
        ("heard", *parts),
        [(name, *(_arrow(part.get(name)) for part in parts.values())) for name in names],
        "Errors without and with lessons; each column is of other households, of those who say "
        "enough.",
    )
    yield html_table(
        ("taught", "households", "voices", "refused", "applied"),
        [
            (title, *(str(part[key]) for key in ("households", "voices", "refused")), strength)
            for title, part in parts.items()
            for strength in [share(part["strength"])]
        ],
    )


def curves(report: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Seconds taught and errors, by what is heard; those of no lessons are of the first.

    Households of those who can teach for so long are not the same: so each curve begins anew
    where fewer can, and what is drawn is the error without lessons times what is left of it.
    """
    found = [(float(seconds), part) for seconds, part in report["households"].items() if part]
    drawn: dict[str, list[tuple[float, float]]] = {}
    for name in (f"taught, {MAIN_S:g} s", SAME, OTHERS):
        rows = [(seconds, part[name]) for seconds, part in found if name in part]
        if rows:
            without = rows[0][1][0]
            left = [(s, without * after / before) for s, (before, after) in rows if before]
            drawn[name] = [(0.0, without), *left]
    return drawn


def _by_round(report: Mapping[str, Any]) -> Iterator[str]:
    if not report["rounds"]:
        return
    yield "<h2>Lesson after lesson</h2>"
    yield figure(
        plots.draw(plots.errors_by_round(report["rounds"], (f"taught, {MAIN_S:g} s", OTHERS))),
        f"Errors after each of {len(report['rounds'])} short lessons.",
    )


def _new_languages(report: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (language, seconds, "refused", "–")
        if row.get("refused")
        else (
            language,
            f"{row['taught_s']:g}",
            share(row["found"]),
            _arrow((row["known_before"], row["known_after"])),
        )
        for language, by_time in report["new_languages"].items()
        for seconds, row in by_time.items()
    ]
    if rows:
        yield "<h2>Languages that the model does not know</h2>"
        caption = "A class of its own is taught: how often it is found in what else is said."
        yield html_table(("language", "s taught", "found", "errors, known"), rows, caption)


def _music(report: Mapping[str, Any]) -> Iterator[str]:
    music = report["music"]
    yield "<h2>A lesson of music</h2>"
    yield (
        f"<p>{music['taken_for_speech']} of {music['windows']} windows of music are taken for "
        "speech, and so can be taught as a language at all.</p>"
    )
    rows = [(name, _arrow(pair)) for name, pair in music.items() if isinstance(pair, list)]
    if rows:
        yield html_table(("heard", "errors, with a lesson of them"), rows)


def _method(report: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>How it was measured</h2>"
    together = (
        " Development speakers who say little are taken together, by source and then by language."
    )
    yield (
        "<p>Lessons are clean speech. Windows of what a voice says later do not overlap, and "
        "errors are means over voices; of everyone else, over languages. A lesson that costs too "
        "much is refused as on the device, and then counts as none."
        f"{together if report['split'] == 'dev' else ''}</p>"
    )


def _arrow(pair: Sequence[float] | None) -> str:
    return "–" if pair is None else f"{share(pair[0])} → {share(pair[1])}"
