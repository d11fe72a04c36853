"""What the networks of tutorials became, as a table for docs/converting.md, of a run of the tests.

python -m pytest tests/convert/test_tutorials.py -m slow --junitxml=tutorials.xml
python -m tests.convert.tutorial_table tutorials.xml
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

HEAD = (
    "| network | becomes | accuracy before | after | mean difference | kB | stays float32 |",
    "|---|---|---:|---:|---:|---:|---|",
)
NAME = re.compile(r"test_converts\[(?P<network>.*)-(?P<kind>int8|float32)\]")
MOST_NAMES = 4  # of layers that stay float32


def table(results: str) -> Iterator[str]:
    """Lines of Markdown.

    Parameters
    ----------
    results : str
        JUnit XML of pytest. Tests that failed have left no proof, and are named.
    """
    yield from HEAD
    for case in ElementTree.fromstring(results).iter("testcase"):
        named = NAME.fullmatch(case.get("name", ""))
        if named is None:
            continue
        proofs = [each.get("value", "") for each in case.iter("property")]
        if not proofs or case.find("failure") is not None:
            yield f"| {named['network']} | FAILED | | | | | |"
            continue
        yield _row(named["network"], named["kind"], json.loads(proofs[0]))


def _row(network: str, kind: str, proof: dict[str, Any]) -> str:
    floats = proof["floats"]
    more = f" and {len(floats) - MOST_NAMES} more" if len(floats) > MOST_NAMES else ""
    fields = (
        network,
        kind,
        f"{proof['accuracy_trained']:.0%}",
        f"{proof['accuracy_converted']:.0%}",
        f"{proof['mean_difference']:.4f}",
        f"{proof['bytes'] / 1000:.0f}",
        ", ".join(floats[:MOST_NAMES]) + more,
    )
    return f"| {' | '.join(fields)} |"


def main(arguments: Sequence[str]) -> None:
    """Print the table of a file."""
    (file,) = arguments
    print("\n".join(table(Path(file).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main(sys.argv[1:])
