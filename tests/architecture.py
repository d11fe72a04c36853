"""The rooms of edge, train and convert, and who may import whom.

A room is a package or a module at the top of one of the three. Adding one is adding a word to
`ROOMS`, or a line. `python -m tests.architecture` draws docs/architecture.svg of them anew.
"""

from __future__ import annotations

import ast
import functools
import html
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
# From the lowest to the highest. A room may import those of lines above its own in this table,
# and itself; those of its own line know nothing of each other.
ROOMS = {
    "edge": """
        errors languages
        system frontend
        features config
        model audio
        lessons
        classifier
        borders usage
        belief
        decoder
        opinion
        listener offline teaching
        learning
        interface outputs
        service bench wyoming_server
        cli
    """,
    "train": """
        architecture command folder parallel
        config corpus
        features model
        fit
        waveforms
        synthesis evaluation own_estimate
        own
        cli
    """,
    "convert": """
        temporary
        flatbuffer rounding representative_audio output network_file own_network own_description
        streaming_graph held_out_audio inspection anchors own_recordings
        apart
        parity tensor_errors four_bit_graph narrow_encoder varied_audio
        weight_errors stream_vs_window whole_window
        proof
        settings
        from_checkpoint
        from_keras from_large from_whisper
        cli
    """,
}
# Likewise: edge knows nothing of train, and that nothing of convert.
PACKAGES = tuple(ROOMS)


def levels(package: str) -> list[list[str]]:
    """The rooms of a package, the lowest first."""
    return [line.split() for line in ROOMS[package].strip().splitlines()]


def room_of(module: str) -> str:
    """Of `edge.audio.ring`, `edge.audio`."""
    return ".".join(module.split(".")[:2])


@dataclass(frozen=True)
class Sources:
    """The modules in a folder, and what they import of each other, wherever in them."""

    root: Path = ROOT

    @cached_property
    def modules(self) -> dict[str, Path]:
        return {
            ".".join(path.relative_to(self.root).with_suffix("").parts).removesuffix(
                ".__init__"
            ): path
            for package in PACKAGES
            for path in sorted((self.root / package).rglob("*.py"))
        }

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules that a module imports."""
        return {name: set(self._imported(path)) - {name} for name, path in self.modules.items()}

    def _imported(self, path: Path) -> Iterator[str]:
        for module, name in _import_statements(path.read_text(encoding="utf-8")):
            inner = f"{module}.{name}"
            yield from [each for each in (inner, module) if each in self.modules][:1]

    @cached_property
    def between_rooms(self) -> dict[str, set[str]]:
        """The rooms of the same package that a room imports."""
        found: dict[str, set[str]] = {}
        for module, imported in self.imports.items():
            if module not in PACKAGES:
                others = {room_of(name) for name in imported if _is_neighbour(module, name)}
                found.setdefault(room_of(module), set()).update(others)
        return found

    def faults(self) -> Iterator[str]:
        """What is against the table, one sentence each."""
        places = {
            f"{package}.{room}": (PACKAGES.index(package), number)
            for package in PACKAGES
            for number, line in enumerate(levels(package))
            for room in line
        }
        for room in sorted({room_of(m) for m in self.modules if m not in PACKAGES} ^ {*places}):
            yield f"{room} stands either in the table of rooms or among the sources, not in both"
        for module, imported in self.imports.items():
            for other in sorted(imported):
                here, there = room_of(module), room_of(other)
                # Of a package itself all may know its version, and it offers what is in it.
                if here == there or {module, other} & {*PACKAGES}:
                    continue
                if here in places and there in places and places[there] >= places[here]:
                    yield f"{module} imports {other}, which is not below it"
        for circle in self.circles():
            yield f"{', '.join(circle)} import each other in a circle"

    def circles(self) -> list[list[str]]:
        """Modules that import each other, directly or through others."""
        reached = {module: self._reached(module) for module in self.modules}
        circles = {
            tuple(
                sorted({module, *(other for other in reached[module] if module in reached[other])})
            )
            for module in self.modules
            if module in reached[module]
        }
        return [list(circle) for circle in sorted(circles)]

    def _reached(self, module: str) -> set[str]:
        reached: set[str] = set()
        waiting = [module]
        while waiting:
            at = waiting.pop()
            # A package offers what is in it: no one is led on by importing it.
            following = set() if at in PACKAGES else self.imports[at] - reached
            reached |= following
            waiting += following
        return reached


@functools.cache
def _import_statements(source: str) -> list[tuple[str, str]]:
    """What is imported, with what of it; an empty name for all of it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
    return found


