"""The tables of a configuration of a run from waveforms are checked."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

import train
from edge.errors import EdgelidError
from train.waveforms.compact_fit import run_config
from train.waveforms.settings import (
    LARGE,
    GraftedHead,
    Grafting,
    LargeCourse,
    LargeHead,
    LargeSizes,
    compact_settings,
    large_settings,
    teach_settings,
)

CONFIGS = Path(train.__file__).parent / "configs"
# Of the commands that each configuration is for.
LARGE_ONES = {
    "large.toml": (LargeSizes, LargeCourse, LargeHead),
    "edgelid-9-large.toml": (LargeSizes, Grafting),
    "edgelid-9-xlarge.toml": (LargeSizes, LargeCourse, GraftedHead, Grafting),
    "edgelid-9-xlarge-second.toml": (LargeSizes, LargeCourse, GraftedHead, Grafting),
    "edgelid-9-xlarge-speakers.toml": (LargeSizes, LargeCourse, GraftedHead, Grafting),
    "edgelid-9-xlarge-speakers-second.toml": (LargeSizes, LargeCourse, GraftedHead, Grafting),
    "edgelid-9-xlarge-heard.toml": (LargeSizes, LargeCourse, GraftedHead, Grafting),
}


def shipped(name: str) -> dict[str, Any]:
    return tomllib.loads((CONFIGS / name).read_text())


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.toml")), ids=lambda file: file.stem)
def test_those_that_are_shipped_are_whole(file: Path) -> None:
    config = shipped(file.name)
    assert ("large" in config) == (file.name in LARGE_ONES)
    for kind in LARGE_ONES.get(file.name, ()):
        large_settings(kind, config)
    if "compact" in config:
        assert run_config(config).optimiser.steps == compact_settings(config).steps
    if "teach" in config:
        teach_settings(config)


def test_what_is_not_given_is_usual() -> None:
    large, compact = shipped("large.toml"), shipped("compact.toml")
    assert large_settings(LargeSizes, large).decoder is None
    assert large_settings(LargeCourse, large).other_voices == 0.0
    assert compact_settings(compact).tts_weight == 0.6
    assert compact_settings(compact).weights.of({"frames": 3.0, "classes": 1.0}) == 6.2


@pytest.mark.parametrize("kind", LARGE)
def test_a_misspelt_key_is_refused(kind: type) -> None:
    config = shipped("edgelid-9-xlarge.toml")
    config["large"]["other_voice"] = 0.6
    with pytest.raises(EdgelidError, match="the configuration, large: unknown setting 'other_v"):
        large_settings(kind, config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tempereture": 1.0}, "compact: unknown setting 'tempereture'"),
        ({"rate": "fast"}, "compact, rate: 'fast' is not what belongs there"),
        ({"rate": None}, "compact: the setting 'rate' is missing"),
        ({"weights": {"frames": 1.0}}, "compact, weights: the setting 'evidence' is missing"),
        ({"languages_hidden": 8}, "belong together: give both or neither"),
        ({"windows_s": []}, "windows_s must be one or more"),
        ({"windows_s": [math.nan]}, "compact, windows_s: must be a finite number"),
        ({"steps": 0}, "compact: steps must be at least 1"),
        ({"batch": 0}, "compact: batch must be at least 1"),
        ({"clip_s": math.nan}, "compact, clip_s: must be a finite number"),
        ({"clip_s": 1.0}, "compact: clip_s must be at least 2"),
        ({"rate": 0}, "compact: rate must be above 0"),
        ({"temperature": 0.0}, "compact: temperature must be above 0"),
        ({"weight_decay": -0.1}, "compact: weight_decay must be at least 0"),
        ({"average_decay": 1.0}, "compact: average_decay must be at least 0 and below 1"),
        ({"other_voices": 1.5}, "compact: other_voices must be between 0 and 1"),
    ],
)
def test_what_is_wrong_with_compact(change: dict[str, Any], words: str) -> None:
    config = shipped("compact.toml")
    config["compact"] |= change
    config["compact"] = {k: v for k, v in config["compact"].items() if v is not None}
    with pytest.raises(EdgelidError, match=words):
        compact_settings(config)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lengths_s": [math.nan]}, "large, lengths_s: must be a finite number"),
        ({"batch_s": 0.0}, "large: batch_s must be above 0"),
        ({"encoder_rate": -1.0}, "large: encoder_rate must be at least 0"),
        ({"dropout": 1.0}, "large: dropout must be at least 0 and below 1"),
        ({"other_voices": -0.1}, "large: other_voices must be between 0 and 1"),
    ],
)
def test_what_is_wrong_with_large(change: dict[str, Any], words: str) -> None:
    config = shipped("edgelid-9-xlarge.toml")
    config["large"] |= change
    with pytest.raises(EdgelidError, match=words):
        large_settings(LargeCourse, config)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (LargeHead, {"head_penalty": 0.0, "head_batches": 1}, "head_penalty must be above 0"),
        (GraftedHead, {"head_penalty": -1.0}, "large: head_penalty must be above 0"),
        (LargeSizes, {"adapters": {"rank": 0, "first": 0}}, "adapters: rank must be at least 1"),
        (LargeSizes, {"adapters": {"rank": 1, "first": -1}}, "adapters: first must be at least 0"),
    ],
)
def test_what_is_wrong_with_parts_of_large(kind: type, change: dict[str, Any], words: str) -> None:
    config = shipped("edgelid-9-xlarge.toml")
    config["large"] |= change
    with pytest.raises(EdgelidError, match=words):
        large_settings(kind, config)


@pytest.mark.parametrize(
    ("seed", "words"),
    [(-1, "seed must be at least 0"), (2**32, "and below 4294967296"), (True, "is not one of")],
)
def test_a_seed_that_keras_does_not_take_is_refused(seed: Any, words: str) -> None:
    with pytest.raises(EdgelidError, match=words):
        large_settings(LargeSizes, shipped("edgelid-9-xlarge.toml") | {"seed": seed})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 0}, "teach: batch must be at least 1"),
        ({"clip_s": 0.0}, "teach: clip_s must be above 0"),
        ({"decoder_rate": -1.0}, "teach: decoder_rate must be at least 0"),
        ({"steps": 0}, "teach: steps must be at least 1"),
        ({"encoder_waits": 1.0}, "encoder_waits must be at least 0 and below 1"),
        ({"weights": {"frame": 1.0}}, "teach, weights: unknown setting 'frame'"),
    ],
)
def test_what_is_wrong_with_teach(change: dict[str, Any], words: str) -> None:
    config = shipped("edgelid-9-large.toml")
    config["teach"] |= change
    with pytest.raises(EdgelidError, match=words):
        teach_settings(config)


@pytest.mark.parametrize("config", [{}, {"seed": 1, "data": {}}, {"seed": 1, "large": {}}])
def test_a_configuration_of_something_else_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(EdgelidError, match="is not one of this command"):
        large_settings(LargeSizes, config)
