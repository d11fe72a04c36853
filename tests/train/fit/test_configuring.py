"""What a configuration leaves to the corpus and to the shipped model."""

from __future__ import annotations

from pathlib import Path

import pytest

import train
from edge.errors import EdgelidError
from train.cli import main
from train.config import RunConfig
from train.corpus.manifest import open_manifest
from train.fit.configuring import configured
from train.model.checkpoint import load_checkpoint
from train.model.shipped import TRUNK, resolved

FOLDER = Path(train.__file__).parent / "configs"


@pytest.mark.parametrize("name", ["own", "own-few"])
def test_the_network_is_the_shipped_one(name: str, tiny_corpus: Path) -> None:
    shipped = load_checkpoint(TRUNK).config
    config = configured(FOLDER / f"{name}.toml", [tiny_corpus])
    assert (config.model, config.front_end) == (shipped.model, shipped.front_end)
    targets = {clip.language for clip in open_manifest(tiny_corpus).clips() if clip.target}
    assert config.data.languages == tuple(sorted(targets))


def test_the_network_is_the_one_to_begin_with(tiny_run: Path, tiny_config: RunConfig) -> None:
    config = configured(FOLDER / "own.toml", [], ["de"], tiny_run)
    assert config.model == tiny_config.model


def test_languages_of_the_command_line(tiny_toml: Path) -> None:
    """A locale is the language that a manifest has."""
    config = configured(tiny_toml, [], ["zh-CN", "nb", "sv_SE"])
    assert config.data.languages == ("zh", "no", "sv")


def test_locales_in_a_file(tmp_path: Path, tiny_toml: Path) -> None:
    file = tmp_path / "locale.toml"
    text = tiny_toml.read_text().replace('["de", "en"]', '["de-AT", "cmn_hans_cn"]')
    file.write_text(text.replace('de = ["attic"]', 'de-AT = ["attic"]'))
    config = configured(file, [])
    assert config.data.languages == ("de", "zh")
    assert config.data.development["de"] == ["attic"]


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (["zh", "zh-CN"], "each named once"),
        (["german"], "'german' is no code of a language"),
        (["other"], "classes anyway"),
    ],
)
def test_bad_languages(tiny_toml: Path, languages: list[str], message: str) -> None:
    with pytest.raises(EdgelidError, match=message):
        configured(tiny_toml, [], languages)


def test_an_error_names_what_the_corpus_has(
    tiny_toml: Path, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--corpus", str(tiny_corpus), "--run", str(tmp_path), "--languages", "de,fi"]
    assert main(["fit", str(tiny_toml), *options]) == 1
    assert "no training speech in fi: the corpus has de, en, sv" in capsys.readouterr().err


def test_the_shipped_checkpoint_has_a_name() -> None:
    assert resolved(Path("shipped")) == TRUNK
    assert resolved(Path("runs/shipped")) == Path("runs/shipped")
    assert TRUNK.exists()
