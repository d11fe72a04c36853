"""What is learnt from lessons: that it helps, what it may cost, and that streams stay exact."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.lessons import anchors as anchors_module
from edge.lessons.adapting import MAX_COST, TooDear, adapt
from edge.lessons.anchors import COARSE_STEPS, COMPONENT_STEP, ROWS_MEMBER, read_anchors
from edge.lessons.book import RECORDING, Book, Lesson
from edge.lessons.correction import Correction
from edge.lessons.fitting import fit, minimise
from edge.model.interpreter import Graphs, Int8Array
from edge.model.modelfile import ModelFile, read_model, with_members

ITALIAN = slice(43 * SAMPLE_RATE_HZ, 51 * SAMPLE_RATE_HZ)  # of the sample


def windows_of(model: ModelFile, graphs: Graphs, samples: Float32Array) -> Int8Array:
    classifier = StreamingClassifier(model, graphs, [3.0])
    found = []
    for (window,), number in zip(classifier.process(samples), range(10_000), strict=False):
        if number % 6 == 0 and window.end_s - window.start_s >= 3.0:
            found.append(classifier.pooled(0))
    return np.stack(found)


def book_of(model: ModelFile, *lessons: tuple[str, Int8Array]) -> Book:
    book = Book.of_model(model)
    for language, windows in lessons:
        book = book.with_lesson(Lesson(language, 0.0, RECORDING, windows))
    return book


def test_logistic_regression_finds_the_minimum() -> None:
    """Where the gradient, worked out numerically, is zero; and better than near points."""
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)
    scores, weights = rng.normal(size=(60, 3)), np.full(60, 1 / 60)
    free = np.ones((4, 3), bool)
    free[0, 1] = False

    def loss(found: Float64Array) -> float:
        logits = scores + features @ found
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        return -float(weights @ logs[np.arange(60), classes]) + 0.05 * float((found**2).sum())

    found = fit(features, scores, classes, weights, 0.1, free)
    assert found[0, 1] == 0.0
    for _ in range(50):
        moved = found + 1e-3 * rng.normal(size=found.shape) * free
        assert loss(moved) > loss(found)


def test_minimise_a_badly_scaled_bowl() -> None:
    scales = np.array([1.0, 1e3, 1e-2])
    found = minimise(
        lambda x: (float((scales * (x - 2) ** 2).sum()), 2 * scales * (x - 2)), np.zeros(3)
    )
    np.testing.assert_allclose(found, 2.0, atol=1e-3)


def test_the_model_that_comes_along_carries_anchors(model: ModelFile) -> None:
    anchors = read_anchors(model)
    held = anchors.held
    for each in (held, ~held):
        assert set(anchors.classes[each]) == set(range(len(model.labels)))
    assert 0.15 < held.mean() < 0.45
    # Components of what is learnt from are standardised, but for the little that int8 cuts off.
    learnt = anchors.components[~held]
    steps = learnt / (COMPONENT_STEP * COARSE_STEPS)
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    cut = np.abs(steps) >= 127 // COARSE_STEPS
    assert cut.mean() < 0.001
    np.testing.assert_allclose(learnt[:, ~cut.any(axis=0)].std(axis=0), 1.0, atol=0.01)
    assert len(model.graph) < 3_000_000
    assert model.size_bytes < 3_000_000


def test_anchors_change_nothing_else(model: ModelFile, tmp_path: Path) -> None:
    """A file with and without them is the same model."""
    archive = zipfile.ZipFile(io.BytesIO(model.path.read_bytes()))
    members = {n: archive.read(n) for n in archive.namelist() if not n.startswith("anchors")}
    assert len(members) == 3
    bare = tmp_path / "bare.tflite"
    with bare.open("wb") as file:
        file.write(model.graph)
        with zipfile.ZipFile(file, "a") as written:
            for name, content in members.items():
                written.writestr(name, content)
    without = read_model(bare)
    assert (without.graph, without.description) == (model.graph, model.description)
    with pytest.raises(EdgelidError, match="carries no anchors"):
        read_anchors(without)


def test_a_model_in_parts_carries_them_too(model: ModelFile, tmp_path: Path) -> None:
    data = model.path.read_bytes()
    (tmp_path / "model.tflite.0").write_bytes(data[:1_000_000])
    (tmp_path / "model.tflite.1").write_bytes(data[1_000_000:])
    anchors = read_anchors(read_model(tmp_path / "model.tflite"))
    np.testing.assert_array_equal(anchors.components, read_anchors(model).components)


@pytest.mark.parametrize("spoilt", ["rows", "text", "other graph", "no file"])
def test_damaged_anchors(model: ModelFile, tmp_path: Path, spoilt: str) -> None:
    rows = zipfile.ZipFile(model.path).read(ROWS_MEMBER)
    told = b'{"format_version": 1, "graph_sha256": "0"}'
    members = {
        "rows": {ROWS_MEMBER: rows[:-1]},
        "text": {anchors_module.DESCRIPTION_MEMBER: b"[" * 100_000},
        "other graph": {anchors_module.DESCRIPTION_MEMBER: told},
        "no file": {},
    }
    path = tmp_path / "model.tflite"
    path.write_bytes(with_members(model.path.read_bytes(), members[spoilt]))
    damaged = read_model(path)
    if spoilt == "no file":
        path.unlink()
    with pytest.raises(EdgelidError, match=r"anchors .* damaged|does not exist"):
        read_anchors(damaged)


def test_lessons_help_and_cost_no_more_than_they_may(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    """Speech that is taken for another language is taught."""
    windows = windows_of(model, graphs, speech[ITALIAN] * np.float32(0.5))
    adapted = adapt(model, graphs, book_of(model, ("gl", windows)))
    assert adapted.correction.labels == (*model.labels, "gl")
    assert adapted.brought.taught_before == 1.0
    assert adapted.brought.cost <= MAX_COST
    assert adapted.correction.weights.shape == (windows.shape[1], len(model.labels) + 1)


def test_equal_lessons_make_equal_corrections(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    book = book_of(model, ("it", windows_of(model, graphs, speech[ITALIAN])))
    first, second = (adapt(model, graphs, book) for _ in range(2))
    np.testing.assert_array_equal(first.correction.weights, second.correction.weights)
    assert first.brought == second.brought


def test_wrong_lessons_are_refused_with_the_figures(model: ModelFile, graphs: Graphs) -> None:
    """Other people's Russian, German and so on, all of it taught as Dutch."""
    anchors = read_anchors(model)
    # Windows that have the components of anchors that are held out, by the pseudo-inverse.
    held = np.flatnonzero(anchors.held)[::3]
    pooled = anchors.components[held] @ np.linalg.pinv(anchors.projection) + anchors.mean
    windows = np.rint(pooled).clip(-128, 127).astype(np.int8)
    book = book_of(model, ("nl", windows))
    try:
        brought = adapt(model, graphs, book).brought
    except TooDear as refused:
        assert "errors on other people's speech would go from" in str(refused)
        brought = refused.brought
        taught = brought.taught_after - brought.taught_before
        assert max(brought.cost, taught) > MAX_COST
    else:
        assert brought.cost <= MAX_COST


