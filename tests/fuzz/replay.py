"""Execute again what fuzzing found: ``python -m tests.fuzz.replay`` prints one JSON object.

Its exit status is 1 if anything happens that must not.
"""

from __future__ import annotations

import collections
import json
import logging
import sys
import tempfile
from pathlib import Path

from tests.fuzz import audio, modeltarget
from tests.fuzz.corpus import inputs


def main() -> int:
    """Replay both corpora."""
    logging.disable()
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    findings = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "input.bin"
        for name in ("model", "audio"):
            for label, data in inputs(name):
                file.write_bytes(data)
                kind, reason = modeltarget.outcome(data) if name == "model" else audio.outcome(file)
                counts[name][kind] += 1
                if kind == modeltarget.FINDING:
                    findings.append(f"{label}: {reason}")
    print(json.dumps({"counts": counts, "findings": findings}))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
