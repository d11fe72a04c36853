"""The HTML page of a report, which needs nothing else: no script, no network, no matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np

from edge import __version__
from edge.outputs.report.colours import OTHERS, colours
from edge.outputs.report.tally import CELLS, GAP, NO_LANGUAGE, Tally
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

WIDTH, MARGIN, RIGHT = 960, 84, 24  # of drawings, in their own units; the margin is for labels
PLOT = WIDTH - MARGIN - RIGHT
ROW, BAND = 20, 15  # height of a row of the timeline, and of what is coloured of it
BARS = 130  # height of the bars of changes

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --ink: #22303c; --grey: #66727f; --line: #d9dee3; --paper: #ffffff; --bar: #7b8794;
  --nonspeech: {nonspeech}; --unknown: {unknown}; --gap: {gap}; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e9ee; --grey: #9aa7b3; --line: #36424d; --paper: #161c22; --bar: #8a97a4;
    --nonspeech: #333d47; --unknown: #5d6975; --gap: #6d3f3b; }}
}}
@media print {{
  :root {{ --ink: #000; --grey: #555; --line: #ccc; --paper: #fff; --bar: #777; }}
  section {{ break-inside: avoid; }}
}}
* {{ box-sizing: border-box; print-color-adjust: exact; -webkit-print-color-adjust: exact; }}
body {{ margin: 0 auto; max-width: 62rem; padding: 2rem 1rem; background: var(--paper);
  color: var(--ink); font: 15px/1.45 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }}
h1 {{ font-size: 1.6rem; margin: 0; }}
h2 {{ font-size: 1.1rem; margin: 2.2rem 0 .6rem; }}
p, footer {{ color: var(--grey); margin: .3rem 0; }}
footer {{ margin-top: 2.5rem; font-size: .85rem; }}
dl {{ display: flex; flex-wrap: wrap; gap: .8rem 2.4rem; margin: 1.4rem 0 0; }}
dl div {{ display: flex; flex-direction: column-reverse; }}
dd {{ margin: 0; font-size: 1.45rem; font-weight: 600; font-variant-numeric: tabular-nums; }}
dt {{ color: var(--grey); }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }}
th {{ text-align: left; font-weight: 500; color: var(--grey); font-size: .85rem; }}
th, td {{ padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }}
.n {{ text-align: right; white-space: nowrap; }}
.b {{ width: 38%; }}
.b i {{ display: block; height: .9rem; min-width: 2px; border-radius: 2px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0;
  margin: .2rem 0 .6rem; font-size: .88rem; }}
.legend i {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
  margin-right: .4rem; vertical-align: -1px; }}
.wide {{ overflow-x: auto; }}
svg {{ display: block; width: 100%; min-width: 36rem; height: auto; }}
svg text {{ fill: var(--grey); font-size: 11px; font-variant-numeric: tabular-nums; }}
svg .g {{ stroke: var(--line); stroke-width: 1; fill: none; }}
svg .c {{ fill: var(--bar); }}
</style>
{body}
</html>
"""


def page(tally: Tally) -> str:
    """What is added up, as HTML."""
    return _PAGE.format(
        title=TITLE,
        body="\n".join(_body(tally)),
        nonspeech=OTHERS["nonspeech"],
        unknown=OTHERS["unknown"],
        gap=OTHERS[GAP],
    )


# By a rule of the style, as they change with the paper.
_SHADES = {"nonspeech": "var(--nonspeech)", "unknown": "var(--unknown)", GAP: "var(--gap)"}


def _look(tally: Tally) -> dict[str, str]:
    return {**colours(tally.names()), **_SHADES}


def _body(tally: Tally) -> Iterator[str]:
    yield f"<h1>{TITLE}</h1>\n<p>{escape(span(tally))}</p>"
    yield "<dl>"
    for figure, what in facts(tally):
        yield f"<div><dt>{escape(what)}</dt><dd>{escape(figure)}</dd></div>"
    yield "</dl>"
    yield "<section><h2>By language</h2>"
    yield from _languages(tally)
    yield f"</section>\n<section><h2>Timeline, {ROW_NAMES[tally.row_s]}</h2>"
    yield from _timeline(tally)
    yield f"</section>\n<section><h2>{escape(changes_title(tally))}</h2>"
    yield from _changes(tally)
    yield "</section>"
    if tally.gaps:
        yield "<section><h2>Not heard</h2>"
        yield from _gaps(tally)
        yield "</section>"
    yield (
        "<footer>A change of language is counted where another one is spoken than before, with "
        "silence and what was not recognised in between left out. Confidence is the mean over "
        f"time. Made by edgelid {__version__}.</footer>"
    )


