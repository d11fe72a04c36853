"""Anchors are added to a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from convert import anchors
from edge.errors import EdgelidError
from edge.lessons.anchors import MAX_ANCHORS, read_anchors
from edge.model.modelfile import DEFAULT_MODEL, MAX_MEMBER_BYTES, read_model
from train.corpus.cuts import Cut
from train.corpus.manifest import Clip


@pytest.fixture(autouse=True)
def few_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the model knew no other languages than the tiny corpus has."""
    chosen = anchors._chosen

    def some(clips: Sequence[Clip], labels: Sequence[str], duration_s: float) -> list[Cut]:
        return chosen(clips, ("de", "en", "other", "nonspeech"), duration_s)

    monkeypatch.setattr(anchors, "_chosen", some)
    monkeypatch.setattr(anchors, "MOST_HELD", 0.9)  # and as many sources


def test_anchors_go_where_a_link_leads(tiny_corpus: Path, tmp_path: Path) -> None:
    link, model = tmp_path / "link.tflite", tmp_path / "model.tflite"
    model.write_bytes(DEFAULT_MODEL.read_bytes())
    link.symlink_to(model)
    added = anchors.add_anchors(link, link, tiny_corpus)
    assert link.is_symlink()
    assert model.stat().st_size == added.size_bytes
    assert len(read_anchors(read_model(model)).classes) == added.anchors


def test_what_the_device_refuses_is_not_written(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.tflite"
    monkeypatch.setattr(anchors, "with_members", lambda data, members: data[:-100])
    with pytest.raises(EdgelidError, match=r"model\.tflite"):
        anchors.add_anchors(DEFAULT_MODEL, output, tiny_corpus)
    assert not output.exists()


def test_a_model_in_parts(tiny_corpus: Path, tmp_path: Path) -> None:
    model, whole = tmp_path / "model.tflite", DEFAULT_MODEL.read_bytes()
    for number, part in enumerate((whole[:100_000], whole[100_000:])):
        model.with_name(f"model.tflite.{number}").write_bytes(part)
    added = anchors.add_anchors(model, model, tiny_corpus)
    assert model.stat().st_size == added.size_bytes
    assert len(read_anchors(read_model(model)).classes) == added.anchors


def test_anchors_that_cannot_be_read_are_not_written(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model.tflite"
    monkeypatch.setattr("edge.lessons.anchors.MAX_ANCHORS", 1)
    with pytest.raises(EdgelidError, match="anchors of the model"):
        anchors.add_anchors(DEFAULT_MODEL, output, tiny_corpus)
    assert not output.exists()


@pytest.mark.parametrize("classes", [3, 11, 79, 80, 100, anchors.MAX_CLASSES])
def test_of_many_languages_fewer_each(classes: int) -> None:
    each = anchors.per_language(classes)
    assert each == anchors.PER_LANGUAGE if classes < 76 else 100 < each < anchors.PER_LANGUAGE
    count = classes * each + anchors.OF_OTHER + anchors.OF_NOISE
    assert count <= MAX_ANCHORS
    assert count * (anchors.COMPONENTS + classes + 2) + 128 <= MAX_MEMBER_BYTES
