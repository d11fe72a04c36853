"""Names of languages, and the languages that people mean."""

from __future__ import annotations

import pytest

from edge.languages import language_name, meant

LABELS = ("de", "en", "pt-BR", "zh", "other", "nonspeech")


@pytest.mark.parametrize(
    ("named", "label"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("German", "de"),
        ("deutsch", "de"),
        ("DEUTSCH", "de"),
        (" de ", "de"),
        ("de-AT", "de"),
        ("de_AT.UTF-8", "de"),
        ("ger", "de"),
        ("deu", "de"),
        ("English", "en"),
        ("pt", "pt-BR"),
        ("português", "pt-BR"),
        ("Mandarin", "zh"),
        ("Other", "other"),
        ("Allemand", "de"),
        ("tedesco", "de"),
        ("aleman", "de"),
        ("Немецкий", "de"),
        ("немецкий", "de"),
        ("德语", "de"),
        ("anglais", "en"),
        ("chinesisch", "zh"),
        ("portugues", "pt-BR"),
        ("portugue\u0302s", "pt-BR"),
        ("xx", "xx"),
        ("Germanic", "Germanic"),
        ("design", "design"),
    ],
)
def test_what_is_meant(named: str, label: str) -> None:
    assert meant([named], LABELS) == (label,)


def test_a_label_of_the_model_is_itself() -> None:
    """Of a model whose classes are called otherwise."""
    assert meant(["German", "de"], ["German", "English"]) == ("German",)
    assert meant(["de", "DE"], ["de", "DE"]) == ("de", "DE")


def test_each_once() -> None:
    assert meant(["DE", "de", "deutsch", "en"], LABELS) == ("de", "en")


def test_names_for_people() -> None:
    assert [language_name(label) for label in ("zh", "nonspeech", "xx")] == [
        "Chinese",
        "no speech",
        "xx",
    ]