def test_no_lessons(model: ModelFile, graphs: Graphs) -> None:
    with pytest.raises(EdgelidError, match="no lessons"):
        adapt(model, graphs, Book.of_model(model))


@pytest.fixture(scope="module")
def correction(model: ModelFile) -> Correction:
    rng = np.random.default_rng(3)
    channels, labels = 2 * model.description.stream.embedding, (*model.labels, "gl")
    weights = rng.normal(size=(channels, len(labels))) / 500
    return Correction(labels, model.labels.index("other"), weights, rng.normal(size=len(labels)))


def test_streams_stay_exact(
    model: ModelFile, graphs: Graphs, speech: Float32Array, correction: Correction
) -> None:
    """Bit for bit, however the audio was cut, and in a stream that began earlier."""
    some = speech[: 14 * SAMPLE_RATE_HZ]

    def follow(*sizes: int) -> list[tuple[float, bytes]]:
        classifier = StreamingClassifier(model, graphs, [1.0, 3.0], lessons=correction)
        found, start = [], 0
        while start < len(some):
            size = sizes[len(found) % len(sizes)]
            for windows in classifier.process(some[start : start + size]):
                found += [(w.end_s, w.probabilities.tobytes()) for w in windows]
            start += size
        return found

    whole = follow(len(some))
    assert follow(160, 7_919, 1_601) == whole
    assert {len(bits) for _, bits in whole} == {8 * len(correction.labels)}


def test_a_correction_of_nothing_changes_not_one_bit(
    model: ModelFile, graphs: Graphs, speech: Float32Array
) -> None:
    channels = 2 * model.description.stream.embedding
    nothing = Correction(
        model.labels, 0, np.zeros((channels, len(model.labels))), np.zeros(len(model.labels))
    )
    answers = []
    for lessons in (None, nothing):
        classifier = StreamingClassifier(model, graphs, [3.0], lessons=lessons)
        hops = classifier.process(speech[: 8 * SAMPLE_RATE_HZ])
        answers.append([window.probabilities.tobytes() for (window,) in hops])
    assert answers[0] == answers[1]


def test_a_new_language_can_be_expected(
    model: ModelFile, graphs: Graphs, speech: Float32Array, correction: Correction
) -> None:
    sure = dataclasses.replace(correction, bias=np.eye(len(correction.labels))[-1] * 100.0)
    classifier = StreamingClassifier(model, graphs, [3.0], ["gl"], sure)
    *_, (window,) = classifier.process(speech[: 5 * SAMPLE_RATE_HZ])
    assert classifier.labels[int(window.probabilities.argmax())] == "gl"
    with pytest.raises(EdgelidError, match="does not know gl"):
        StreamingClassifier(model, graphs, [3.0], ["gl"])
