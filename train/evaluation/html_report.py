"""An evaluation report as one self-contained page, for a browser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from edge.system.atomic import write_atomically
from train.evaluation import plots
from train.evaluation.conditions import CLEAN, SNR_DB
from train.evaluation.open_set import POINTS
from train.evaluation.report import (
    balanced,
    divided,
    share,
    shown,
    spoken,
    stream_title,
    yardstick_of,
)

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: #fbfbfa;
  color: #22303c; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; border-top: 1px solid #d9dee3;
  padding-top: 1.2rem; }
p { max-width: 44rem; margin: .4rem 0; }
.note, figcaption { color: #5b6874; font-size: .88rem; }
.sha { overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: .8rem; }
.cards { display: grid; gap: .7rem; margin: 1.2rem 0;
  grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); }
.card { background: #fff; border: 1px solid #d9dee3; border-radius: .5rem; padding: .7rem .9rem; }
.card b { display: block; font-size: 1.6rem; line-height: 1.2; color: #1f6f8b; }
.card span { color: #5b6874; font-size: .85rem; display: block; line-height: 1.35; }
.pair { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); }
figure { margin: 1rem 0; background: #fff; border: 1px solid #d9dee3; border-radius: .5rem;
  padding: .7rem; min-width: 0; max-width: 44rem; box-sizing: border-box; }
figure img { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; margin: .3rem 0 1.2rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .55rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid #e8ebee; }
th { font-weight: 600; border-bottom-color: #b9c2ca; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
"""


def write_html(path: Path, report: dict[str, Any]) -> None:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : Path
    report : dict
        From `train.evaluation.evaluate.evaluate_model`.

    Raises
    ------
    EdgelidError
        If it cannot be written.
    """
    write_atomically(path, page(report).encode())


def page(report: dict[str, Any]) -> str:
    """The whole page. It refers to nothing outside itself, and the same report gives the same."""
    sections = (
        _head,
        _durations,
        _languages,
        _pairs,
        _synthetic,
        _ceiling,
        _sources,
        _conditions,
        _confidence,
        _strangers,
        _streams,
        _budget,
        _method,
    )
    body = "\n".join(part for section in sections for part in section(report))
    return whole_page(f"{report['model']}: evaluation on the {report['split']} split", body)


def whole_page(title: str, body: str) -> str:
    """A page of its own, in the style of all reports."""
    return (
        "<!doctype html>\n"
        '<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table, which scrolls where it is wider than the page."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in rows:
        lines.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    # Not a <caption>, which would be as narrow, or scroll as far, as its table.
    above = f'<p class="note">{escape(caption)}</p>' if caption else ""
    return f'{above}<div class="scroll"><table>' + "\n".join(lines) + "</table></div>"


def figure(image: str, caption: str) -> str:
    """An image from `plots.draw`, and what it shows."""
    text = escape(caption)
    return f'<figure><img src="{image}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _base(report: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The duration that conditions are tested with, and its entry."""
    key = f"{report['condition_duration_s']:g}"
    return key, report["durations"][key]


def _head(report: dict[str, Any]) -> Iterator[str]:
    duration, entry = _base(report)
    row = entry["languages"]
    yield f"<h1>{escape(report['model'])}: how well it tells languages apart</h1>"
    yield (
        f"<p>Split <b>{report['split']}</b>: {row['cuts']} cuts of {duration} s of speech by "
        f"{row['speakers']} speakers of {len(row['languages'])} languages, from "
        f"{len(row['by_source'])} sources. The int8 model file, streamed as on the device.</p>"
    )
    yield (
        f'<p class="note">Model file of {report["bytes"] / 1000:.0f} kB, sha256 '
        f'<span class="sha">{report["sha256"]}</span><br>Corpus manifest, sha256 '
        f'<span class="sha">{report["manifest_sha256"]}</span></p>'
    )
    if "second_opinion" in report:
        yield (
            f'<p class="note">With second opinions of {escape(report["second_opinion"])}: what is '
            "scored is both models together.</p>"
        )
    if "held_out" in report:
        yield (
            '<p class="note">Besides the split, all speech of the development sources and of their '
            "speakers.</p>"
        )
    if report["per_language"] is not None:
        yield (
            f'<p class="note">Only a sample: at most {report["per_language"]} cuts of each '
            "language.</p>"
        )
    cards = "".join(
        f'<div class="card"><b>{share(entry["languages"]["balanced_accuracy"])}</b>'
        f"<span>macro accuracy, {duration} s of speech<br>95 %: "
        f"{_ends(entry['languages']['intervals']['balanced_accuracy'])}</span></div>"
        for duration, entry in report["durations"].items()
    )
    yield f'<div class="cards">{cards}</div>'


