"""A colour for each language, told apart by everyone; and what is written can be read."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from edge.languages import _LANGUAGES
from edge.outputs import plotstyle
from edge.outputs.colours import GREYS, colour_of
from edge.outputs.report import page

Vector = npt.NDArray[np.float64]
CSS = (Path(page.__file__).parents[1] / "web/page/style.css").read_text()
SHIPPED = ("de", "en", "es", "fr", "it", "nl", "pt", "ru", "zh", "other", *GREYS)
# Machado, Oliveira and Fernandes (2009), for whoever lacks a kind of cone; of linear RGB.
SEEN_BY = {
    "all": np.eye(3),
    "protanopes": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopes": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopes": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
         [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
# Ottosson (2020).
_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def linear(colour: str) -> Vector:
    whole = colour.removeprefix("#")
    if len(whole) == 3:
        whole = "".join(2 * digit for digit in whole)
    channels = np.array([int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def oklab(rgb: Vector) -> Vector:
    found: Vector = _LAB @ np.cbrt(_LMS @ np.clip(rgb, 0, 1))
    return found


def contrast(one: str, other: str) -> float:
    """Of WCAG 2."""
    dark, light = sorted(linear(colour) @ [0.2126, 0.7152, 0.0722] for colour in (one, other))
    return float((light + 0.05) / (dark + 0.05))


@pytest.mark.parametrize("matrix", SEEN_BY.values(), ids=SEEN_BY)
def test_the_languages_of_the_model_are_told_apart(matrix: Vector) -> None:
    """By five times what is just noticed, whoever looks; greys by less, which are beside them."""
    seen = {label: oklab(matrix @ linear(colour_of(label))) for label in SHIPPED}
    distances = {
        pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]]))
        for pair in combinations(SHIPPED, 2)
    }
    assert min(distances.values()) >= 0.09, min(distances, key=lambda pair: distances[pair])


def test_every_language_has_a_colour_of_its_own() -> None:
    colours = [colour_of(label) for label in (*_LANGUAGES, "other", *GREYS)]
    assert len(set(colours)) == len(colours)
    for colour in colours:
        assert re.fullmatch("#[0-9a-f]{6}", colour)
        assert contrast(colour, "#ffffff") >= 1.9
        assert contrast(colour, "#161c22") >= 2.5


def test_it_is_fixed_whatever_else_there_is() -> None:
    assert colour_of("pt-BR") == colour_of("pt_PT") == colour_of("PT") == colour_of("pt")
    assert colour_of("Klingon") == colour_of("Klingon")
    assert colour_of("\ud800") == colour_of("?")


def modes(css: str) -> list[dict[str, str]]:
    """The named colours by day and by night."""
    whole = css.replace("{{", "{").replace("}}", "}")
    found = re.findall(r":root \{(.*?)\}", whole, re.DOTALL)
    sets = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]+)", part)) for part in found]
    return [sets[0], {**sets[0], **sets[1]}, *({**sets[0], **more} for more in sets[2:])]


def test_what_is_written_on_page_and_reports_can_be_read() -> None:
    """Times along an axis among it: at least 4.5:1."""
    for mode in modes(CSS):
        for text in ("ink", "faint", "good", "bad"):
            assert contrast(mode[text], mode["card"]) >= 4.5, text
            assert contrast(mode[text], mode["page"]) >= 4.5, text
    found = modes(page._PAGE)
    assert len(found) == 3
    for mode in found:
        for text in ("ink", "grey"):
            assert contrast(mode[text], mode["paper"]) >= 4.5, text
    for text in (plotstyle.INK, plotstyle.NOTE):
        assert contrast(text, "#ffffff") >= 4.5
