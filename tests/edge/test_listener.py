"""Listening to a whole stream: the events tile it, however the audio arrives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.audio.level import Level
from edge.audio.sources import Gap, Sound
from edge.decoder import Change, Segment
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.languages import UNKNOWN
from edge.listener import BRIDGED_S, Heard, Listener, Lost
from edge.model.interpreter import Graphs
from edge.model.modelfile import NONSPEECH, DecoderDefaults, ModelFile
from tests.sample import passages

# Answers at a hint, so that there is something to see whatever the model.
HASTY = DecoderDefaults(window_s=1.0, stay_s=1.0, confidence=0.2)


def hear(
    model: ModelFile,
    graphs: Graphs,
    blocks: Iterable[Sound],
    decoder: DecoderDefaults = HASTY,
    more_windows_s: Sequence[float] = (),
) -> list[Heard]:
    graphs.reset()
    return list(Listener(model, graphs, decoder, None, more_windows_s).hear(blocks))


def segments(heard: list[Heard]) -> list[Segment]:
    return [segment for each in heard for segment in each.finished]


@pytest.mark.parametrize(
    "languages",
    [
        None,
        ["de", "en", "fr"],
        ["en", "fr"],
        ["es", "fr"],
        ["en"],
        ["fr"],
        ["zh", "pt"],
        ["ru", "es", "pt"],
        ["en", "fr", "zh"],
    ],
    ids=lambda languages: ",".join(languages or ["all"]),
)
def test_borders_are_true_whatever_is_expected(
    model: ModelFile, graphs: Graphs, speech: Float32Array, sample: Path, languages: list[str]
) -> None:
    wanted: list[tuple[str, float, float]] = []
    for span in json.loads(sample.with_suffix(".json").read_text()):
        answer, start_s = span["language"], span["start_s"]
        if answer == NONSPEECH:
            continue
        if languages and answer not in languages:
            answer = "other"
        if wanted and wanted[-1][0] == answer:
            start_s = wanted.pop()[1]
        wanted.append((answer, start_s, span["end_s"]))
    graphs.reset()
    listener = Listener(model, graphs, model.description.decoder, languages)
    told: list[Segment] = []
    for segment in passages(segments(list(listener.hear([speech])))):
        if segment.language == NONSPEECH:
            continue
        if told and told[-1].language == segment.language:
            segment = replace(segment, start_s=told.pop().start_s)
        told.append(segment)
    if told[0].language == UNKNOWN and told[0].end_s < 2:  # a second of silence
        del told[0]
    assert [segment.language for segment in told] == [answer for answer, _, _ in wanted]
    followed_s = [*(start_s for _, start_s, _ in wanted[1:]), wanted[-1][2]]
    for segment, (_, start_s, end_s), next_s in zip(told, wanted, followed_s, strict=True):
        assert segment.start_s == pytest.approx(start_s, abs=0.7)
        # A short pause may be taken for the end of what was spoken before it.
        assert end_s - 0.7 <= segment.end_s <= next_s + 0.7


def events(heard: list[Heard]) -> list[tuple[Change | None, tuple[Segment, ...], Segment]]:
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
    # Pauses between languages, and where doubt began, are only known in hindsight.
    told = [s for s in segments(heard)[1:] if s.language not in (UNKNOWN, NONSPEECH)]
    assert len(told) > 5
    assert {(s.language, s.start_s) for s in told} <= begun
    for each in heard:
        if each.change is not None:
            assert each.current.language == each.change.language
            assert each.current.start_s == each.change.start_s


@pytest.mark.parametrize(("start_s", "seconds"), [(0, 2.5), (3, 1.5), (18, 2.5)])
def test_nothing_is_decided_after_the_end(
    model: ModelFile, graphs: Graphs, speech: Float32Array, start_s: int, seconds: float
) -> None:
    part = speech[start_s * SECOND :][: round(seconds * SECOND)]
    for blocks in ([part], [part, Gap(9 * SECOND, "device lost")]):
        heard = hear(model, graphs, blocks)
        decided_s = [each.change.decided_s for each in heard if each.change]
        assert decided_s
        assert max(decided_s) <= seconds


def test_segments_of_the_sample_are_where_its_languages_are(
    model: ModelFile, graphs: Graphs, speech: Float32Array, sample: Path
) -> None:
    truth = json.loads(sample.with_suffix(".json").read_text(encoding="utf-8"))
    spoken = [part for part in truth if part["language"] != NONSPEECH]
    heard = hear(model, graphs, [speech], model.description.decoder)
    told = [s for s in passages(segments(heard)) if s.language not in (NONSPEECH, UNKNOWN)]
    assert [s.language for s in told] == [part["language"] for part in spoken]
    followed_s = [*(part["start_s"] for part in spoken[1:]), spoken[-1]["end_s"]]
    for segment, part, next_s in zip(told, spoken, followed_s, strict=True):
        assert segment.start_s == pytest.approx(part["start_s"], abs=1.0)
        # A short pause may be taken for the end of what was spoken before it.
        assert part["end_s"] - 1.0 <= segment.end_s <= next_s + 1.0
    # The answer may be open before the first language, and never again.
    assert {s.start_s for s in segments(heard) if s.language == UNKNOWN} <= {0.0}


def test_every_hop_is_heard_once(model: ModelFile, graphs: Graphs, speech: Float32Array) -> None:
    heard = hear(model, graphs, [speech[: 4 * SAMPLE_RATE_HZ]])
    ends_s = [each.windows[0].end_s for each in heard if each.windows]
    assert ends_s == sorted(set(ends_s))
    assert heard[-1].windows == []
    assert heard[-1].finished[-1].end_s == heard[-1].current.end_s == 4.0
    assert heard[-1].current.language == heard[-2].current.language


def test_windows_come_with_the_decoders_first(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    heard = hear(model, graphs, [speech[:SAMPLE_RATE_HZ]], more_windows_s=(3.0, 1.0, 0.5))
    for each in heard[:-1]:
        assert [window.length_s for window in each.windows] == [1.0, 3.0, 0.5]


@settings(max_examples=10)
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


# --- gaps --------------------------------------------------------------------------------------

SECOND = SAMPLE_RATE_HZ
BRIDGED = round(BRIDGED_S * SAMPLE_RATE_HZ)


def lost(heard: list[Heard]) -> list[Lost]:
    return [each.lost for each in heard if each.lost is not None]


def shifted(heard: list[Heard], by_s: float) -> list[tuple[str, float, float, list[float]]]:
    """Language, times and probabilities of every hop, later."""
    return [
        (
            each.current.language,
            round(each.current.start_s + by_s, 6),
            round(each.windows[0].end_s + by_s, 6),
            each.windows[0].probabilities.tolist(),
        )
        for each in heard
        if each.windows
    ]


def test_a_short_gap_is_bridged_by_silence(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    before, after = speech[: 4 * SECOND], speech[4 * SECOND : 9 * SECOND]
    heard = hear(model, graphs, [before, Gap(BRIDGED, "overrun"), after])
    assert lost(heard) == [Lost(4.0, 4.5, "overrun", bridged=True)]
    silence = np.zeros(BRIDGED, np.float32)
    whole = hear(model, graphs, [np.concatenate([before, silence, after])])
    assert segments(heard) == segments(whole)
    assert shifted(heard, 0) == shifted(whole, 0)


@pytest.mark.parametrize("parts", [[BRIDGED + 1], [BRIDGED, 1], [1] * (BRIDGED + 1), [10**9, 5]])
def test_a_longer_gap_is_a_new_beginning(
    model: ModelFile, graphs: Graphs, speech: Float32Array, parts: list[int]
) -> None:
    before, after = speech[: 6 * SECOND], speech[20 * SECOND : 28 * SECOND]
    gaps = [Gap(samples, "device lost") for samples in parts]
    heard = hear(model, graphs, [before, *gaps, after])
    end_s = 6.0 + sum(parts) / SAMPLE_RATE_HZ
    assert lost(heard) == [Lost(6.0, end_s, "device lost", bridged=False)]
    # What comes behind it is what a new listener says, and before it what an old one says. (To
    # know what was spoken before the gap makes no difference to what is as clear as this.)
    behind = next(i for i, each in enumerate(heard) if each.lost is not None)
    assert shifted(heard[behind:], 0) == shifted(hear(model, graphs, [after]), end_s)
    assert segments(heard[:behind]) == segments(hear(model, graphs, [before]))
    for each in heard[behind:]:
        for time_s in [each.change.start_s, each.change.decided_s] if each.change else []:
            assert end_s <= time_s <= end_s + 8


def test_what_was_spoken_before_a_gap_is_known_behind_it(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    listener = Listener(model, graphs, HASTY)
    graphs.reset()
    even = listener._decoder._usage.weights
    heard = [*listener.hear([speech[: 10 * SECOND], Gap(SECOND, "device lost")])]
    (spoken,) = {s.language for s in segments(heard)}.intersection(model.languages)
    assert listener._decoder._usage.weights[model.labels.index(spoken)] > even[0]


def test_the_segment_before_a_gap_is_told_while_it_lasts(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    listener = Listener(model, graphs, HASTY)
    graphs.reset()
    told: list[Heard] = []

    def stream() -> Iterator[Sound]:
        yield speech[: 6 * SECOND]
        yield Gap(SECOND, "device lost")
        yield Gap(SECOND, "device lost")
        assert segments(told)[-1].end_s == 6.0
        assert lost(told) == []
        yield speech[: 6 * SECOND]

    for each in listener.hear(stream()):
        told.append(each)
    assert len(lost(told)) == 1


@settings(max_examples=15)
@given(
    parts=st.lists(st.tuples(st.booleans(), st.integers(1, 3 * SECOND)), min_size=1, max_size=12)
)
def test_segments_and_gaps_tile_the_stream(
    model: ModelFile, graphs: Graphs, speech: Float32Array, parts: list[tuple[bool, int]]
) -> None:
    stream: list[Sound] = [
        Gap(samples, "overrun") if is_gap else speech[:samples] for is_gap, samples in parts
    ]
    heard = hear(model, graphs, stream)
    tiles = [part for each in heard for part in (*each.finished, each.lost) if part is not None]
    tiles = [part for part in tiles if isinstance(part, Segment) or not part.bridged]
    assert tiles[0].start_s == 0.0
    assert tiles[-1].end_s == sum(samples for _, samples in parts) / SAMPLE_RATE_HZ
    for before, after in pairwise(tiles):
        assert before.end_s == pytest.approx(after.start_s, abs=1e-9)
    assert all(tile.start_s < tile.end_s for tile in tiles)


def test_levels_are_handed_on(model: ModelFile, graphs: Graphs, speech: Float32Array) -> None:
    level = Level("low", -70.0, -80.0, 0.0)
    heard = hear(model, graphs, [speech[:SECOND], level, speech[SECOND : 2 * SECOND]])
    assert [each.level for each in heard if each.level is not None] == [level]
    assert segments(heard) == segments(hear(model, graphs, [speech[: 2 * SECOND]]))


# --- too quiet ---------------------------------------------------------------------------------


def at_peak(samples: Float32Array, peak_db: float) -> Float32Array:
    """Of 16 bits, with that peak."""
    scaled = samples * (10 ** (peak_db / 20) / np.abs(samples).max())
    return (np.rint(scaled * 32_768) / 32_768).astype(np.float32)


def spoken(model: ModelFile, graphs: Graphs, samples: Float32Array) -> list[Segment]:
    heard = hear(model, graphs, [samples], model.description.decoder)
    told = passages(segments(heard))
    return [each for each in told if each.language not in (UNKNOWN, NONSPEECH)]


def test_quiet_spanish_is_heard_as_the_loud_one_is(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    loud = spoken(model, graphs, at_peak(speech, -20.0))
    quiet = spoken(model, graphs, at_peak(speech, -50.0))
    assert [each.language for each in quiet] == [each.language for each in loud]
    assert [each.language for each in quiet[:3]] == ["en", "es", "fr"]
    for one, other in zip(quiet, loud, strict=True):
        # A mean from the hop on at which it was announced, which rounding can move.
        assert one.confidence == pytest.approx(other.confidence, abs=0.1)
        assert one.start_s == pytest.approx(other.start_s, abs=0.5)
        # A pause of a second is told in one of them and belongs to the speech before in the other.
        assert one.end_s == pytest.approx(other.end_s, abs=1.1)


def test_quiet_speech_is_what_a_louder_microphone_hears(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    """To the last bit, however it is cut, from where the level is known."""
    quiet = at_peak(speech[: 12 * SAMPLE_RATE_HZ], -50.0)
    whole = hear(model, graphs, [quiet])
    for size in (160, 1_601):
        cut = [quiet[start : start + size] for start in range(0, len(quiet), size)]
        assert answers(hear(model, graphs, cut)) == answers(whole)
    graphs.reset()
    fixed = Listener(model, graphs, HASTY, automatic_gain=False)
    louder = [*fixed.hear([quiet * np.float32(8)])]
    amplified = [index for index, each in enumerate(whole) if each.gain == 8.0]
    late_hops = model.description.stream.delay_frames // model.description.stream.hop_frames
    first = 7 - late_hops  # of the answers: those that would be about the time before do not come
    assert amplified == [*range(first, len(whole) - 1)]  # and the end, which has no windows
    assert answers(whole)[first:] == answers(louder)[first:]


def test_what_is_loud_enough_is_heard_without_a_gain(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    loud = at_peak(speech[: 20 * SAMPLE_RATE_HZ], -38.0)
    heard = hear(model, graphs, [loud])
    graphs.reset()
    fixed = Listener(model, graphs, HASTY, automatic_gain=False)
    assert answers(heard) == answers([*fixed.hear([loud])])
    assert {each.gain for each in heard} == {1.0}


def answers(heard: Sequence[Heard]) -> list[list[list[float]]]:
    return [[window.probabilities.tolist() for window in each.windows] for each in heard]
