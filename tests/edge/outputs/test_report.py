"""Reports: from any files of events, in bounded memory, to figures that add up."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import EdgelidError
from edge.outputs.eventlog import EventLog
from edge.outputs.report.page import page
from edge.outputs.report.read import MAX_STREAM_S
from edge.outputs.report.tally import CELLS, DAY_S, GAP, HOUR_S, Tally, tally
from edge.outputs.report.write import report, summary
from edge.outputs.timeline import Span, seconds_of, time_of

Edgelid = Callable[..., subprocess.CompletedProcess[str]]
T0 = seconds_of("2026-11-16T00:00:00.000+00:00")


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    set_zone(monkeypatch, "UTC")


def set_zone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TZ", name)
    time.tzset()


def stretch(language: str, start_s: float, end_s: float, t0: float = T0) -> list[dict[str, Any]]:
    """The events of a segment that is over."""
    told = {"time": time_of(t0 + end_s)}
    change = {"language": "x", "previous": language, "start_s": end_s, "decided_s": end_s}
    segment = {"language": language, "start_s": start_s, "end_s": end_s}
    return [
        {"type": "change", **change, "confidence": 0.5, **told},
        {"type": "segment", **segment, "confidence": 0.75, **told},
    ]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def start(t0: float = T0) -> dict[str, Any]:
    return {"type": "start", "start_s": 0.0, "version": "1", "time": time_of(t0)}


def gap(start_s: float, end_s: float, reason: str = "overrun") -> dict[str, Any]:
    told = {"start_s": start_s, "end_s": end_s, "reason": reason, "bridged": end_s - start_s < 0.5}
    return {"type": "gap", **told, "time": time_of(T0 + end_s)}


@pytest.fixture
def events(tmp_path: Path) -> Path:
    """Two days: German from 0 to 30 h but for a gap, then English for 6 h."""
    day = [start(), *stretch("de", 0, 10 * HOUR_S), gap(10 * HOUR_S, 12 * HOUR_S)]
    day += [gap(12 * HOUR_S, 12 * HOUR_S + 0.25)]
    day += [*stretch("de", 12 * HOUR_S, 30 * HOUR_S), *stretch("unknown", 108_000, 108_060)]
    return write(tmp_path / "events.jsonl", [*day, *stretch("en", 108_060, 129_660)])


def test_what_is_added_up(events: Path) -> None:
    found = tally([events])
    assert summary(found) == {
        "start": "2026-11-16T00:00:00.000+00:00",
        "end": "2026-11-17T12:01:00.000+00:00",
        "heard_s": 34 * HOUR_S + 60.0,
        "languages": {
            "de": {"seconds": 28.0 * HOUR_S, "segments": 2, "confidence": 0.75},
            "en": {"seconds": 6.0 * HOUR_S, "segments": 1, "confidence": 0.75},
            "unknown": {"seconds": 60.0, "segments": 1, "confidence": 0.75},
        },
        "changes": 1,
        "gaps": {"overrun": {"times": 1, "seconds": 7200.0}},
        "starts": 1,
        "unlogged_events": 0,
        "skipped_lines": 0,
    }


def test_the_timeline_shows_days(events: Path) -> None:
    found = tally([events])
    assert (found.row_s, found.names()) == (DAY_S, ["de", "en", "unknown", GAP])
    assert [found.row_label(row) for row in found.rows()] == ["Mon 16 Nov", "Tue 17 Nov"]
    first, second = found.strips().tolist()
    assert first == [0] * 300 + [3] * 60 + [0] * 360
    # A cell is two minutes, and the minute that was unknown is not most of one.
    assert set(second[:180]) == {0}
    assert set(second[181:360]) == {1}
    assert set(second[361:]) == {-1}
    assert sum(count for _, count in found.bars()) == 1
    assert [text for text, count in found.bars() if count] == ["Tue 06:00"]


def test_local_time_and_its_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_zone(monkeypatch, "Europe/Berlin")
    t0 = seconds_of("2026-10-24T20:00:00+00:00")  # the night in which summer time ends
    records = [
        event for hour in range(20) for event in stretch("de", hour * 3600, hour * 3600 + 3600, t0)
    ]
    found = tally([write(tmp_path / "e", [start(t0), *records])])
    assert found.zone() == "CEST (UTC+02:00) and CET (UTC+01:00)"
    first, second = (strip >= 0 for strip in found.strips())
    assert np.flatnonzero(first).min() == 22 * 30
    assert np.flatnonzero(second).max() == 17 * 30 - 1


@pytest.mark.parametrize(
    ("begin", "minutes"), [("2026-10-25T00:50:00+00:00", 20), ("2026-10-25T00:10:00+00:00", 100)]
)
def test_an_hour_that_comes_twice_loses_no_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str, minutes: int
) -> None:
    set_zone(monkeypatch, "Europe/Berlin")
    t0 = seconds_of(begin)
    records = [
        event
        for minute in range(minutes)
        for event in stretch(("de", "en")[minute % 2], minute * 60, minute * 60 + 60, t0)
    ]
    found = tally([write(tmp_path / "e", [start(t0), *records])])
    assert sum(count for _, count in found.bars()) == minutes - 1
    assert "<svg" in page(found)


def test_short_streams_have_short_rows(tmp_path: Path) -> None:
    records = [*stretch("de", 0, 40.0), *stretch("en", 40.0, 70.0)]
    found = tally([write(tmp_path / "e", records)])
    assert (found.row_s, found.bar_s) == (60, 10)
    first, second = found.strips().tolist()
    assert first == [0] * 480 + [1] * 240
    assert second == [1] * 120 + [-1] * 600


def test_spans_are_divided_among_cells_exactly() -> None:
    """What the cells hold adds up to what the spans lasted, wherever they begin and end."""
    random_ = random.Random(5)
    found, position = Tally(DAY_S, HOUR_S), T0
    for _ in range(300):
        end = position + random_.choice([0.01, 7.0, 119.9, 4_000.0, 100_000.0]) * random_.random()
        found.add(Span("segment", random_.choice("abc"), position, end, 0.5))
        position = end
    cells = [cells for row in found._rows.values() for cells in row.values()]
    assert all(strip.min() >= -1e-3 and strip.max() <= 1 + 1e-3 for strip in cells)
    assert sum(float(strip.sum()) for strip in cells) * DAY_S / CELLS == pytest.approx(
        position - T0, rel=1e-4
    )


def test_rotated_logs_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, 10_000, 9) as log:
        for number in range(200):
            for record in stretch("de" if number % 2 else "en", number * 60, number * 60 + 60):
                log.record(record)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    wanted = summary(tally(files))
    assert (wanted["heard_s"], wanted["changes"]) == (12_000.0, 199)
    random.Random(1).shuffle(files)
    assert summary(tally([*files, files[0]])) == wanted  # one of them given twice


@pytest.mark.parametrize("cut", [2, 40, 100])
def test_a_torn_last_line_is_left_out(events: Path, cut: int) -> None:
    whole = events.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for tail in (whole[last:-cut], whole[last:-cut] + b"\0\0\0", b"\0" * 50):
        events.write_bytes(whole[:last] + tail)
        assert tally([events]).heard_s == 28 * HOUR_S + 60


BAD = {
    "text": "hello",
    "a number": "3",
    "another object": '{"path": "x.wav", "language": "en"}',
    "another type": '{"type": "x", "time": "2026-11-24T00:00:00.000+00:00"}',
    "an empty line": "",
    "no number": json.dumps({**stretch("de", 0, 1)[1], "end_s": "1"}),
    "true": json.dumps({**stretch("de", 0, 1)[1], "end_s": True}),
    "not a number": json.dumps({**stretch("de", 0, 1)[1], "end_s": float("nan")}),
    "infinity": json.dumps({**stretch("de", 0, 1)[1], "end_s": float("inf")}),
    "no end": json.dumps({**stretch("de", 0, 1)[1], "end_s": 1e300}),
    "a change of the far future": json.dumps(
        {**stretch("de", 0, 1)[0], "start_s": 1e18, "decided_s": 1e18}
    ),
    "the last of all years": json.dumps(
        {**stretch("de", 0, 1e6)[1], "start_s": 1e6, "time": "9999-12-31T23:59:59+00:00"}
    ),
    "an end before the start": json.dumps({**stretch("de", 0, 1)[1], "start_s": 2}),
    "no language": json.dumps({**stretch("de", 0, 1)[1], "language": ["de"]}),
    "no time": json.dumps({**stretch("de", 0, 1)[1], "time": "yesterday"}),
    "no confidence": json.dumps({**stretch("de", 0, 1)[1], "confidence": 2}),
    "deep": "[" * 100_000,
    "long": "x" * 3_000_000,
}


@pytest.mark.parametrize("line", BAD.values(), ids=BAD)
def test_a_bad_line_is_told_with_its_number(events: Path, line: str, tmp_path: Path) -> None:
    lines = events.read_text().splitlines()
    lines.insert(2, line)
    events.write_text("\n".join(lines) + "\n")
    with pytest.raises(EdgelidError, match=re.escape(f"{events}:3: this is no event of edgelid: ")):
        report([events], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    found = report([events], tmp_path / "report.html", skip_bad=True)
    assert (found.skipped, found.heard_s) == (1, 34 * HOUR_S + 60)
    assert "line that is no event, left out" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00+00:00", "2999-12-31T00:00:00+00:00"])
@pytest.mark.parametrize("moment_s", [0.0, MAX_STREAM_S])
@pytest.mark.parametrize("start_s", [0.0, MAX_STREAM_S - 1.0])
def test_the_largest_numbers_that_events_may_have_are_dates(
    tmp_path: Path, time: str, moment_s: float, start_s: float
) -> None:
    change, segment = stretch("de", start_s, start_s + 1.0)
    change |= {"start_s": moment_s, "decided_s": moment_s, "time": time}
    log = write(tmp_path / "log.jsonl", [change, segment | {"time": time}])
    assert report([log], tmp_path / "report.html").heard_s == pytest.approx(1.0)


def test_bad_lines_are_skipped_wherever_they_are(
    events: Path, edgelid: Edgelid, tmp_path: Path
) -> None:
    whole = events.read_bytes()
    events.write_bytes(b"hello\n" + whole + b"\n" + b"x" * (1 << 20) + b"\nhello\n")
    done = edgelid("report", events, "-o", tmp_path / "r.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        ":1: this is no event of edgelid: check the file, or leave such "
        "lines out with --skip-bad.\n"
    )
    done = edgelid("report", "--skip-bad", "--json", events, "-o", tmp_path / "r.html")
    told = json.loads(done.stdout)
    assert (told["skipped_lines"], told["heard_s"]) == (4, 34 * HOUR_S + 60.0)
    (tmp_path / "text").write_text("hello\n")
    done = edgelid("report", "--skip-bad", tmp_path / "text", "-o", tmp_path / "r.html")
    assert "there are no events in it" in done.stderr


def test_a_byte_order_mark_is_no_error(events: Path) -> None:
    events.write_bytes(b"\xef\xbb\xbf" + events.read_bytes())
    assert tally([events]).heard_s == 34 * HOUR_S + 60


@pytest.mark.parametrize("told", [{}, {"live": True}])
def test_a_clock_that_is_set_back_in_a_run(tmp_path: Path, told: dict[str, Any]) -> None:
    """Ten hours of stretches of ten minutes; after one of them the clock goes back by half."""
    records: list[dict[str, Any]] = [{**start(), **told}]
    for number in range(60):
        begin, end, back = number * 600, number * 600 + 600, 300 if number >= 12 else 0
        records += stretch("de" if number % 2 else "en", begin, end, T0)
        for record in records[-2:]:
            record["time"] = time_of(T0 + end - back)
    found = summary(tally([write(tmp_path / "e", records)]))
    assert found["end"] == time_of(T0 + 36_000 - 300)
    assert found["heard_s"] == 36_000.0


def test_files_and_names_that_do_not_do(events: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "loop.html").symlink_to("loop.html")
    write(tmp_path / "no-spans", [start()])
    (tmp_path / "bytes").write_bytes(bytes(range(256)) * 300)
    output = tmp_path / "report.html"
    for files, wanted, words in (
        ([tmp_path / "none"], output, "cannot be read (No such file"),
        ([tmp_path], output, "is a folder: give a file."),
        ([tmp_path / "pipe"], output, "is no regular file: give a file."),
        ([Path("/dev/zero")], output, "'/dev/zero' is no regular file: give a file."),
        ([tmp_path / "loop"], output, "cannot be read (Too many levels of symbolic links)"),
        ([events], tmp_path / "loop.html", "cannot write"),
        ([tmp_path / "empty"], output, "there are no events in it"),
        ([tmp_path / "no-spans"], output, "no segment is over in it"),
        ([tmp_path / "bytes"], output, "bytes:1: this is no event"),
        ([events], tmp_path / "report.pdf", "is .html or .png"),
        ([events], tmp_path / "no" / "report.html", "cannot write"),
    ):
        with pytest.raises(EdgelidError, match=re.escape(words)):
            report(files, wanted)
    same = events.rename(tmp_path / "events.html")
    with pytest.raises(EdgelidError, match="both read and written"):
        report([same], same)


def test_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths lead nowhere from there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(EdgelidError, match="cannot be read"):
        report([Path("events")], Path("report.html"))


def test_a_clock_gone_wild_does_not_take_all_memory(tmp_path: Path) -> None:
    records = [
        record
        for number in range(4_000)
        for record in (start(T0 + number * DAY_S), *stretch("de", 0, 9, T0 + number * DAY_S))
    ]
    with pytest.raises(EdgelidError, match="on more than 3700 days"):
        tally([write(tmp_path / "e", records)])


class Page(HTMLParser):
    """Tags and text of a page, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone(events: Path, tmp_path: Path) -> None:
    hostile = stretch("<script>alert(1)</script>", 129_660, 130_000)
    hostile += stretch("\x1b[31mred\u202e", 130_000, 130_010)
    rest = [*hostile, gap(130_010, 130_100, "</table><img src=x>\x1b")]
    events.write_text(events.read_text() + "".join(json.dumps(r) + "\n" for r in rest))
    report([events], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    shown = Page(text)
    assert shown.loads == []
    assert not {"script", "img", "link", "iframe"} & set(shown.tags)
    assert "@import" not in text
    assert "url(" not in text
    assert not {"\x1b", "\u202e"} & set(text)
    for words in ("German", "28 h 00 min", "<script>alert(1)</script>", "</table><img", "UTC"):
        assert words in shown.text
    for drawing in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(drawing)


def test_the_largest_page_is_below_a_megabyte() -> None:
    """More days than are drawn, and in each cell another language than before."""
    found = Tally(DAY_S, DAY_S)
    cell_s = DAY_S // CELLS
    for number in range(80 * CELLS):
        begin = T0 + number * cell_s
        found.add(Span("segment", f"language-{number % 40}", begin, begin + cell_s, 0.5))
    text = page(found)
    assert "18 earlier rows are not drawn" in text
    assert len(text.encode()) < 1_000_000


def test_png(events: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    report([events], tmp_path / "report.png")
    data = (tmp_path / "report.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 20_000


def test_png_where_nothing_can_be_kept_at_home(
    events: Path, tmp_path: Path, environment: dict[str, str], edgelid: Edgelid
) -> None:
    """As in a service: matplotlib's advice to set a variable is nothing that needs doing."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    home = {"MPLCONFIGDIR": str(events / "folder")}  # below a file, where there is no folder
    done = edgelid("report", events, "-o", tmp_path / "r.png", env={**environment, **home})
    assert (done.returncode, done.stderr) == (0, "")


def test_png_without_matplotlib(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EdgelidError, match=r'pip install "edgelid\[plot\]"'):
        report([events], tmp_path / "report.png")
    report([events], tmp_path / "report.html")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_events(tmp_path: Path, environment: dict[str, str]) -> None:
    script = """
import resource, sys
from pathlib import Path
from edge.outputs.report.write import report
report([Path(sys.argv[1])], Path(sys.argv[1] + ".html"))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak_kb(count: int) -> int:
        path = tmp_path / f"{count}"
        with path.open("w") as file:
            for number in range(count // 2):
                for record in stretch("de" if number % 2 else "en", number * 5, number * 5 + 5):
                    file.write(json.dumps(record) + "\n")
        command = [sys.executable, "-c", script, str(path)]
        done = subprocess.run(command, check=True, env=environment, capture_output=True)
        return int(done.stdout)

    assert peak_kb(400_000) - peak_kb(20_000) < 10_000


# --- the command -----------------------------------------------------------------------------


def test_the_command_of_a_stream_that_was_saved(
    edgelid: Edgelid, sample: Path, tmp_path: Path
) -> None:
    """Heard much faster than it plays, and shown at the pace of its audio."""
    stream = tmp_path / "events.ndjson"
    stream.write_text(edgelid("listen", "--json", "--input", sample).stdout)
    done = edgelid("report", stream, "-o", tmp_path / "report.html", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["heard_s"] == pytest.approx(71.59, abs=0.1)
    assert seconds_of(told["end"]) - seconds_of(told["start"]) == pytest.approx(71.59, abs=0.1)
    assert set(told["languages"]) >= {"en", "es", "fr", "zh", "it", "pt"}
    people = edgelid("report", stream, "-o", tmp_path / "report.html").stdout
    assert "6 languages, 7 changes of language" in people


def test_the_command_of_something_else(edgelid: Edgelid, sample: Path, tmp_path: Path) -> None:
    done = edgelid("report", sample, "-o", tmp_path / "report.html")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"edgelid: {sample}:1: this is no event of edgelid: check the file, or leave such lines "
        "out with --skip-bad.\n"
    )
