"""What stands around the stages sees all of their work, and changes nothing of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edge.interpreter import open_model
from edge.listen import Heard, Listener
from edge.modelfile import DEFAULT_MODEL, read_model
from edge.sources import FileSource
from edge.stages import Call, watch
from tests.benchmark_cost import SAMPLE


def hear(around: Any = None) -> list[Heard]:
    model = read_model(DEFAULT_MODEL)
    listener = Listener(model, open_model(model), model.description.decoder)
    if around is not None:
        watch(listener, around)
    with FileSource(SAMPLE) as source:
        return list(listener.hear(source.blocks()))


def test_a_watch_counts_every_call_and_changes_nothing() -> None:
    calls: Counter[str] = Counter()

    def around(name: str, call: Call) -> Call:
        def counted(*arguments: Any) -> Any:
            calls[name] += 1
            return call(*arguments)

        return counted

    watched = hear(around)
    hops = sum(bool(heard.windows) for heard in watched)
    assert hops > 400
    assert calls["step"] == calls["head"] == calls["decoder"] == hops
    assert calls["front_end"] > 0
    assert [h.finished for h in watched] == [h.finished for h in hear()]