def _ends(ends: list[float]) -> str:
    return f"{ends[0] * 100:.1f}–{ends[1] * 100:.1f}"


def _durations(report: dict[str, Any]) -> Iterator[str]:
    yield "<h2>By duration of speech</h2>"
    yield (
        "<p>Among the model's languages: what is asked is which of them is spoken. Macro accuracy "
        "is the mean over languages. In brackets and as bars: 95 % intervals.</p>"
    )
    yield figure(
        plots.draw(plots.accuracy_by_duration(report), 6.4, 3.4),
        "Macro accuracy against seconds of speech.",
    )
    rows: list[Sequence[str]] = [
        (
            f"{duration} s",
            str(row["cuts"]),
            balanced(row),
            share(row["accuracy"]),
            share(row["macro_f1"]),
            shown(row, "cavg", ".3f"),
            shown(row, "eer", ".1%"),
            f"{row['ece']:.3f}",
            share(entry["open"]["balanced_accuracy"]),
            f"{entry['open']['ece']:.3f}",
        )
        for duration, entry in report["durations"].items()
        for row in [entry["languages"]]
    ]
    head = ("speech", "cuts", "macro accuracy", "accuracy", "macro F1", "Cavg", "EER", "ECE")
    yield html_table((*head, "macro, open", "ECE, open"), rows)
    yield (
        '<p class="note">Open: all classes possible, and an answer <i>other</i> or '
        "<i>nonspeech</i> is an error.</p>"
    )
    compared = {d: e["yardstick"] for d, e in report["durations"].items() if "yardstick" in e}
    if compared:
        rows = [
            (
                f"{duration} s",
                str(both["cuts"]),
                *(
                    text
                    for row in (both["model"], both["yardstick"])
                    for text in (
                        balanced(row),
                        shown(row, "cavg", ".3f"),
                        shown(row, "eer", ".1%"),
                    )
                ),
            )
            for duration, both in compared.items()
        ]
        names = (report["model"], "Cavg", "EER", yardstick_of(report), "Cavg", "EER")
        yield html_table(
            ("speech", "cuts", *names),
            rows,
            f"Macro accuracy on the same cuts. Yardstick: {report['yardstick']}.",
        )


def _languages(report: dict[str, Any]) -> Iterator[str]:
    duration, entry = _base(report)
    durations = report["durations"]
    languages = spoken(report)
    yield "<h2>By language</h2>"
    yield figure(
        plots.draw(plots.confusion(entry["languages"]["confusion"], report["labels"]), 6.4, 4.6),
        f"What was answered, in per cent of the cuts of {duration} s of each language.",
    )
    both = entry.get("yardstick")
    rows = []
    for language in languages:
        own = entry["languages"]["by_language"].get(language)
        row = [language, *((str(own["cuts"]), str(own["speakers"])) if own else "––")]
        for other in durations.values():
            found = other["languages"]["by_language"].get(language)
            ends = found["interval"] if found and other is entry else None
            row.append(share(found["accuracy"], ends) if found else "–")
        if both:
            row += _on_same_cuts(both, "by_language", language)
        rows.append(row)
    head = ["language", "cuts", "speakers", *(f"{key} s" for key in durations)]
    caption = f"Share of cuts recognised; numbers of cuts and speakers at {duration} s."
    if both:
        head += _same_cuts_head(report)
        caption += _same_cuts_note(both, duration)
    yield html_table(head, rows, caption)


