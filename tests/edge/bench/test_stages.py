"""What stands around the stages sees all of their work, and changes nothing of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from edge.audio.sources import FileSource
from edge.bench.measure import SAMPLE
from edge.bench.stages import Around, Call, unwatch, watch
from edge.listener import Heard, Listener
from edge.model.interpreter import open_model
from edge.model.modelfile import DEFAULT_MODEL, read_model


def listener_of_the_model() -> Listener:
    model = read_model(DEFAULT_MODEL)
    return Listener(model, open_model(model), model.description.decoder)


def hear(around: Any = None) -> list[Heard]:
    listener = listener_of_the_model()
    if around is not None:
        watch(listener, around)
    with FileSource(SAMPLE) as source:
        return list(listener.hear(source.blocks()))


def counter() -> tuple[Counter[str], Around]:
    """Counts calls by stage, and what has to stand around them for that."""
    calls: Counter[str] = Counter()

    def around(name: str, call: Call) -> Call:
        def counted(*arguments: Any) -> Any:
            calls[name] += 1
            return call(*arguments)

        return counted

    return calls, around


def test_a_watch_counts_every_call_and_changes_nothing() -> None:
    calls, around = counter()
    watched = hear(around)
    hops = sum(bool(heard.windows) for heard in watched)
    assert hops > 400
    stream = read_model(DEFAULT_MODEL).description.stream
    # The first answers wait for so many hops, and the last ones for silence behind the end.
    assert calls["step"] == hops + stream.delay_frames // stream.hop_frames
    assert calls["decoder"] == hops
    assert calls["head"] == 2 * hops  # the decoder's window, and a short one to find borders by
    assert calls["front_end"] > 0
    assert [h.finished for h in watched] == [h.finished for h in hear()]


def test_what_stood_around_goes_away() -> None:
    calls, around = counter()
    listener = listener_of_the_model()
    watch(listener, around)
    unwatch(listener)
    with FileSource(SAMPLE) as source:
        assert any(heard.windows for heard in listener.hear(source.blocks()))
    assert not calls
