"""Anchors are added to a model file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from convert import anchors
from edge.errors import EdgelidError
from edge.lessons.anchors import read_anchors
from edge.model.modelfile import DEFAULT_MODEL, read_model
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