def _pairs(report: dict[str, Any]) -> Iterator[str]:
    found = {s: e["pairs"] for s, e in report["durations"].items() if e.get("pairs")}
    if not found:
        return
    yield "<h2>Pairs of languages</h2>"
    yield (
        "<p>At home two languages are often all that is spoken, and <code>--languages de,en</code> "
        "says so. The mean over pairs of the recalls of both languages: how often the right one "
        "is the likelier of the two, and how often it is what is answered, as <i>other</i> and "
        "<i>nonspeech</i> stay possible.</p>"
    )
    rows = []
    for duration, pairs in found.items():
        name, worst = min(pairs["by_pair"].items(), key=lambda item: item[1]["accuracy"])
        row = [f"{duration} s", share(pairs["accuracy"], pairs["interval"])]
        row.append(share(pairs["open"], pairs["open_interval"]) if "open" in pairs else "–")
        rows.append([*row, f"{name}: {share(worst['accuracy'], worst['interval'])}"])
    yield html_table(("speech", "right one of two", "answered", "worst pair"), rows)
    duration, entry = _base(report)
    if entry.get("pairs"):
        by_pair = entry["pairs"]["by_pair"]
        languages = list(dict.fromkeys(name for pair in by_pair for name in pair.split(",")))
        yield html_table(
            ("", *languages),
            [
                (
                    one,
                    *(
                        share(pair["accuracy"]) if pair else "–"
                        for other in languages
                        for pair in [by_pair.get(f"{one},{other}", by_pair.get(f"{other},{one}"))]
                    ),
                )
                for one in languages
            ],
            f"The right one of two languages, {duration} s of speech.",
        )


def _synthetic(report: dict[str, Any]) -> Iterator[str]:
    found = {s: e for s, e in report["durations"].items() if e.get("synthetic")}
    if not found:
        return
    yield "<h2>Speech that machines made</h2>"
    yield "<p>No other figure on this page is of it: they all are of people.</p>"
    rows = [
        (
            f"{duration} s",
            *(
                text
                for row in (entry["languages"], entry["synthetic"])
                for text in (str(row["cuts"]), str(row["speakers"]), balanced(row))
            ),
        )
        for duration, entry in found.items()
    ]
    people = ("cuts", "speakers", "natural, macro")
    yield html_table(("speech", *people, "cuts", "voices", "synthetic, macro"), rows)
    duration, entry = _base(report)
    if entry.get("synthetic"):
        rows = [
            (language, str(row["cuts"]), str(row["speakers"]), share(row["accuracy"]))
            for language, row in entry["synthetic"]["by_language"].items()
        ]
        caption = f"Synthetic speech, {duration} s."
        yield html_table(("language", "cuts", "voices", "recognised"), rows, caption)


def _ceiling(report: dict[str, Any]) -> Iterator[str]:
    ceiling = report.get("ceiling")
    if not ceiling:
        return
    yield "<h2>What the large model knows by itself</h2>"
    yield f"<p>{escape(ceiling['model'])} on the same cuts.</p>"
    rows = []
    for duration, alone in ceiling["durations"].items():
        both = report["durations"][duration]
        row = [f"{duration} s", balanced(both["languages"]), balanced(alone["languages"])]
        for some in (both, alone):
            row.append(share(some["pairs"]["accuracy"]) if some.get("pairs") else "–")
        rows.append(row)
    yield html_table(("speech", "both, macro", "alone, macro", "both, pairs", "alone, pairs"), rows)
    if "open_set" in ceiling:
        point = ceiling["open_set"]["at_10_percent_rejected"]
        accepted = share(point["strangers_accepted"], point["intervals"]["strangers_accepted"])
        yield (
            f'<p class="note">Alone, where 10 % of known speech is rejected, it accepts {accepted} '
            "of other languages.</p>"
        )


def _on_same_cuts(both: dict[str, Any], group: str, name: str) -> list[str]:
    """Number of common cuts of a language or source, and both recognisers' accuracy on them."""
    own, other = (both[who][group].get(name) for who in ("model", "yardstick"))
    if not own or not other:
        return ["–"] * 3
    return [str(own["cuts"]), share(own["accuracy"]), share(other["accuracy"])]


def _same_cuts_head(report: dict[str, Any]) -> list[str]:
    return ["common", str(report["model"]), yardstick_of(report)]


def _same_cuts_note(both: dict[str, Any], duration: str) -> str:
    return f" On the right, both recognisers on the {both['cuts']} common cuts of {duration} s."


