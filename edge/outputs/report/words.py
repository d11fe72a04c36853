"""The sentences and figures of a report, whatever it is drawn with."""

from __future__ import annotations

from edge.languages import language_name
from edge.outputs.report.tally import CELLS, DAY_S, GAP, HOUR_S, MINUTE_S, Tally, moment
from edge.outputs.stdout import printable

ROW_NAMES = {
    DAY_S: "day by day",
    HOUR_S: "hour by hour",
    10 * MINUTE_S: "in rows of 10 minutes",
    MINUTE_S: "minute by minute",
}
TITLE = "Languages heard"


def name_of(name: str) -> str:
    """Of a language, or of what is none."""
    return name if name == GAP else printable(language_name(name))


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def span(tally: Tally) -> str:
    """From when to when, and by which clock."""
    first, last = moment(tally.first), moment(tally.last)
    if first.date() == last.date():
        return f"{first:%a %d %b %Y, %H:%M:%S} to {last:%H:%M:%S}, {tally.zone()}"
    return f"{first:%a %d %b %Y, %H:%M} to {last:%a %d %b %Y, %H:%M}, {tally.zone()}"


def facts(tally: Tally) -> list[tuple[str, str]]:
    """What matters most: a figure, and what it is."""
    languages = len([name for name in tally.languages() if name != "other"])
    changes = sum(tally.changes.values())
    found = [
        (duration(tally.heard_s), "listened"),
        (f"{languages}", "language" if languages == 1 else "languages"),
        (f"{changes}", "change of language" if changes == 1 else "changes of language"),
    ]
    if tally.gaps:
        found.append((duration(sum(tally.lost_s.values())), GAP))
    if tally.starts > 1:
        found.append((f"{tally.starts}", "starts of the program"))
    if tally.unlogged:
        found.append((f"{tally.unlogged}", "events that could not be logged"))
    if tally.skipped:
        lines = "line that is" if tally.skipped == 1 else "lines that are"
        found.append((f"{tally.skipped}", f"{lines} no event, left out"))
    return found


def timeline_note(tally: Tally) -> str:
    """Below the timeline."""
    cell = duration(tally.row_s / CELLS)
    note = f"Every {cell} shows what filled most of it."
    if tally.hidden_rows():
        note += f" {tally.hidden_rows()} earlier rows are not drawn."
    return note


def changes_title(tally: Tally) -> str:
    """Above the bars of changes."""
    return f"Changes of language per {tally.bar_name()}"
