"""The streaming classifier is exact: the same bits from any chunks, any start, any window alone."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import classifier as module
from edge.audio.sources import FileSource
from edge.classifier import (
    StreamingClassifier,
    Window,
    class_mask,
    masked,
    pool,
    quantise,
    softmax,
)
from edge.errors import EdgelidError
from edge.features import open_front_end
from edge.frontend import Float32Array, Float64Array
from edge.model.interpreter import Graphs, Int8Array, open_graphs
from edge.model.modelfile import DEFAULT_MODEL, ModelFile, Quantisation, read_model

MODEL = read_model(DEFAULT_MODEL)
CONFIG, STREAM = MODEL.description.front_end, MODEL.description.stream
STRIDE_SAMPLES = STREAM.stride_frames * CONFIG.hop_samples  # from embedding to embedding
PER_HOP = STREAM.hop_frames // STREAM.stride_frames
# Embeddings of a stream that hear of what was before its start.
UNFILLED = -(-STREAM.receptive_field_frames // STREAM.stride_frames) - 1
# Hops and embeddings that the trunk says of the time before the stream; it hears as much of what
# comes after a moment before it says what was then.
LATE_HOPS, LATE = (
    STREAM.delay_frames // STREAM.hop_frames,
    STREAM.delay_frames // STREAM.stride_frames,
)
# Embeddings of a stream, as its windows have them, that hear of what was before its start.
CONTEXT = UNFILLED - LATE


class Recorder:
    """Graphs that keep what the trunk has said."""

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self.said: list[tuple[Int8Array, Int8Array]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graphs, name)

    def step(self, frames: Int8Array) -> tuple[Int8Array, Int8Array]:
        embeddings, weights = self._graphs.step(frames)
        self.said.append((embeddings, weights))
        return embeddings, weights

    @property
    def trace(self) -> Int8Array:
        """Embeddings and their weights, shape (n, embedding + 1)."""
        return np.concatenate([np.column_stack(hop) for hop in self.said])


GRAPHS = open_graphs(MODEL)


def audio_of(seconds: float, start_s: float = 1.0) -> Float32Array:
    """Speech of the sample, shape (n,)."""
    with FileSource(DEFAULT_MODEL.parents[1] / "samples" / "languages.opus") as source:
        samples = np.concatenate(list(source.blocks()))
    return samples[round(start_s * 16_000) :][: round(seconds * 16_000)]


FOUR_SECONDS, SIX_SECONDS = audio_of(4.0), audio_of(6.0)


def samples_of(frames: int) -> int:
    """Samples that make so many frames."""
    return (frames - 1) * CONFIG.hop_samples + CONFIG.window_samples


def classify(
    blocks: Iterable[Float32Array],
    windows_s: Sequence[float] = (3.0,),
    languages: Sequence[str] | None = None,
    model: ModelFile = MODEL,
) -> tuple[list[list[Window]], Recorder]:
    """Every window of a stream, and what the trunk said."""
    recorder = Recorder(GRAPHS)
    streaming = StreamingClassifier(model, cast(Graphs, recorder), windows_s, languages)
    windows = [found for block in blocks for found in streaming.process(block)]
    return windows + list(streaming.flush()), recorder


def bits(windows: list[list[Window]]) -> list[tuple[float, float, float, bytes]]:
    return [
        (w.start_s, w.end_s, w.length_s, w.probabilities.tobytes())
        for some in windows
        for w in some
    ]


def trunk_of(audio: Float32Array) -> Int8Array:
    """What the trunk alone says of a stream, shape (n, embedding + 1), one row an embedding of it.

    Zeros follow the frames that make whole embeddings; what is said late is moved to its time.
    """
    frames = open_front_end(CONFIG, MODEL.filterbank).process(audio)
    count = len(frames) // STREAM.stride_frames
    hops = -(-count // PER_HOP) + LATE_HOPS
    heard = np.zeros((hops, STREAM.hop_frames, CONFIG.features), np.float32)
    whole = count * STREAM.stride_frames
    heard.reshape(-1, CONFIG.features)[:whole] = frames[:whole]
    recorder = Recorder(GRAPHS)
    recorder.reset()
    for hop in heard:
        recorder.step(quantise(hop, GRAPHS.frames))
    return recorder.trace[LATE : LATE + count]


def probabilities_of(said: Int8Array, window_s: float) -> Float64Array:
    """Of a window of embeddings and their weights, shape (n, embedding + 1)."""
    said = said.astype(np.int64)
    x, w = said[:, :-1] - GRAPHS.embeddings.zero_point, said[:, -1:] - GRAPHS.weights.zero_point
    sums = np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
    pooled = quantise(pool(sums, GRAPHS.embeddings, GRAPHS.weights), GRAPHS.pooled)
    scores = real(GRAPHS.head(pooled), GRAPHS.scores)
    temperature = MODEL.description.calibration.temperature(window_s)
    expected = np.array(module.calibrated(scores.tolist(), temperature))
    np.testing.assert_allclose(expected, softmax(scores / temperature), rtol=1e-12)
    return expected


# --- exactness -------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(FOUR_SECONDS)), max_size=20))
def test_any_chunks_give_the_same_bits(cuts: list[int]) -> None:
    whole, trunk = classify([FOUR_SECONDS], (1.0, 3.0))
    chunks = np.split(FOUR_SECONDS, sorted(cuts))
    in_chunks, trunk_in_chunks = classify(chunks, (1.0, 3.0))
    assert trunk_in_chunks.trace.tobytes() == trunk.trace.tobytes()
    assert bits(in_chunks) == bits(whole)


def test_chunks_of_a_few_samples_give_the_same_bits() -> None:
    audio = FOUR_SECONDS[:16_000]
    chunks = np.split(audio, range(7, len(audio), 7))
    assert bits(classify(chunks)[0]) == bits(classify([audio])[0])


# Multiples of the hop first; the others test that the phase does not matter either.
@pytest.mark.parametrize("start", [PER_HOP, 5 * PER_HOP, 11 * PER_HOP, 1, 2, 3, 17, 42])
def test_any_start_gives_the_same_embeddings_once_the_receptive_field_is_full(start: int) -> None:
    _, whole = classify([SIX_SECONDS])
    _, late = classify([SIX_SECONDS[start * STRIDE_SAMPLES :]])
    count = min(len(late.trace), len(whole.trace) - start)
    assert count > UNFILLED + 20
    np.testing.assert_array_equal(late.trace[UNFILLED:count], whole.trace[start:][UNFILLED:count])
    # Not because nothing reaches that far: before, they do differ.
    assert (late.trace[:UNFILLED] != whole.trace[start:][:UNFILLED]).any()


# Windows of whole hops (0.8 s, 3.2 s) get no more context than the receptive field has.
@pytest.mark.parametrize("window_s", [0.04, 0.4, 0.8, 1.0, 3.0, 3.2, 5.0])
def test_a_window_of_the_stream_is_that_window_computed_alone(window_s: float) -> None:
    audio = audio_of(9.0)
    size = round(window_s * 16_000 / STRIDE_SAMPLES)
    in_stream, _ = classify([audio], (window_s,))
    hops = [9, 17, 30, len(in_stream) - 2]
    for (window,) in (in_stream[hop] for hop in hops):
        last = round(window.end_s * 16_000 / STRIDE_SAMPLES)  # embeddings from the beginning
        first = max(0, last - size - CONTEXT)
        if LATE:  # only the end of a stream is a window's end within a hop, and it hears no more
            first -= first % PER_HOP
        heard = last * STREAM.stride_frames + STREAM.delay_frames
        with_context = audio[first * STRIDE_SAMPLES : samples_of(heard)]
        found, _ = classify([with_context], (window_s,))
        (alone,) = found[-(-(last - first) // PER_HOP) - 1]
        assert alone.probabilities.tobytes() == window.probabilities.tobytes()
        assert alone.end_s + first * STRIDE_SAMPLES / 16_000 == pytest.approx(window.end_s)


def test_several_lengths_are_what_each_is_alone() -> None:
    lengths_s = (3.0, 1.0, 0.2, 10.0)
    together, _ = classify([FOUR_SECONDS], lengths_s)
    for index, length_s in enumerate(lengths_s):
        alone, _ = classify([FOUR_SECONDS], (length_s,))
        assert bits([[windows[index]] for windows in together]) == bits(alone)
        assert all(windows[index].length_s == length_s for windows in together)


def test_hours_change_nothing() -> None:
    """The ring of totals goes round, and its sums grow: both without a trace."""
    streaming = StreamingClassifier(MODEL, GRAPHS, [0.4])
    once = list(streaming.process(FOUR_SECONDS))[-1][0]
    streaming.reset()
    streaming._memory._totals += 2**52  # as after some years of the loudest embeddings
    again = list(streaming.process(FOUR_SECONDS))[-1][0]
    assert again.probabilities.tobytes() == once.probabilities.tobytes()
    assert len(streaming._memory._totals) < 20


# --- pooling ---------------------------------------------------------------------------------


EMBEDDINGS = Quantisation(0.031, -128)
WEIGHTS = Quantisation(1 / 256, -128)


def random_embeddings(count: int, seed: int) -> tuple[Int8Array, Int8Array]:
    rng = np.random.default_rng(seed)
    embeddings = rng.integers(-128, 128, (count, 24)).astype(np.int8)
    return embeddings, rng.integers(-128, 128, count).astype(np.int8)


def integer_sums(embeddings: Int8Array, weights: Int8Array) -> npt.NDArray[np.int64]:
    x = embeddings.astype(np.int64) - EMBEDDINGS.zero_point
    w = weights.astype(np.int64)[:, None] - WEIGHTS.zero_point
    sums: npt.NDArray[np.int64] = np.concatenate([w, w * x, w * x * x], axis=1).sum(axis=0)
    return sums


def real(values: Int8Array, quantisation: Quantisation) -> Float64Array:
    steps: Float64Array = values.astype(np.float64) - quantisation.zero_point
    return steps * quantisation.scale


@pytest.mark.parametrize("count", [1, 2, 25, 250])
def test_integer_sums_pool_as_floats_do(count: int) -> None:
    embeddings, weights = random_embeddings(count, seed=count)
    x, w = real(embeddings, EMBEDDINGS), real(weights, WEIGHTS)[:, None]
    total = w.sum() + module.POOL_EPSILON
    mean = (w * x).sum(axis=0) / total
    variance = np.maximum((w * x * x).sum(axis=0) / total - mean**2, module.MIN_VARIANCE)
    np.testing.assert_allclose(
        pool(integer_sums(embeddings, weights), EMBEDDINGS, WEIGHTS),
        np.concatenate([mean, np.sqrt(variance)]),
        rtol=1e-9,
    )


def test_a_window_without_any_speech_pools_to_nothing() -> None:
    embeddings, weights = random_embeddings(10, seed=0)
    weights[:] = WEIGHTS.zero_point
    pooled = pool(integer_sums(embeddings, weights), EMBEDDINGS, WEIGHTS)
    np.testing.assert_array_equal(pooled, [0.0] * 24 + [np.sqrt(module.MIN_VARIANCE)] * 24)


def test_the_running_sums_are_the_sums_of_the_window() -> None:
    windows, recorder = classify([FOUR_SECONDS], (1.0,))
    trunk = trunk_of(FOUR_SECONDS)
    assert recorder.trace[LATE : LATE + len(trunk)].tobytes() == trunk.tobytes()
    assert len(windows) == -(-len(trunk) // PER_HOP)
    size = round(16_000 / STRIDE_SAMPLES)
    for index, (window,) in enumerate(windows):
        last = min((index + 1) * PER_HOP, len(trunk))
        expected = probabilities_of(trunk[max(0, last - size) : last], 1.0)
        assert window.probabilities.tobytes() == expected.tobytes()


def test_the_constant_of_the_pooling_is_that_of_the_training() -> None:
    source = Path(__file__).parents[2] / "train" / "model" / "network.py"
    constants = {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert constants["POOL_EPSILON"] == module.POOL_EPSILON


def test_the_pooling_is_that_of_the_training() -> None:
    pytest.importorskip("tensorflow", reason="needs the extra `train`")
    training = pytest.importorskip("train.model.network")
    assert training.POOL_EPSILON == module.POOL_EPSILON
    for count in (1, 25, 250):
        embeddings, weights = random_embeddings(count, seed=count)
        if count == 250:
            embeddings[:, 0] = 5  # of no variance: its floor counts
        x = real(embeddings, EMBEDDINGS)[None, :, None, :].astype(np.float32)
        w = real(weights, WEIGHTS)[None, :, None, None].astype(np.float32)
        np.testing.assert_allclose(
            pool(integer_sums(embeddings, weights), EMBEDDINGS, WEIGHTS),
            np.asarray(training.pool(x, w))[0],
            rtol=2e-4,
            atol=2e-3,  # a difference of nearly equal squares, in single precision
        )


def test_quantise_rounds_half_to_even_and_clips() -> None:
    to = Quantisation(0.5, 3)
    values = np.array([0.0, 0.25, 0.75, 1.0, -0.25, 1e9, -1e9])
    assert quantise(values, to).tolist() == [3, 3, 5, 5, 3, 127, -128]


# --- the beginning and the end of a stream ---------------------------------------------------


def test_windows_grow_until_they_are_full() -> None:
    windows, _ = classify([FOUR_SECONDS], (1.0,))
    hop_s = StreamingClassifier(MODEL, GRAPHS, [1.0]).hop_s
    for index, (window,) in enumerate(windows[:-1]):
        assert window.end_s == pytest.approx((index + 1) * hop_s)
        assert window.start_s == pytest.approx(max(0.0, window.end_s - 1.0))
        assert window.length_s == 1.0


def test_only_what_is_late_is_left_after_whole_hops() -> None:
    audio = FOUR_SECONDS[: samples_of((3 + LATE_HOPS) * STREAM.hop_frames)]
    streaming = StreamingClassifier(MODEL, GRAPHS, [3.0])
    assert streaming.delay_s == pytest.approx(LATE_HOPS * streaming.hop_s)
    given = list(streaming.process(audio))
    assert len(given) == 3
    left = list(streaming.flush())
    assert len(left) == LATE_HOPS
    ends_s = [window.end_s for (window,) in given + left]
    assert ends_s == pytest.approx([hop * streaming.hop_s for hop in range(1, 4 + LATE_HOPS)])


def test_windows_come_as_much_later_as_the_delay() -> None:
    streaming = StreamingClassifier(MODEL, GRAPHS, [3.0])
    start = 0
    for hop in range(1, 12):
        end = samples_of(hop * STREAM.hop_frames)
        assert list(streaming.process(FOUR_SECONDS[start : end - 1])) == []
        ends_s = [window.end_s for (window,) in streaming.process(FOUR_SECONDS[end - 1 : end])]
        expected_s = [hop * streaming.hop_s - streaming.delay_s] if hop > LATE_HOPS else []
        assert ends_s == pytest.approx(expected_s)
        start = end


@pytest.mark.skipif(not LATE, reason="the model has no delay")
@pytest.mark.parametrize("embeddings", range(1, LATE + 1))
@pytest.mark.parametrize("more_frames", [0, STREAM.stride_frames - 1])
def test_a_stream_shorter_than_the_delay_is_all_in_its_end(
    embeddings: int, more_frames: int
) -> None:
    audio = FOUR_SECONDS[8_000:][: samples_of(embeddings * STREAM.stride_frames + more_frames)]
    streaming = StreamingClassifier(MODEL, GRAPHS, [0.2, 3.0])
    assert list(streaming.process(audio)) == []
    windows = list(streaming.flush())
    trunk = trunk_of(audio)
    assert len(trunk) == embeddings
    lasts = [*range(PER_HOP, embeddings, PER_HOP), embeddings]
    assert len(windows) == len(lasts)
    for some, last in zip(windows, lasts, strict=True):
        for window, size in zip(some, (5, 75), strict=True):
            first = max(0, last - size)
            assert window.start_s == pytest.approx(first * STRIDE_SAMPLES / 16_000)
            assert window.end_s == pytest.approx(last * STRIDE_SAMPLES / 16_000)
            expected = probabilities_of(trunk[first:last], window.length_s)
            assert window.probabilities.tobytes() == expected.tobytes()


@pytest.mark.parametrize("embeddings", range(1, PER_HOP))
@pytest.mark.parametrize("more_frames", range(STREAM.stride_frames))
def test_the_rest_of_a_hop_is_what_a_longer_stream_says(embeddings: int, more_frames: int) -> None:
    hops = max(5, CONTEXT // PER_HOP + 2)
    frames = hops * STREAM.hop_frames + embeddings * STREAM.stride_frames + more_frames
    audio = FOUR_SECONDS[: samples_of(frames)]
    assert len(audio) == samples_of(frames)
    streaming = StreamingClassifier(MODEL, GRAPHS, [3.0])
    assert len(list(streaming.process(audio))) == hops - LATE_HOPS
    *late, (last,) = streaming.flush()
    assert len(late) == LATE_HOPS
    assert last.end_s == pytest.approx((hops * PER_HOP + embeddings) * STRIDE_SAMPLES / 16_000)
    # A window that ends there, of a stream that started so that this is the end of a hop.
    ahead = (PER_HOP - embeddings) * STRIDE_SAMPLES
    count = hops * PER_HOP + embeddings - CONTEXT
    assert count > 0
    length_s = count * STRIDE_SAMPLES / 16_000
    (*_, (short,)), _ = classify([audio], (length_s,))
    before = audio_of(4.0 + ahead / 16_000, 1.0 - ahead / 16_000)
    (*_, (longer,)), _ = classify([before[: ahead + len(audio)]], (length_s,))
    assert short.probabilities.tobytes() == longer.probabilities.tobytes()


@pytest.mark.parametrize("samples", [1, 160, 399, 400, 879])
def test_audio_too_short_for_an_embedding_is_completed_with_silence(samples: int) -> None:
    needed = samples_of(STREAM.stride_frames)
    padded = np.zeros(needed, np.float32)
    padded[:samples] = FOUR_SECONDS[8_000:][:samples]
    ((short,),), _ = classify([padded[:samples]])
    ((whole,),), _ = classify([padded])
    assert short.probabilities.tobytes() == whole.probabilities.tobytes()
    assert (short.start_s, short.end_s) == (0.0, STRIDE_SAMPLES / 16_000)


@pytest.mark.parametrize("blocks", [[], [np.empty(0, np.float32)]])
def test_no_audio_gives_no_window(blocks: list[Float32Array]) -> None:
    assert classify(blocks)[0] == []


def test_every_length_of_audio_gives_windows_up_to_its_end() -> None:
    for samples in range(1, 9_000, 487):
        windows, _ = classify([FOUR_SECONDS[:samples]])
        frames = max(STREAM.stride_frames, 1 + (samples - 400) // 160)
        embeddings = frames // STREAM.stride_frames
        assert windows[-1][0].end_s == pytest.approx(embeddings * STRIDE_SAMPLES / 16_000)


def test_reset_starts_a_new_stream() -> None:
    streaming = StreamingClassifier(MODEL, GRAPHS, [3.0])
    first = list(streaming.process(FOUR_SECONDS[:30_000])) + list(streaming.flush())
    streaming.reset()
    again = list(streaming.process(FOUR_SECONDS[:30_000])) + list(streaming.flush())
    assert bits(again) == bits(first)


def test_digital_silence_gives_probabilities() -> None:
    windows, _ = classify([np.zeros(32_000, np.float32)])
    for (window,) in windows:
        assert np.isfinite(window.probabilities).all()
        assert window.probabilities.sum() == pytest.approx(1.0)


# --- probabilities ---------------------------------------------------------------------------


def test_probabilities_sum_to_one() -> None:
    windows, _ = classify([FOUR_SECONDS], (1.0, 3.0))
    for window in (w for some in windows for w in some):
        assert window.probabilities.shape == (len(MODEL.labels),)
        assert (window.probabilities > 0).all()
        assert window.probabilities.sum() == pytest.approx(1.0)


def test_what_is_masked_is_another_language() -> None:
    everything, _ = classify([FOUR_SECONDS])
    some, _ = classify([FOUR_SECONDS], languages=["de", "en"])
    kept = [MODEL.labels.index(label) for label in ("de", "en", "nonspeech")]
    other = MODEL.labels.index("other")
    for (full,), (few,) in zip(everything, some, strict=True):
        np.testing.assert_array_equal(few.probabilities[kept], full.probabilities[kept])
        assert few.probabilities[other] == pytest.approx(1 - full.probabilities[kept].sum())
        assert np.count_nonzero(few.probabilities) == 4
        assert full.apart is None
        assert few.apart is not None
        np.testing.assert_array_equal(few.apart, full.probabilities)


def test_without_another_language_the_expected_ones_share_the_speech() -> None:
    found = masked([0.4, 0.1, 0.2, 0.3], ("de", "en", "fr", "nonspeech"), [True, True, False, True])
    assert found == pytest.approx([0.56, 0.14, 0.0, 0.3])


def test_a_mask_makes_no_silence_of_speech() -> None:
    """Spanish, where it is not expected, is another language and not no speech."""
    found = masked([0.01, 0.02, 0.9, 0.02, 0.05], LABELS_ES, [True, True, False, True, True])
    assert found == pytest.approx([0.01, 0.02, 0.0, 0.92, 0.05])


LABELS_ES = ("de", "en", "es", "other", "nonspeech")


LABELS = ("de", "en", "other", "nonspeech")


@pytest.mark.parametrize(
    ("languages", "mask"),
    [
        (None, [True, True, True, True]),
        (["de"], [True, False, True, True]),
        (["en", "other"], [False, True, True, True]),
        (["de", "de"], [True, False, True, True]),
    ],
)
def test_class_mask(languages: list[str] | None, mask: list[bool]) -> None:
    assert class_mask(LABELS, languages).tolist() == mask


def test_a_model_without_nonspeech() -> None:
    assert class_mask(("de", "en"), ["en"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["xx"], "the model does not know xx: choose from de, en, other."),
        (["de", "xx", "yy"], "the model does not know xx, yy: choose from de, en, other."),
        (["DE"], "the model does not know DE: choose from de, en, other."),
        (["nonspeech"], "the model does not know nonspeech: choose from de, en, other."),
        ([], "the model needs at least one language: choose from de, en, other."),
    ],
)
def test_languages_that_are_not_known(languages: list[str], message: str) -> None:
    with pytest.raises(EdgelidError) as caught:
        class_mask(LABELS, languages)
    assert str(caught.value) == message


@pytest.mark.parametrize("window_s", [0.0, -1.0, 0.039, 60.1, float("inf"), float("nan")])
def test_impossible_windows(window_s: float) -> None:
    with pytest.raises(EdgelidError, match=r"^a window of .* s is not possible: choose .*\.$"):
        StreamingClassifier(MODEL, GRAPHS, [3.0, window_s])


def test_the_temperature_divides_the_scores() -> None:
    calibration = MODEL.description.calibration
    hotter = {length: 2 * value for length, value in calibration.temperatures.items()}
    description = dataclasses.replace(
        MODEL.description, calibration=dataclasses.replace(calibration, temperatures=hotter)
    )
    warm, _ = classify([FOUR_SECONDS], (1.0, 3.0))
    hot, _ = classify(
        [FOUR_SECONDS], (1.0, 3.0), model=dataclasses.replace(MODEL, description=description)
    )
    for one, other in zip(warm[-1], hot[-1], strict=True):
        expected = np.sqrt(one.probabilities)
        np.testing.assert_allclose(other.probabilities, expected / expected.sum(), rtol=1e-9)


@pytest.mark.parametrize("languages", [None, ["de", "en"]])
def test_only_masked_classes_are_impossible(languages: list[str] | None) -> None:
    calibration = dataclasses.replace(MODEL.description.calibration, temperatures={"3": 1e-6})
    description = dataclasses.replace(MODEL.description, calibration=calibration)
    windows, _ = classify(
        [FOUR_SECONDS],
        languages=languages,
        model=dataclasses.replace(MODEL, description=description),
    )
    mask = class_mask(MODEL.labels, languages)
    for (window,) in windows:
        np.testing.assert_array_equal(window.probabilities > 0, mask)
        assert window.probabilities.sum() == pytest.approx(1.0)


def test_softmax() -> None:
    probabilities = softmax(np.array([[0.0, np.log(3.0), -np.inf], [1_000.0, 0.0, -1_000.0]]))
    np.testing.assert_allclose(probabilities, [[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]], atol=1e-12)
