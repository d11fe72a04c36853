"""The configuration of a run, with what its file leaves to the corpus and the shipped model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl

from edge.errors import EdgelidError
from edge.model.modelfile import NONSPEECH, OTHER
from train.config import RunConfig, from_dict, read_toml
from train.corpus.importers.languages import from_code
from train.corpus.manifest import read_rows
from train.model.checkpoint import load_checkpoint
from train.model.shipped import TRUNK


def configured(
    file: Path,
    corpora: Sequence[Path],
    languages: Sequence[str] = (),
    init: Path | None = None,
) -> RunConfig:
    """Read a run's TOML file.

    Parameters
    ----------
    file : Path
        Without ``[model]``, network and front end are those of the checkpoint to begin with;
        without ``languages``, these are the targets of the corpus.
    corpora : sequence of Path
        Manifests or folders, read only if need be.
    languages : sequence of str, optional
        Codes to learn instead of the file's.
    init : Path, optional
        Run or checkpoint to begin with; the shipped one if there is none.

    Returns
    -------
    RunConfig
        Its languages are called as in a manifest: ``zh-CN`` is ``zh``.

    Raises
    ------
    EdgelidError
        If a file is missing or does not fit, or a code is none of a language.
    """
    values = read_toml(file)
    data = values.setdefault("data", {})
    if not isinstance(data, dict):
        return from_dict(RunConfig, values, str(file))  # which says what is wrong
    if languages:
        data["languages"] = list(languages)
    elif "languages" not in data:
        data["languages"] = _targets(corpora)
    if "model" not in values:
        begun = load_checkpoint(init or TRUNK).config
        values["model"], values["front_end"] = asdict(begun.model), asdict(begun.front_end)
    config = from_dict(RunConfig, values, str(file))
    where = "--languages" if languages else str(file)
    return _understood(config, where)


def _targets(corpora: Sequence[Path]) -> list[str]:
    """Languages of corpora that are to be classes."""
    found: set[str] = set()
    for corpus in corpora:
        rows = read_rows(corpus).rows.filter(pl.col("target"))
        found.update(rows["language"].cast(pl.String).unique())
    if not found:
        raise EdgelidError("the corpus has no language to learn: name some with --languages")
    return sorted(found)


def _understood(config: RunConfig, where: str) -> RunConfig:
    """The same with the codes of a manifest."""
    data = config.data
    try:
        changed = dataclasses.replace(
            data,
            languages=tuple(_codes(data.languages, where)),
            development=dict(
                zip(_codes(data.development, where), data.development.values(), strict=True)
            ),
        )
    except ValueError as error:  # one language by two names
        raise EdgelidError(f"{where}: {error}") from error
    return dataclasses.replace(config, data=changed)


def _codes(given: Iterable[str], where: str) -> list[str]:
    found = []
    for code in given:
        language = code if code in (OTHER, NONSPEECH) else from_code(code)
        if language is None:
            raise EdgelidError(f"{where}: {code!r} is no code of a language, such as de or zh-CN")
        found.append(language)
    return found
