"""The commands of edgelid, a module for each: parse, call one function, print.

Each command imports what it needs when it runs: the others start faster, and an interrupt while
numpy loads, which takes a second on the smallest devices, ends it like any other. May import from
all of `edge`; nothing of `edge` imports it.
"""

from edge.cli.command_line import main, parser

__all__ = ["main", "parser"]