def _languages(tally: Tally) -> Iterator[str]:
    look = _look(tally)
    names = [name for name in tally.names() if name in tally.totals]
    most_s = max((tally.totals[name].seconds for name in tally.languages()), default=0.0)
    yield (
        '<table><tr><th>language<th class="b"><th class="n">time<th class="n">share'
        '<th class="n">stretches<th class="n">confidence</tr>'
    )
    for name in names:
        total = tally.totals[name]
        width = 100 * total.seconds / max(most_s, 1e-9)
        bar = f'<i style="width:{width:.1f}%;background:{look[name]}"></i>'
        yield (
            f"<tr><td>{escape(name_of(name))}"
            f'<td class="b">{"" if name in NO_LANGUAGE else bar}'
            f'<td class="n">{duration(total.seconds)}'
            f'<td class="n">{total.seconds / max(tally.heard_s, 1e-9):.1%}'
            f'<td class="n">{total.segments}<td class="n">{total.confidence:.0%}</tr>'
        )
    yield "</table>"


def _timeline(tally: Tally) -> Iterator[str]:
    names, rows, strips = tally.names(), tally.rows(), tally.strips()
    look = _look(tally)
    yield '<ul class="legend">'
    for name in names:
        yield f'<li><i style="background:{look[name]}"></i>{escape(name_of(name))}</li>'
    yield "</ul>"
    height = ROW * len(rows)
    yield _svg(height + 20, f"Timeline, {ROW_NAMES[tally.row_s]}")
    grid, texts = [], []
    for place, text in tally.ticks():
        x = MARGIN + place * PLOT
        grid.append(f"M{x:.1f} 0V{height}")
        texts.append(_text(x, height + 15, text, "middle"))
    yield f'<path class="g" d="{"".join(grid)}"/>{"".join(texts)}'
    for index, row in enumerate(rows):
        yield _text(MARGIN - 8, index * ROW + ROW / 2 + 4, tally.row_label(row), "end")
    # Runs of cells are strokes, one path a colour: short, and drawn at once.
    yield f'<g transform="translate({MARGIN} 0) scale({PLOT / CELLS:.5f} 1)" stroke-width="{BAND}">'
    for number, name in enumerate(names):
        runs = []
        for index, strip in enumerate(strips):
            edges = np.flatnonzero(np.diff(strip == number, prepend=False, append=False)).tolist()
            y = index * ROW + ROW / 2
            runs += [f"M{a} {y:g}h{b - a}" for a, b in zip(edges[::2], edges[1::2], strict=True)]
        yield f'<path style="stroke:{look[name]}" d="{"".join(runs)}"/>'
    yield f"</g></svg></div>\n<p>{escape(timeline_note(tally))}</p>"


def _changes(tally: Tally) -> Iterator[str]:
    bars = tally.bars()
    most = max(1, *(count for _, count in bars))
    width = PLOT / len(bars)
    yield _svg(BARS + 30, changes_title(tally))
    for count in sorted({0, most // 2, most}):
        y = 10 + BARS * (1 - count / most)
        yield f'<path class="g" d="M{MARGIN} {y:.1f}h{PLOT}"/>'
        yield _text(MARGIN - 8, y + 4, str(count), "end")
    step = -(-len(bars) // 8)
    boxes = []
    for index, (text, count) in enumerate(bars):
        x = MARGIN + index * width
        if count:
            high = BARS * count / most
            boxes.append(f"M{x:.1f} {10 + BARS}v-{high:.1f}h{0.85 * width:.2f}v{high:.1f}z")
        if index % step == 0:
            yield _text(x, BARS + 26, text, "start")
    yield f'<path class="c" d="{"".join(boxes)}"/></svg></div>'


def _gaps(tally: Tally) -> Iterator[str]:
    yield f'<table><tr><th>{GAP}, as<th class="n">times<th class="n">in all</tr>'
    for reason, times in tally.gaps.most_common():
        yield (
            f'<tr><td>{escape(reason)}<td class="n">{times}'
            f'<td class="n">{duration(tally.lost_s[reason])}</tr>'
        )
    yield "</table>"


def _svg(height: float, label: str) -> str:
    return (
        f'<div class="wide"><svg viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-label="{escape(label)}">'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