def _is_neighbour(module: str, other: str) -> bool:
    same = module.partition(".")[0] == other.partition(".")[0]
    return same and other not in PACKAGES and room_of(module) != room_of(other)


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the ways that others, one after another, make too."""

    def beyond(starts: Iterable[str]) -> set[str]:
        return set().union(*(edges.get(s, set()) | beyond(edges.get(s, set())) for s in starts))

    return {room: others - beyond(others) for room, others in edges.items()}


# --- the picture ------------------------------------------------------------------------------

PICTURE = ROOT / "docs/architecture.svg"
WIDTH, MARGIN, PANEL, GAP = 1200, 16, 576, 16
BOX_GAP, ROW_GAP, HEAD = 12, 30, 44
TITLES = {
    "edge": "edge: on the device. It imports nothing of the others.",
    "train": "train: on a server. It may import edge.",
    "convert": "convert: from train to edge. It may import both.",
}
COLOURS = {"edge": "#1f6f8b", "train": "#b5651d", "convert": "#8a4f7d"}
LEGEND = [
    "How to read it:",
    "An arrow leads from a room to one that it imports, always downwards.",
    "Left out are arrows that follow from others: who imports listener",
    "may import decoder, too.",
    "",
    "A second of audio walks up:",
    "audio → frontend → classifier (with model) → decoder →",
    "listener → outputs",
    "",
    "A clip in training walks up:",
    "corpus → features → fit (with model) → evaluation,",
    "and the checkpoint through convert into a model file for edge",
]
Point = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """Where a room is drawn."""

    x: float
    y: float
    width: float
    height: float
    lines: list[str]


def picture(sources: Sources) -> str:
    """The rooms of the three packages and the imports between them, as SVG."""
    right = MARGIN + PANEL + GAP + MARGIN
    edge, edge_end = _panel(sources, "edge", MARGIN, MARGIN)
    train, train_end = _panel(sources, "train", right - MARGIN, MARGIN)
    convert, end = _panel(sources, "convert", right - MARGIN, train_end + GAP)
    height = max(edge_end, end) + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" font-family="Helvetica, Arial, sans-serif">'
    )
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    legend = _legend(MARGIN, edge_end + GAP)
    return "\n".join([head, ground, *edge, *train, *convert, *legend, "</svg>", ""])


def _legend(left: float, top: float) -> Iterator[str]:
    for number, line in enumerate(LEGEND):
        weight = ' font-weight="bold"' if line.endswith(":") else ""
        yield (
            f'<text x="{left + 16}" y="{top + 24 + 21 * number:.0f}" font-size="14"{weight} '
            f'fill="#22303c">{html.escape(line)}</text>'
        )


def _panel(sources: Sources, package: str, left: float, top: float) -> tuple[list[str], float]:
    """One package with its highest rooms on top; returns its lower end, too."""
    rows = levels(package)[::-1]
    boxes: dict[str, Box] = {}
    tops: list[tuple[float, float, list[float]]] = []  # of each row: its ends, and what is free
    y = top + HEAD
    for row in rows:
        width = 178.0
        told = {room: _wrapped(sources, f"{package}.{room}") for room in row}
        height = 26.0 + 14 * max(len(lines) for lines in told.values())
        x = left + (PANEL - len(row) * width - (len(row) - 1) * BOX_GAP) / 2
        free = [x - BOX_GAP / 2 + i * (width + BOX_GAP) for i in range(len(row) + 1)]
        for room in row:
            boxes[f"{package}.{room}"] = Box(x, y, width, height, told[room])
            x += width + BOX_GAP
        tops.append((y, y + height, free))
        y += height + ROW_GAP
    end = y - ROW_GAP + MARGIN
    colour = COLOURS[package]
    drawn = [
        f'<rect x="{left}" y="{top:.0f}" width="{PANEL}" height="{end - top:.0f}" rx="10" '
        f'fill="{colour}" fill-opacity="0.07"/>',
        f'<text x="{left + 16}" y="{top + 28:.0f}" font-size="17" fill="{colour}" '
        f'font-weight="bold">{TITLES[package]}</text>',
    ]
    ways = reduced(sources.between_rooms)
    for room, box in boxes.items():
        below = sorted(ways.get(room, ()), key=lambda other: (boxes[other].x, other))
        for number, other in enumerate(below):
            above = sorted((r for r in boxes if other in ways.get(r, ())), key=lambda r: boxes[r].x)
            start = box.x + box.width * (number + 1) / (len(below) + 1), box.y + box.height
            to = boxes[other]
            stop = to.x + to.width * (above.index(room) + 1) / (len(above) + 1), to.y
            drawn.append(_arrow(start, stop, tops, colour))
    drawn += [part for room, box in boxes.items() for part in _box(room, box, colour)]
    return drawn, end


def _wrapped(sources: Sources, room: str) -> list[str]:
    """What its module says that it is, in short lines."""
    tree = ast.parse(sources.modules[room].read_text(encoding="utf-8"))
    told = (ast.get_docstring(tree) or "").splitlines()[0].replace("`", "")
    return textwrap.wrap(re.split(r"[:;,.] |[:;,.]$", told)[0], 24)


def _box(room: str, box: Box, colour: str) -> Iterator[str]:
    middle = box.x + box.width / 2
    yield (
        f'<rect x="{box.x:.1f}" y="{box.y:.0f}" width="{box.width:.0f}" '
        f'height="{box.height:.0f}" rx="6" fill="#ffffff" stroke="{colour}"/>'
    )
    name = room.partition(".")[2]
    yield (
        f'<text x="{middle:.1f}" y="{box.y + 18:.0f}" font-size="14" font-weight="bold" '
        f'text-anchor="middle" fill="#22303c">{name}</text>'
    )
    for number, line in enumerate(box.lines):
        yield (
            f'<text x="{middle:.1f}" y="{box.y + 34 + 14 * number:.0f}" font-size="12" '
            f'text-anchor="middle" fill="#4a5763">{html.escape(line)}</text>'
        )


def _arrow(
    start: Point, stop: Point, rows: list[tuple[float, float, list[float]]], colour: str
) -> str:
    """From a room down to one that it imports, between the rooms that are on the way."""
    at, path = start, f"M{start[0]:.1f} {start[1]:.1f}"
    for top, bottom, free in rows:
        if start[1] < top and bottom < stop[1]:
            straight = at[0] + (stop[0] - at[0]) * (top - at[1]) / (stop[1] - at[1])
            x = min(free, key=lambda x: abs(x - straight))
            path += _bend(at, (x, top)) + f" L{x:.1f} {bottom:.1f}"
            at = x, bottom
    path += _bend(at, (stop[0], stop[1] - 6))
    head = f"M{stop[0] - 4:.1f} {stop[1] - 7:.1f} l4 7 l4 -7 z"
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-opacity="0.75" '
        f'stroke-width="1.3"/><path d="{head}" fill="{colour}"/>'
    )


def _bend(start: Point, stop: Point) -> str:
    middle = (start[1] + stop[1]) / 2
    return f" C{start[0]:.1f} {middle:.1f} {stop[0]:.1f} {middle:.1f} {stop[0]:.1f} {stop[1]:.1f}"


if __name__ == "__main__":
    PICTURE.write_text(picture(Sources()), encoding="utf-8")
