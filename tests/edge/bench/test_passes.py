"""The passes hear what `listen` hears, and account for every hop of it."""

from __future__ import annotations

import numpy as np
import pytest

from edge.bench.passes import (
    Setup,
    blocks,
    flat_out,
    in_real_time,
    recomputed,
    stream_scores,
    watched,
)
from edge.bench.recomputation import Recomputation
from edge.frontend import SAMPLE_RATE_HZ, Float32Array
from edge.model.interpreter import Graphs
from edge.model.modelfile import ModelFile

HOPS = 40


@pytest.fixture
def setup(model: ModelFile, graphs: Graphs) -> Setup:
    return Setup(model, graphs)


def test_audio_begins_again_where_it_ends(speech: Float32Array) -> None:
    short = speech[:5_000]
    found = list(blocks(short, 12_345))
    assert max(map(len, found)) == 1_600
    np.testing.assert_array_equal(np.concatenate(found), np.tile(short, 3)[:12_345])


def test_hops_and_samples_agree(setup: Setup) -> None:
    assert setup.hops(0) == setup.hops(setup.samples(1) - 1) == 0
    for hops in (1, 2, 100):
        assert setup.hops(setup.samples(hops)) == hops
        assert setup.hops(setup.samples(hops + 1) - 1) == hops


def test_only_what_is_answered_meanwhile_is_measured(setup: Setup, speech: Float32Array) -> None:
    assert setup.late_hops > 0
    assert setup.heard_samples(HOPS) == setup.samples(HOPS + setup.late_hops)
    assert len(flat_out(setup, blocks(speech, setup.samples(HOPS))).wall_ns) == (
        HOPS - setup.late_hops
    )
    assert len(stream_scores(setup, blocks(speech, setup.samples(HOPS)))) == HOPS
    nothing = flat_out(setup, blocks(speech, setup.samples(setup.late_hops) - 1))
    assert (nothing.wall_ns, nothing.cpu_ns) == ([], 0)


def test_every_hop_is_accounted_for(setup: Setup, speech: Float32Array) -> None:
    cost = flat_out(setup, blocks(speech, setup.heard_samples(HOPS)))
    assert len(cost.wall_ns) == HOPS
    assert min(cost.wall_ns) > 0
    assert cost.cpu_ns > 0


def test_the_stages_add_up_to_the_whole(setup: Setup, speech: Float32Array) -> None:
    costs = watched(setup, blocks(speech, setup.heard_samples(HOPS)))
    assert set(costs) == {"front_end", "step", "head", "decoder", "rest", "all"}
    whole = costs.pop("all")
    for name, cost in costs.items():
        assert len(cost.wall_ns) == HOPS, name
        assert min(cost.wall_ns) > 0, name
    parts = np.sum([cost.wall_ns for cost in costs.values()], axis=0)
    assert parts.tolist() == whole.wall_ns
    assert sum(cost.cpu_ns for cost in costs.values()) == whole.cpu_ns


def test_the_watch_goes_away(setup: Setup, speech: Float32Array) -> None:
    before = dict(vars(setup.graphs))
    watched(setup, blocks(speech, setup.heard_samples(3)))
    stream_scores(setup, blocks(speech, setup.samples(3)))
    assert set(vars(setup.graphs)) == set(before)


def test_no_answer_comes_before_its_audio(setup: Setup, speech: Float32Array) -> None:
    paced = in_real_time(setup, blocks(speech, setup.heard_samples(3)))
    assert len(paced.late_ns) == 3
    assert min(paced.late_ns) > 0
    assert paced.cpu_ns > 0


def test_it_sleeps_longer_than_a_hop(setup: Setup, speech: Float32Array) -> None:
    hops = 12
    counts = []
    # Seven of its own, fewer where it is late. A busy machine adds some that are not ours.
    while not counts or (min(counts) >= hops and len(counts) < 5):
        paced = in_real_time(setup, blocks(speech, setup.heard_samples(hops)))
        assert len(paced.late_ns) == hops
        counts.append(paced.wakeups)
    assert 1 <= min(counts) < hops


def test_recomputing_gives_what_the_stream_gives(
    setup: Setup, speech: Float32Array, model: ModelFile, graphs: Graphs
) -> None:
    stream = speech[: 14 * SAMPLE_RATE_HZ]
    expected = stream_scores(setup, [stream])
    window_s = model.description.decoder.window_s
    recomputation = Recomputation(model, graphs, window_s)
    last = len(expected) - 1  # silence follows it
    hops = [0, 5, recomputation.window_hops, recomputation.context_hops, 50, 70, last - 1]
    _, found = recomputed(recomputation, stream, hops, recomputation.context_hops)
    for hop, scores in zip(hops, found, strict=True):
        np.testing.assert_array_equal(scores, expected[hop])
    cost, alone = recomputed(recomputation, stream, hops, recomputation.window_hops)
    assert len(cost.wall_ns) == len(hops)
    # Cut off from what it has heard before, it answers otherwise.
    assert any(not np.array_equal(a, expected[hop]) for hop, a in zip(hops, alone, strict=True))


def test_quiet_audio_is_recomputed_as_the_stream_hears_it(
    setup: Setup, speech: Float32Array, model: ModelFile, graphs: Graphs
) -> None:
    quiet = np.float32(10 ** (-46 / 20)) * speech[: 6 * SAMPLE_RATE_HZ]
    expected = stream_scores(setup, [quiet])
    recomputation = Recomputation(model, graphs, model.description.decoder.window_s)
    hop = len(expected) - 2
    _, (found,) = recomputed(recomputation, quiet, [hop], recomputation.context_hops)
    np.testing.assert_array_equal(found, expected[hop])


def test_recomputing_takes_as_much_audio_as_it_says(model: ModelFile, graphs: Graphs) -> None:
    recomputation = Recomputation(model, graphs, 3.0)
    stream = model.description.stream
    late_hops = stream.delay_frames // stream.hop_frames
    assert recomputation.window_hops == 19 + late_hops  # 3.04 s, and what follows
    frames = 300 + stream.receptive_field_frames - stream.stride_frames
    assert recomputation.context_hops == -(-frames // stream.hop_frames)
