"""What those who look on are told of the time before the start."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from edge.audio.sources import FileSource
from edge.outputs.registry import EARLIER_S, monitor_of
from edge.outputs.settings import Settings
from edge.outputs.timeline import time_of


def test_files_of_the_log_that_are_older_than_what_is_told_are_not_read(
    tmp_path: Path, sample: Path
) -> None:
    log, now = tmp_path / "events.jsonl", time.time()
    settings = Settings(web="0", log=str(log))
    for name, start_s in ((log.with_name("events.jsonl.1"), 100.0), (log, 200.0)):
        record = {
            "type": "segment",
            "language": "de",
            "confidence": 0.9,
            "start_s": start_s,
            "end_s": start_s + 50.0,
            "time": time_of(now - 1_000.0 + start_s + 50.0),
        }
        name.write_text(json.dumps(record) + "\n")

    def starts() -> list[int]:
        with contextlib.closing(FileSource(sample)) as source:
            monitor = monitor_of(settings, source, viewed=False)
        assert monitor is not None
        return [round(span.start - now + 1_000.0) for span in monitor.spans()]

    assert starts() == [100, 200]
    for age_s, found in ((EARLIER_S - 60.0, [100, 200]), (EARLIER_S + 1.0, [200])):
        os.utime(log.with_name("events.jsonl.1"), (now - age_s, now - age_s))
        assert starts() == found
