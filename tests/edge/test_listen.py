"""Listening to a whole stream: the events tile it, however the audio arrives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.decoder import Change, Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.interpreter import Graphs
from edge.listen import Heard, Listener
from edge.modelfile import DecoderDefaults, ModelFile

# Answers at a hint, so that there is something to see whatever the model.
HASTY = DecoderDefaults(window_s=1.0, stay_s=1.0, confidence=0.2)


def hear(
    model: ModelFile,
    graphs: Graphs,
    blocks: Iterable[Float32Array],
    decoder: DecoderDefaults = HASTY,
    more_windows_s: Sequence[float] = (),
) -> list[Heard]:
    graphs.reset()
    return list(Listener(model, graphs, decoder, None, more_windows_s).hear(blocks))


def segments(heard: list[Heard]) -> list[Segment]:
    return [each.finished for each in heard if each.finished is not None]


def events(heard: list[Heard]) -> list[tuple[Change | None, Segment | None, Segment]]:
    return [(each.change, each.finished, each.current) for each in heard]


def test_segments_tile_the_recording(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    heard = hear(model, graphs, [speech])
    found = segments(heard)
    assert len(found) > 1
    assert found[0].start_s == 0.0
    assert found[-1].end_s == len(speech) / SAMPLE_RATE_HZ
    for before, after in pairwise(found):
        assert before.end_s == after.start_s
    assert all(segment.start_s < segment.end_s for segment in found)


def test_changes_announce_what_segments_tell(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    heard = hear(model, graphs, [speech])
    begun = {(each.change.language, each.change.start_s) for each in heard if each.change}
    assert {(s.language, s.start_s) for s in segments(heard)[1:]} <= begun
    for each in heard:
        if each.change is not None:
            assert each.current.language == each.change.language
            assert each.current.start_s == each.change.start_s


def test_every_hop_is_heard_once(model: ModelFile, graphs: Graphs, speech: Float32Array) -> None:
    heard = hear(model, graphs, [speech[: 4 * SAMPLE_RATE_HZ]])
    ends_s = [each.windows[0].end_s for each in heard if each.windows]
    assert ends_s == sorted(set(ends_s))
    assert heard[-1].windows == []
    assert heard[-1].finished == heard[-1].current


def test_windows_come_with_the_decoders_first(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    heard = hear(model, graphs, [speech[:SAMPLE_RATE_HZ]], more_windows_s=(3.0, 1.0, 0.5))
    for each in heard[:-1]:
        assert [window.length_s for window in each.windows] == [1.0, 3.0, 0.5]


@settings(deadline=None, derandomize=True, max_examples=10)
@given(cuts=st.lists(st.integers(0, 5 * SAMPLE_RATE_HZ), max_size=30))
def test_chunks_change_no_event(
    model: ModelFile, graphs: Graphs, speech: Float32Array, cuts: list[int]
) -> None:
    audio = speech[: 5 * SAMPLE_RATE_HZ]
    whole = hear(model, graphs, [audio])
    in_chunks = hear(model, graphs, np.split(audio, sorted(cuts)))
    assert events(in_chunks) == events(whole)


@pytest.mark.parametrize("samples", [1, 160, 879, 5_000])
def test_the_shortest_audio_is_one_segment(
    model: ModelFile, graphs: Graphs, speech: Float32Array, samples: int
) -> None:
    (segment,) = segments(hear(model, graphs, [speech[:samples]], model.description.decoder))
    assert (segment.start_s, segment.end_s) == (0.0, samples / SAMPLE_RATE_HZ)


def test_no_audio_is_no_segment(model: ModelFile, graphs: Graphs) -> None:
    assert hear(model, graphs, []) == []


@pytest.mark.parametrize("samples", [0, 100, 2 * SAMPLE_RATE_HZ])
def test_what_was_heard_before_an_error_comes_out(
    model: ModelFile, graphs: Graphs, speech: Float32Array, samples: int
) -> None:
    def breaks() -> Iterator[Float32Array]:
        if samples:
            yield speech[:samples]
        raise EdgelidError("the disk is gone")

    heard = []
    graphs.reset()
    with pytest.raises(EdgelidError, match="the disk is gone"):
        for each in Listener(model, graphs, HASTY).hear(breaks()):
            heard.append(each)
    assert events(heard) == events(hear(model, graphs, [speech[:samples]]))
