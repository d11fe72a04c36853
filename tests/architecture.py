"""The rooms of edge, train and convert, and who may import whom.

A room is a package or a module at the top of one of the three. Adding one is adding a word to
`ROOMS`, or a line.
"""

from __future__ import annotations

import ast
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
        system frontend config
        model audio
        classifier
        decoder
        listener offline
        outputs
        service bench wyoming_server
        cli
    """,
    "train": """
        architecture command parallel
        config corpus
        features model
        fit
        synthesis evaluation
        cli
    """,
    "convert": """
        flatbuffer representative_audio
        streaming_graph held_out_audio inspection
        parity tensor_errors
        weight_errors stream_vs_window whole_window
        proof
        settings
        from_checkpoint
        from_keras
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
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.modules)
            elif isinstance(node, ast.ImportFrom) and node.module in self.modules:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in self.modules else node.module

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


def _is_neighbour(module: str, other: str) -> bool:
    same = module.partition(".")[0] == other.partition(".")[0]
    return same and other not in PACKAGES and room_of(module) != room_of(other)


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the ways that others, one after another, make too."""

    def beyond(starts: Iterable[str]) -> set[str]:
        return set().union(*(edges.get(s, set()) | beyond(edges.get(s, set())) for s in starts))

    return {room: others - beyond(others) for room, others in edges.items()}
