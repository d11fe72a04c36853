"""What the yardstick has written is read back, or refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.errors import EdgelidError
from train.corpus.cuts import Cut
from train.corpus.manifest import Clip
from train.evaluation import yardstick
from train.evaluation.yardstick import cut_key, read_yardstick, score_cuts

CUT = Cut("de", True, "anna", "home", "human", 0, 1.0, (("a.wav", 0.0, 1.0),))
OTHER_PIECE = Cut("de", True, "anna", "home", "human", 0, 1.0, (("b.wav", 0.0, 1.0),))
REPORT = json.dumps({"recogniser": "Oracle", "languages": ["de", "en", "fr"]})
SCORES = json.dumps(["key", [-1.0, -2.0, -0.5]]) + "\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """With the files of the cuts, whose contents nobody decodes here."""
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("speech")
    return tmp_path


def write(folder: Path, report: str, scores: str | None) -> Path:
    (folder / "y.json").write_text(report)
    if scores is not None:
        (folder / "y.json.scores").write_text(scores)
    return folder / "y.json"


def test_read_back(corpus: Path) -> None:
    scores = json.dumps([cut_key(CUT, corpus), [-1.0, -2.0, -0.5]])
    found = read_yardstick(write(corpus, REPORT, scores), corpus)
    assert found.name == "Oracle"
    assert found.has(CUT)
    assert not found.has(OTHER_PIECE)
    expected = np.exp([-2.0, -1.0]) / np.exp([-2.0, -1.0]).sum()
    answers = np.exp(found.log_probabilities([CUT, CUT], ["en", "de"]))
    np.testing.assert_allclose(answers, [expected, expected])
    with pytest.raises(EdgelidError, match="does not know it, nl"):
        found.log_probabilities([CUT], ["it", "de", "nl"])


def test_a_changed_file_is_scored_anew(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load(cut: Cut, folder: Path) -> NDArray[np.float32]:
        asked.append((folder / cut.pieces[0][0]).read_text())
        return np.zeros(16_000, np.float32)

    def run_again() -> float:
        yardstick._digest.cache_clear()  # as of another process
        scores = score_cuts(lambda _: np.array([float(len(asked))]), [CUT], corpus, file)
        return scores[cut_key(CUT, corpus)][0]

    monkeypatch.setattr(yardstick, "load_cut", load)
    file = corpus / "y.json.scores"
    assert [run_again(), run_again()] == [1, 1]
    (corpus / "a.wav").write_text("SPEECH")  # as long, under the same name
    assert run_again() == 2
    assert asked == ["speech", "SPEECH"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match=r"cannot read .*a\.wav: No such file"):
        cut_key(CUT, tmp_path)


@pytest.mark.parametrize(
    ("report", "scores", "message"),
    [
        ("{", SCORES, "is not a report of train.evaluation.yardstick"),
        ("[]", SCORES, "is not a report of train.evaluation.yardstick"),
        ('{"languages": []}', SCORES, "is not a report of train.evaluation.yardstick"),
        (REPORT, None, "keep it beside"),
        (REPORT, "", "keep it beside"),
        (REPORT, "[1, 2", "is not a file of scores"),
        (REPORT, '["key", 3]\n', "is not a file of scores"),
        (REPORT, '["key", [1, 2]]\n', "delete both"),
    ],
)
def test_refused(tmp_path: Path, report: str, scores: str | None, message: str) -> None:
    with pytest.raises(EdgelidError, match=message) as error:
        read_yardstick(write(tmp_path, report, scores), tmp_path)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is said before the work, which takes hours."""
    (tmp_path / "taken").touch()
    clip = Clip("a.wav", "de", "test", True, "anna", "home", "human", 3.0, "", "")
    monkeypatch.setattr(yardstick, "open_manifest", lambda _: None)
    monkeypatch.setattr(yardstick, "human_speech", lambda *_: [clip])
    monkeypatch.setattr(yardstick, "load_whisper", None)  # which would be called
    for output, message in (
        (tmp_path / "taken" / "y.json", "cannot make the folder .*taken: File exists"),
        (tmp_path, "cannot write .*: it is a folder"),
    ):
        with pytest.raises(EdgelidError, match=message):
            yardstick.score_split(tmp_path, "test", [1.0], output, weights=tmp_path)


def test_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(corpus: Path, split: str, *_: object, **__: object) -> None:
        assert split == "dev"
        raise KeyboardInterrupt

    monkeypatch.setattr(yardstick, "score_split", stop)
    assert yardstick.main(["--split", "dev", "--json", str(tmp_path / "y.json")]) == 130
    said = "train.evaluation.yardstick: stopped; the same command goes on\n"
    assert capsys.readouterr().err == said


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(EdgelidError, match="cannot read the yardstick"):
        read_yardstick(tmp_path / "none.json", tmp_path)
