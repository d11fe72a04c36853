"""The HTML page of a report, which needs nothing else: no script, no network, no matplotlib."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

import numpy as np

from edge import __version__
from edge.outputs.colours import colour_of
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
from edge.outputs.stdout import printable

ROW, BAND = 20, 15  # height of a row of the timeline, and of what is coloured of it, in pixels
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
  --gap: {gap}; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e9ee; --grey: #9aa7b3; --line: #36424d; --paper: #161c22; --bar: #8a97a4;
    --gap: #6d3f3b; }}
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
td:first-child {{ min-width: 4.8rem; overflow-wrap: anywhere; }}
.n {{ text-align: right; white-space: nowrap; }}
.b {{ width: 38%; }}
.b i {{ display: block; height: .9rem; min-width: 2px; border-radius: 2px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; list-style: none; padding: 0;
  margin: .2rem 0 .6rem; font-size: .88rem; }}
.legend li {{ min-width: 0; max-width: 100%; overflow-wrap: anywhere; }}
.legend i {{ display: inline-block; width: .8rem; height: .8rem; border-radius: 2px;
  margin-right: .4rem; vertical-align: -1px; }}
.plot {{ position: relative; margin: 0 1.2rem 0 5.4rem; padding-bottom: 1.4rem; color: var(--grey);
  font-size: 11px; line-height: 1; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.plot span {{ position: absolute; }}
.plot .y {{ right: 100%; margin-right: .5rem; transform: translateY(-50%); }}
.plot .x {{ bottom: .2rem; transform: translateX(-50%); }}
.plot .s {{ transform: none; }}
svg {{ display: block; width: 100%; overflow: visible; }}
svg path {{ vector-effect: non-scaling-stroke; }}
svg .g {{ stroke: var(--line); stroke-width: 1; fill: none; }}
svg .c {{ fill: var(--bar); }}
@media (max-width: 40rem) {{
  body {{ padding: 1rem .7rem; }}
  dl {{ gap: .6rem 1.4rem; }}
  dd {{ font-size: 1.2rem; }}
  table {{ font-size: .8rem; }}
  th {{ font-size: .7rem; }}
  th, td {{ padding-right: .25rem; }}
  .n {{ white-space: normal; padding-left: .25rem; }}
  .b, .plot .o {{ display: none; }}
  .plot {{ margin-left: 4.4rem; }}
}}
</style>
{body}
</html>
"""


def page(tally: Tally) -> str:
    """What is added up, as HTML."""
    return _PAGE.format(
        title=TITLE,
        body="\n".join(_body(tally)),
        gap=GAP_COLOUR,
    )


def _look(tally: Tally) -> dict[str, str]:
    # What was not heard has its colour by a rule of the style, as it changes with the paper.
    return {name: "var(--gap)" if name == GAP else colour_of(name) for name in tally.names()}


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
    yield '<div class="plot">'
    yield _svg(CELLS, height, f"Timeline, {ROW_NAMES[tally.row_s]}")
    ticks = tally.ticks()
    grid = "".join(f"M{place * CELLS:g} 0V{height}" for place, _ in ticks)
    yield f'<path class="g" d="{grid}"/>'
    # Runs of cells are filled, one path a colour: short, and drawn at once.
    for number, name in enumerate(names):
        runs = []
        for index, strip in enumerate(strips):
            edges = np.flatnonzero(np.diff(strip == number, prepend=False, append=False)).tolist()
            y = index * ROW + (ROW - BAND) / 2
            runs += [
                f"M{a} {y:g}h{b - a}v{BAND}H{a}z"
                for a, b in zip(edges[::2], edges[1::2], strict=True)
            ]
        yield f'<path style="fill:{look[name]}" d="{"".join(runs)}"/>'
    yield "</svg>"
    for index, row in enumerate(rows):
        middle = index * ROW + ROW / 2
        yield f'<span class="y" style="top:{middle:g}px">{tally.row_label(row)}</span>'
    yield from _along(ticks, "x", every=2)
    yield f"</div>\n<p>{escape(timeline_note(tally))}</p>"


def _changes(tally: Tally) -> Iterator[str]:
    bars = tally.bars()
    most = max(1, *(count for _, count in bars))
    yield '<div class="plot">'
    yield _svg(len(bars), BARS + 10, changes_title(tally))
    levels = {count: 10 + BARS * (1 - count / most) for count in sorted({0, most // 2, most})}
    for y in levels.values():
        yield f'<path class="g" d="M0 {y:.1f}h{len(bars)}"/>'
    boxes = [
        f"M{index} {10 + BARS}v-{BARS * count / most:.1f}h.85V{10 + BARS}z"
        for index, (_, count) in enumerate(bars)
        if count
    ]
    yield f'<path class="c" d="{"".join(boxes)}"/></svg>'
    for count, y in levels.items():
        yield f'<span class="y" style="top:{y:.1f}px">{count}</span>'
    step = -(-len(bars) // 8)
    yield from _along(
        ((index / len(bars), text) for index, (text, _) in enumerate(bars) if index % step == 0),
        "x s",
        every=3,
    )
    yield "</div>"


def _along(marks: Iterable[tuple[float, str]], kind: str, every: int) -> Iterator[str]:
    """What stands below a drawing; on a phone, one of so many."""
    for number, (place, text) in enumerate(marks):
        classes = f"{kind} o" if number % every else kind
        yield f'<span class="{classes}" style="left:{100 * place:.2f}%">{escape(text)}</span>'


def _gaps(tally: Tally) -> Iterator[str]:
    yield f'<table><tr><th>{GAP}, as<th class="n">times<th class="n">in all</tr>'
    for reason, times in tally.gaps.most_common():
        yield (
            f'<tr><td>{escape(printable(reason))}<td class="n">{times}'
            f'<td class="n">{duration(tally.lost_s[reason])}</tr>'
        )
    yield "</table>"


def _svg(width: float, height: float, label: str) -> str:
    """A drawing that is as wide as there is room, and as high as it says in pixels."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" height="{height:g}" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(label)}">'
    )
