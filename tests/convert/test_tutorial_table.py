"""The table of what networks of tutorials become."""

from __future__ import annotations

import json
from xml.sax.saxutils import quoteattr

from tests.convert.tutorial_table import HEAD, table

PROOF = json.dumps(
    {
        "accuracy_trained": 0.9583,
        "accuracy_converted": 0.9167,
        "mean_difference": 0.00412,
        "bytes": 45_678,
        "floats": ["pool", "a", "b", "c", "d"],
    }
)
RESULTS = f"""<testsuites><testsuite>
<testcase name="test_converts[2-D CNN, flattened-int8]"><properties>
<property name="proof" value={quoteattr(PROOF)}/></properties></testcase>
<testcase name="test_converts[GRU-float32]"><failure message="x"/></testcase>
<testcase name="test_something_else"/>
</testsuite></testsuites>"""


def test_rows() -> None:
    assert list(table(RESULTS)) == [
        *HEAD,
        "| 2-D CNN, flattened | int8 | 96% | 92% | 0.0041 | 46 | pool, a, b, c and 1 more |",
        "| GRU | FAILED | | | | | |",
    ]