def _sources(report: dict[str, Any]) -> Iterator[str]:
    duration, entry = _base(report)
    both = entry.get("yardstick")
    yield "<h2>By source</h2>"
    yield (
        "<p>A source is a collection of recordings, and so a recording condition. Where it holds "
        "one language, macro accuracy is the share of its cuts recognised.</p>"
    )
    rows = []
    for name, row in entry["languages"]["by_source"].items():
        line = [name, " ".join(row["languages"]), str(row["cuts"]), str(row["speakers"])]
        line += [balanced(row), shown(row, "cavg", ".3f"), shown(row, "eer", ".1%")]
        line.append(f"{row['ece']:.3f}")
        if both:
            line += _on_same_cuts(both, "by_source", name)
        rows.append(line)
    head = ["source", "languages", "cuts", "speakers", "macro accuracy", "Cavg", "EER", "ECE"]
    caption = f"Cuts of {duration} s."
    if both:
        head += _same_cuts_head(report)
        caption += _same_cuts_note(both, duration)
    yield html_table(head, rows, caption)


def _conditions(report: dict[str, Any]) -> Iterator[str]:
    conditions = report["conditions"]
    if len(conditions) == 1:
        return
    duration, _ = _base(report)
    yield "<h2>In noise, in rooms, through codecs</h2>"
    yield (
        f"<p>The same cuts of {duration} s, with recordings of noise and rooms that no model has "
        "been trained with. A cut meets the same noise at each ratio.</p>"
    )
    noisy = {name: db for name, db in SNR_DB.items() if name.startswith("noise")}
    yield '<div class="pair">'
    if any(name in noisy for name in conditions):
        yield figure(
            plots.draw(plots.accuracy_by_noise(conditions, noisy), 5, 3.8),
            "Macro accuracy against the ratio of active speech to noise.",
        )
    yield figure(
        plots.draw(plots.accuracy_by_condition(conditions), 5, 3.8),
        "Macro accuracy by condition. The dotted line is clean speech.",
    )
    yield "</div>"
    rows = [
        (
            row["title"],
            balanced(row),
            "" if name == CLEAN else _points(row["from_clean"]),
            share(row["macro_f1"]),
            shown(row, "cavg", ".3f"),
            shown(row, "eer", ".1%"),
            f"{row['ece']:.3f}",
            share(row["open"]["balanced_accuracy"]),
        )
        for name, row in conditions.items()
    ]
    head = ("condition", "macro accuracy", "points from clean", "macro F1", "Cavg", "EER", "ECE")
    yield html_table((*head, "macro, open"), rows)
    heard = {name: row["recordings"] for name, row in conditions.items() if "recordings" in row}
    if heard:
        yield html_table(
            ("condition", "macro accuracy", "points from clean", "macro, open"),
            [
                (
                    conditions[name]["title"],
                    balanced(row),
                    "" if name == CLEAN else _points(row["from_clean"]),
                    share(row["open"]["balanced_accuracy"]),
                )
                for name, row in heard.items()
            ],
            "The same as edgelid classify hears it, several times.",
        )


def _points(found: dict[str, Any]) -> str:
    """A difference in points of per cent, with its interval."""
    value, low, high = (
        f"{part * 100:+.1f}".replace("-", "−") for part in (found["difference"], *found["interval"])
    )
    return f"{value} ({low} to {high})"


def _confidence(report: dict[str, Any]) -> Iterator[str]:
    duration, entry = _base(report)
    row, everything = entry["languages"], entry["open"]
    yield "<h2>Confidence</h2>"
    yield "<p>Of answers given with a confidence of 80 %, four in five should be right.</p>"
    curves = {
        f"its languages only, ECE {row['ece']:.3f}": row["reliability"],
        f"all classes, ECE {everything['ece']:.3f}": everything["reliability"],
    }
    yield '<div class="pair">'
    yield figure(
        plots.draw(plots.reliability(curves), 5, 4.4),
        f"Reliability at {duration} s. Above the diagonal it is better than it says, below it "
        "worse; the larger a point, the more cuts.",
    )
    curves_det, points = {}, {}
    if "detection_curve" in report:  # not of one language
        curves_det[f"which language, EER {row['eer']:.1%}"] = report["detection_curve"]
    strangers = report.get("open_set")
    if strangers:
        rate = strangers["equal_error_rate"]
        curves_det[f"known language or none, EER {rate:.1%}"] = strangers["curve"]
        points = {
            f"{title}: {point['threshold']:.2f}": (
                point["known_rejected"],
                point["strangers_accepted"],
            )
            for title, point in (
                ("decoder's confidence", strangers["at_decoder_confidence"]),
                ("10 % kept out", strangers["at_10_percent_rejected"]),
            )
        }
    noise = report.get("noise")
    if noise:
        rate = noise["equal_error_rate"]
        curves_det[f"speech or noise, EER {rate:.1%}"] = noise["curve"]
    if curves_det:
        yield figure(
            plots.draw(plots.detection_trade_off(curves_det, points), 5, 4.4),
            f"Detection-error trade-off at {duration} s: what each threshold keeps out wrongly "
            "against what it takes in wrongly. Lower left is better.",
        )
    yield "</div>"


def _strangers(report: dict[str, Any]) -> Iterator[str]:
    strangers, noise = report.get("open_set"), report.get("noise")
    if not strangers and not noise:
        return
    duration, _ = _base(report)
    rows: list[Sequence[str]]
    yield "<h2>What it does not know</h2>"
    if strangers:
        rows = [*_operating_points(strangers, "")]
        if "recordings" in strangers:
            rows += _operating_points(strangers["recordings"], "edgelid classify: ")
        yield html_table(
            ("threshold", "at", "other languages accepted", "known rejected"),
            rows,
            f"{strangers['strangers']} cuts of {duration} s in other languages, "
            f"{strangers['known']} in the model's, by the confidence in the likeliest language, "
            "and by how likely any of them is.",
        )
        yield html_table(
            ("language", "cuts", "accepted"),
            [
                (language, str(row["cuts"]), share(row["accepted"]))
                for language, row in strangers["by_language"].items()
            ],
            "Other languages taken for one of the model's, at the decoder's confidence.",
        )
    if noise:
        rows = [
            (kind.replace("_", " "), str(row["windows"]), share(row["called_a_language"]))
            for kind, row in noise["by_kind"].items()
        ]
        total = (str(noise["windows"]), share(noise["called_a_language"]))
        yield html_table(
            ("noise or music", "windows", "called a language"),
            [("all", *total), *rows],
            f"Windows of {duration} s without speech, at the decoder's confidence.",
        )


def _operating_points(found: dict[str, Any], heard: str) -> Iterator[Sequence[str]]:
    for name, title in POINTS.items():
        point = found[name]
        yield (
            heard + title,
            f"{point['threshold']:.2f}",
            share(point["strangers_accepted"], point["intervals"]["strangers_accepted"]),
            share(point["known_rejected"], point["intervals"]["known_rejected"]),
        )


def _streams(report: dict[str, Any]) -> Iterator[str]:
    found = report.get("streams")
    if not found:
        return
    decoder = found["decoder"]
    yield "<h2>Following a conversation</h2>"
    yield (
        f"<p>{found['streams']} recordings, {found['minutes']:.0f} minutes together, of speakers "
        "and languages one after the other with pauses and noise between them, and what the "
        f"decoder makes of them: window {decoder['window_s']:g} s, languages last "
        f"{decoder['stay_s']:g} s, confidence {decoder['confidence']:g}.</p>"
    )
    columns, heads = [_followed(found)], ["all languages"]
    if of_two := report.get("streams_of_two"):
        columns.append(_followed(of_two))
        heads.append("two languages each")
        yield (
            f"<p>As many are of two languages each, {of_two['minutes']:.0f} minutes together, as "
            "in a home.</p>"
        )
    rows = [(measure, *(column.get(measure, "") for column in columns)) for measure in columns[0]]
    yield html_table(("measure", *heads), rows)


def _followed(found: dict[str, Any]) -> dict[str, str]:
    rows = {
        "changes of language": f"{found['changes']:.0f}",
        "delay, median": f"{found['median_delay_s']:.1f} s",
        "delay, 95th percentile": f"{found['p95_delay_s']:.1f} s",
        "never announced": share(found["missed"]),
        "false changes per hour of speech": f"{found['false_changes_per_hour']:.1f}",
        "language diarisation error": share(found["error_rate"]),
        "answered “unknown”, part of that error": share(found["unknown_share"]),
    }
    if found["median_border_error_s"] is not None:  # some segment tells of what was spoken
        rows |= {
            "error of begins and ends, median": f"{found['median_border_error_s']:.2f} s",
            "the same, 95th percentile": f"{found['p95_border_error_s']:.1f} s",
        }
    if told := found.get("recordings"):
        rows["divided by edgelid classify"] = divided(told)
    return rows


def _budget(report: dict[str, Any]) -> Iterator[str]:
    found = report.get("budget")
    if not found:
        return
    yield "<h2>What a second opinion brings, for how much of a core</h2>"
    yield (
        "<p>From the compact model alone to the large one always. Cuts are asked about in the "
        "order in which the compact model is unsure, as many as the share affords while such "
        "speech goes on; streams keep to a budget as <i>listen</i> does. Shares are of one core "
        f"of a Raspberry Pi 4, where an answer should take {found['answer_s']:.2f} s by the size "
        "of the large model. In streams it comes so late, and one question is answered at a time; "
        "in the row <i>at once</i> answers take no time and come as often as is wanted.</p>"
    )
    yield figure(
        plots.draw(plots.accuracy_by_budget(found), 6.4, 4.2),
        "Macro accuracy against the share of a core. Lines end where all is asked about.",
    )
    asked = [f"{point['asked']:.0%} asked" for point in _every_other(found)]
    titled = {f"{duration} s": row for duration, row in found["durations"].items()}
    titled |= {
        report["conditions"][name]["title"]: row
        for name, row in found["conditions"].items()
        if name != CLEAN
    }
    rows: list[Sequence[str]] = [
        (
            title,
            *(share(p["balanced_accuracy"]) for p in row["curve"][::2]),
            share(row["curve"][-1]["share"]),
            share(row["large"]["balanced_accuracy"], row["large"]["interval"]),
        )
        for title, row in titled.items()
    ]
    yield html_table(
        ("speech", *asked, "a core for all", "large alone"),
        rows,
        f"Macro accuracy; conditions at {_base(report)[0]} s. The large model alone takes "
        f"{share(found['large_share'])} of a core.",
    )
    if "streams" in found:
        head = ("streams", "of a core", "answers a minute", "missed", "false an hour")
        yield html_table(
            (*head, "median delay", "in error", "unknown"),
            [
                (
                    stream_title(row),
                    share(row["share"]),
                    "–" if row["answers_a_minute"] is None else f"{row['answers_a_minute']:.1f}",
                    share(row["missed"]),
                    f"{row['false_changes_per_hour']:.0f}",
                    f"{row['median_delay_s']:.1f} s",
                    share(row["error_rate"]),
                    share(row["unknown_share"]),
                )
                for row in found["streams"]
            ],
            "Shares of time are of the speech; what is unknown is part of what is in error.",
        )


def _every_other(budget: dict[str, Any]) -> list[dict[str, Any]]:
    """Points of a curve for a table."""
    points: list[dict[str, Any]] = next(iter(budget["durations"].values()))["curve"]
    return points[::2]


def _method(report: dict[str, Any]) -> Iterator[str]:
    yield "<h2>How it was measured</h2>"
    yield (
        "<p>The clips of a speaker are joined and divided into items of 10 s; a cut is the "
        "beginning of an item, so that cuts of different durations are nested. Every cut goes "
        "through the int8 model as a stream of its own, pauses included.</p>"
        "<p><b>Intervals</b> are percentiles of "
        f"{report['bootstrap_draws']} bootstrap draws of whole speakers within each language. Of a "
        "language with a single speaker the cuts are drawn instead: that interval says nothing "
        "about other speakers, and is too narrow. Where all cuts agree, no draw differs, and the "
        "interval is a point.</p>"
        "<p><b>Cavg</b> is the closed-set detection cost of the NIST Language Recognition "
        "Evaluations with equal priors, P<sub>target</sub> 0.5 and unit costs, on log-likelihood "
        "ratios with the threshold at 0. <b>EER</b> pools the detection trials of all languages. "
        "<b>ECE</b> is the expected calibration error in 15 bins. A source that lacks a language "
        "is measured over the pairs of languages that it has.</p>"
        "<p><b>Noise</b>: the ratio is that of the power of the frames of speech at most 30 dB "
        "below the loudest to that of the noise, which holds no intelligible speech; "
        "<b>voices</b> are a recording of a public place. <b>Telephone</b>: 300 to 3400 Hz at "
        "8 kHz. <b>Threshold</b>s are on the probability of the likeliest language, with all "
        "classes possible. <b>Delay</b> is from the first sound of a new language until it is "
        "announced; a change that is not announced counts with the time until the next.</p>"
    )
