"""Scores worked out by hand, and the same answers as the command that people use."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import soundfile

from edge.classifier import StreamingClassifier
from edge.errors import EdgelidError
from edge.frontend import SAMPLE_RATE_HZ, Float32Array, Float64Array
from edge.model.interpreter import open_graphs
from edge.model.modelfile import ModelFile, read_model
from edge.offline import Classification, RecordingClassifier, classify_file
from edge.opinion.expert import ExpertFile
from tests.conftest import Conversion
from tests.synthetic import DEVELOPMENT
from train.corpus.cuts import SEED, Cut, balanced, cuts, load_cut, load_cuts
from train.corpus.manifest import open_manifest, write_parquet
from train.evaluation.conditions import CLEAN, Sounds, find_sounds
from train.evaluation.evaluate import Evaluation, evaluate_model
from train.evaluation.html_report import page
from train.evaluation.inference import Scorer, Setup, Trial, score_audio
from train.evaluation.open_set import POINTS
from train.evaluation.report import table, write_json
from train.evaluation.scores import Scored, among
from train.evaluation.streams import OF_SEGMENTS
from train.evaluation.yardstick import cut_key

LABELS = ("de", "en", "other", "nonspeech")
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def test_cuts(tiny_corpus: Path) -> list[Cut]:
    clips = [clip for clip in open_manifest(tiny_corpus).clips() if clip.split == "test"]
    return cuts(clips, duration_s=10.0, seed=SEED)


def stream(
    conversion: Conversion, audio: Path, some: Cut, languages: list[str] | None
) -> Float64Array:
    model = read_model(conversion.path)
    classifier = StreamingClassifier(model, open_graphs(model), [some.duration_s], languages)
    return np.exp(score_audio(classifier, load_cut(some, audio)))


def classified(
    classifier: RecordingClassifier, some: Cut, audio: Path, folder: Path
) -> Classification:
    file = folder / "cut.wav"
    soundfile.write(file, load_cut(some, audio), SAMPLE_RATE_HZ, subtype="FLOAT")
    return classify_file(classifier, file)


def test_scores_as_classify_does(
    tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut], tmp_path: Path
) -> None:
    model = read_model(tiny_conversion.path)
    classifier = RecordingClassifier(model, open_graphs(model))
    setup = Setup(tiny_conversion.path, tiny_corpus, Sounds((), (), ()), tmp_path)
    found = Scorer(setup).trials_both_ways([Trial(some, CLEAN) for some in test_cuts])
    for some, (begun, whole) in zip(test_cuts, found, strict=True):
        answer = classified(classifier, some, tiny_corpus, tmp_path)
        np.testing.assert_allclose(np.exp(whole), list(answer.probabilities.values()), rtol=1e-9)
        expected = stream(tiny_conversion, tiny_corpus, some, None)
        np.testing.assert_allclose(np.exp(begun), expected, rtol=1e-9)


def test_reads_every_cut_once(
    tiny_conversion: Conversion, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is heard both as a stream begins and as a recording."""
    read: list[Cut] = []

    def load(found: list[Cut], folder: Path) -> list[Float32Array]:
        read.extend(found)
        return load_cuts(found, folder)

    monkeypatch.setattr("train.evaluation.inference.load_cuts", load)
    report = evaluate_model(evaluation(tiny_conversion, tiny_corpus, streams=0))
    assert "recordings" in report["durations"]["1"]
    assert len(read) == len({some.item_key for some in read}) > 3


def test_scores_as_classify_hears_at_first(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    test_cuts: list[Cut],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = read_model(tiny_conversion.path)
    classifier = RecordingClassifier(model, open_graphs(model))
    monkeypatch.setattr(classifier, "_again_s", 0.0)
    apart = []
    for some in test_cuts:
        answer = classified(classifier, some, tiny_corpus, tmp_path)
        expected = stream(tiny_conversion, tiny_corpus, some, None)
        scores = np.log(list(answer.probabilities.values()))
        apart.append(np.abs(scores - np.log(expected)).max())
    # Sums of the same embeddings, added up otherwise, may round to the next of 8-bit scores, which
    # are 0.04 apart.
    assert max(apart) < 0.06 and np.median(apart) < 1e-6


def test_among_is_the_choice_that_is_left(
    tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut]
) -> None:
    some = test_cuts[0]
    everything = stream(tiny_conversion, tiny_corpus, some, None)
    closed = among(Scored([some], np.log(everything)[None], LABELS), ["de", "en"])
    expected = everything[:2] / everything[:2].sum()
    np.testing.assert_allclose(np.exp(closed.log_probabilities[0]), expected, rtol=1e-6)
    # What `classify --languages` answers: the evaluation's classifier masks as it does.
    masked = stream(tiny_conversion, tiny_corpus, some, ["en"])
    np.testing.assert_allclose(masked[[1, 3]], everything[[1, 3]], rtol=1e-9)
    assert masked[2] == pytest.approx(everything[0] + everything[2])


def evaluation(conversion: Conversion, corpus: Path, **changes: Any) -> Evaluation:
    some = Evaluation(
        conversion.path,
        corpus,
        durations_s=[1.0, 10.0],
        per_language=3,
        conditions=["noise-0"],
        streams=1,
    )
    return dataclasses.replace(some, **changes)


@pytest.fixture(scope="module")
def short_stream() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.evaluation.evaluate.STREAM_S", 30.0)
        patch.setattr("train.evaluation.evaluate.HOME_S", 90.0)
        yield


@pytest.fixture(scope="module")
def report(tiny_conversion: Conversion, tiny_corpus: Path, short_stream: None) -> dict[str, Any]:
    return evaluate_model(evaluation(tiny_conversion, tiny_corpus))


def test_evaluate_model(
    report: dict[str, Any], tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut]
) -> None:
    assert report["split"] == "test"
    assert list(report["durations"]) == ["1", "10"]
    known = [c for c in test_cuts if c.language in ("de", "en")]
    known = balanced(known, per_language=3, seed=SEED)
    entry = report["durations"]["10"]
    answers = [
        LABELS[int(stream(tiny_conversion, tiny_corpus, some, None).argmax())] for some in known
    ]
    hits = [answer == some.language for answer, some in zip(answers, known, strict=True)]
    assert entry["open"]["cuts"] == len(known) == 2
    assert entry["open"]["accuracy"] == np.mean(hits)
    assert entry["languages"]["cuts"] == len(known)
    pair = entry["pairs"]["by_pair"]["de,en"]
    assert pair["cuts"] == 2
    assert pair["accuracy"] == entry["languages"]["balanced_accuracy"]  # it knows no others
    masked = [stream(tiny_conversion, tiny_corpus, some, ["de", "en"]) for some in known]
    hits = [LABELS[int(m.argmax())] == some.language for m, some in zip(masked, known, strict=True)]
    assert pair["open"] == np.mean(hits)
    one = report["durations"]["1"]
    assert one["languages"]["cuts"] == 4  # of each speaker, one in each item of 10 s or less


def test_other_languages_are_kept_out_in_two_ways(
    report: dict[str, Any], tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut]
) -> None:
    cuts = [c for c in test_cuts if c.language in ("de", "en")]
    cuts = balanced(cuts, per_language=3, seed=SEED)
    columns = [LABELS.index("de"), LABELS.index("en")]
    found = np.stack([stream(tiny_conversion, tiny_corpus, c, None)[columns] for c in cuts])
    by_confidence = report["open_set"]["at_10_percent_rejected"]
    together = report["open_set"]["known_at_10_percent_rejected"]
    assert by_confidence["threshold"] == pytest.approx(found.max(axis=1).min(), abs=1e-4)
    assert together["threshold"] == pytest.approx(found.sum(axis=1).min(), abs=1e-4)
    assert together["known_rejected"] == 0
    assert together["strangers_accepted"] in (0, 1)  # of one


def test_what_else_is_measured(report: dict[str, Any], tiny_conversion: Conversion) -> None:
    assert list(report["conditions"]) == ["clean", "noise-0"]
    assert report["condition_duration_s"] == 10
    clean = report["conditions"]["clean"]
    assert clean["balanced_accuracy"] == report["durations"]["10"]["languages"]["balanced_accuracy"]
    assert (report["open_set"]["known"], report["open_set"]["strangers"]) == (2, 1)
    confidence = tiny_conversion.description.decoder.confidence
    assert report["open_set"]["at_decoder_confidence"]["threshold"] == confidence
    assert list(report["open_set"]["by_language"]) == ["sv"]
    assert "noise" not in report  # all of it is shorter than 10 s
    heard = [row["recordings"] for row in (*report["conditions"].values(), report["open_set"])]
    *conditions, strangers = heard
    assert [row["cuts"] for row in conditions] == [clean["cuts"]] * 2
    again = report["durations"]["10"]["recordings"]["languages"]
    assert conditions[0]["balanced_accuracy"] == again["balanced_accuracy"]
    assert strangers["at_decoder_confidence"]["threshold"] == confidence
    assert report["streams"]["minutes"] >= 0.5
    of_two = report["streams_of_two"]
    assert of_two["streams"] == report["streams"]["streams"]
    assert of_two["minutes"] >= 1.5 and of_two["changes"] > report["streams"]["changes"]
    assert [*report["streams"]["recordings"]] == [*of_two["recordings"]] == [*OF_SEGMENTS]
    assert "  divided by edgelid classify: " in "\n".join(table(report))
    assert report["yardstick"] is None


def test_what_no_report_shows_is_not_written(report: dict[str, Any]) -> None:
    """Of cuts as recordings, by source or as curves; nor is it in what is published."""
    published = json.loads((ROOT / "docs/results/edgelid-9-test.json").read_text())
    for some in (report, published):
        assert [*some["open_set"]["recordings"]] == [*POINTS]
        heard = some["durations"]["10"]["recordings"]
        assert [*heard] == ["languages", "open"]
        lists = {"by_language", "by_source", "confusion", "reliability"}
        assert not lists & {*heard["languages"], *heard["open"]}


def test_a_report_is_the_same_from_any_number_of_processes(
    report: dict[str, Any], tiny_conversion: Conversion, tiny_corpus: Path, short_stream: None
) -> None:
    assert evaluate_model(evaluation(tiny_conversion, tiny_corpus, workers=2)) == report


@pytest.fixture(scope="module")
def both(tiny_conversion: Conversion, tiny_corpus: Path, short_stream: None) -> dict[str, Any]:
    path = str(tiny_conversion.path)  # it serves as its own second opinion
    return evaluate_model(evaluation(tiny_conversion, tiny_corpus, second_opinion=path))


def test_both_models_together(
    report: dict[str, Any],
    both: dict[str, Any],
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    test_cuts: list[Cut],
    tmp_path: Path,
) -> None:
    path = str(tiny_conversion.path)
    assert both["second_opinion"] == path
    assert "second_opinion" not in report
    assert both["durations"].keys() == report["durations"].keys()
    assert both["streams"]["decoder"] == report["streams"]["decoder"]
    assert both["durations"] != report["durations"]
    assert "open" not in both["durations"]["10"]["pairs"]
    # Its ceiling is the model alone, whose figures are known.
    assert "ceiling" not in report
    for duration, alone in both["ceiling"]["durations"].items():
        assert alone == {k: report["durations"][duration][k] for k in ("languages", "pairs")}
    assert both["ceiling"]["open_set"] == {name: report["open_set"][name] for name in POINTS}
    assert "tiny alone, 10 s: " in "\n".join(table(both))
    model = read_model(path)
    classifier = RecordingClassifier(model, open_graphs(model), second=ExpertFile(path, LABELS))
    beside = tiny_corpus.parent
    setup = Setup(tiny_conversion.path, tiny_corpus, find_sounds(beside), beside / "noise", path)
    (scores,) = Scorer(setup).trials([Trial(test_cuts[0], CLEAN)])
    file = tmp_path / "cut.wav"
    soundfile.write(file, load_cut(test_cuts[0], tiny_corpus), SAMPLE_RATE_HZ, subtype="FLOAT")
    answer = classify_file(classifier, file)
    np.testing.assert_allclose(np.exp(scores), [*answer.probabilities.values()], rtol=1e-9)


def test_natural_speech_beside_synthetic(
    tiny_conversion: Conversion, tiny_corpus: Path, tmp_path: Path
) -> None:
    """On what was held out for decisions; no figure of natural speech has any other in it."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for part in tiny_corpus.iterdir():
        if part.is_dir():
            (corpus / part.name).symlink_to(part)
    for name in ("noise", "rir"):
        (tmp_path / name).symlink_to(tiny_corpus.parent / name)
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines()
    made = [
        line.replace("\thuman\t", "\ttts\t") if f"\t{DEVELOPMENT}-de-0\t" in line else line
        for line in lines
    ]
    assert made != lines
    reports = []
    for some in (lines, made):
        (corpus / "manifest.tsv").write_text("\n".join(some) + "\n")
        request = evaluation(
            tiny_conversion,
            corpus,
            split="dev",
            held_out={"de": [DEVELOPMENT], "en": [DEVELOPMENT]},
            durations_s=[1.0],
            conditions=["clean"],
            streams=0,
        )
        reports.append(evaluate_model(request))
    people, both = reports
    before, after = (r["durations"]["1"]["languages"] for r in reports)
    heard = people["durations"]["1"]["recordings"]
    assert heard["languages"]["cuts"] == people["durations"]["1"]["languages"]["cuts"]
    assert "as edgelid classify hears it, 1 s: " in "\n".join(table(people))
    synthetic = both["durations"]["1"]["synthetic"]
    assert "synthetic" not in people["durations"]["1"]
    assert synthetic["languages"] == ["de"]
    assert synthetic["speakers"] == 1
    assert before["cuts"] == after["cuts"] + synthetic["cuts"]
    assert before["by_language"]["en"]["cuts"] == after["by_language"]["en"]["cuts"]
    assert list(after["by_source"]) == [DEVELOPMENT]
    assert both["held_out"] == {"de": [DEVELOPMENT], "en": [DEVELOPMENT]}
    assert f"synthetic speech, {synthetic['cuts']} cuts of 1 s: " in "\n".join(table(both))


def test_what_a_budget_brings(both: dict[str, Any], report: dict[str, Any]) -> None:
    found = both["budget"]
    assert "budget" not in report
    assert found["durations"].keys() == report["durations"].keys()
    assert found["conditions"].keys() == report["conditions"].keys()
    rows = [
        (row, *(entry["durations"][name]["languages"] for entry in (report, both)))
        for name, row in found["durations"].items()
    ]
    rows += [
        (row, *(entry["conditions"][name] for entry in (report, both)))
        for name, row in found["conditions"].items()
    ]
    for row, alone, together in rows:
        curve = row["curve"]
        assert [curve[0][key] for key in ("asked", "share")] == [0, 0]
        assert curve[0]["balanced_accuracy"] == alone["balanced_accuracy"]
        assert curve[-1]["balanced_accuracy"] == together["balanced_accuracy"]
        shares = [point["share"] for point in curve]
        assert shares == sorted(shares)
        # The compact model is its own large one.
        assert row["large"]["balanced_accuracy"] == alone["balanced_accuracy"]
    expected = np.ceil(10 / found["window_s"]) * found["answer_s"] / 10
    assert found["durations"]["10"]["curve"][-1]["share"] == pytest.approx(expected, abs=1e-4)


def test_streams_by_budget(both: dict[str, Any], report: dict[str, Any]) -> None:
    found = both["budget"]
    compact, *budgeted, large = found["streams"]
    assert [row["by"] for row in found["streams"]] == ["compact", *["both"] * 5, "large"]
    measures = [name for name in compact if name in report["streams"]]
    assert len(measures) > 5
    for name in measures:
        assert compact[name] == large[name] == report["streams"][name]
    for row in budgeted:
        assert 0 <= row["share"] <= row["budget"]
        taken = row["answers_a_minute"] * found["answer_s"] / 60
        assert row["share"] == pytest.approx(taken, abs=2e-4)
    assert [row["at_once"] for row in budgeted] == [False] * 4 + [True]
    (default,) = (row for row in budgeted if row["budget"] == 0.25)
    assert {name: default[name] for name in measures} == {
        name: both["streams"][name] for name in measures
    }


def test_a_budget_is_told(both: dict[str, Any], report: dict[str, Any]) -> None:
    lines = table(both)
    assert any(line.startswith("both, at most 3%") for line in lines)
    assert any("50% asked" in line for line in lines)
    assert max(map(len, lines)) <= 100
    title = "What a second opinion brings"
    assert title in page(both)
    assert title not in page(report)


def test_all_conditions_that_there_are_sounds_for(
    tiny_conversion: Conversion, tiny_corpus: Path
) -> None:
    report = evaluate_model(
        evaluation(tiny_conversion, tiny_corpus, durations_s=[3.0], conditions=None, streams=0)
    )
    assert "babble-10" not in report["conditions"]  # there are no voices in the test split
    assert {"clean", "noise-20", "noise-0", "room", "telephone", "mp3", "opus"} <= {
        *report["conditions"]
    }
    assert report["noise"]["windows"] == 1
    assert "streams" not in report


def test_table(report: dict[str, Any]) -> None:
    lines = table(report)
    text = "\n".join(lines)
    assert lines[0].startswith("tiny (sha256 ")
    assert text.count("1 s") >= 2
    assert text.count("10 s") >= 2
    for word in ("de", "noise, 0 dB", "other languages", *POINTS.values(), "delay"):
        assert word in text
    assert max(map(len, lines)) <= 100


def test_one_language(
    tiny_conversion: Conversion, tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any answer is right among one: what tells are all classes, and JSON has no NaN."""
    monkeypatch.setattr(ModelFile, "languages", ("de",))
    report = evaluate_model(evaluation(tiny_conversion, tiny_corpus, streams=0))
    json.dumps(report, allow_nan=False)
    assert "detection_curve" not in report
    row = report["durations"]["1"]
    assert not {"cavg", "eer"} & {*row["languages"], *row["languages"]["intervals"]}
    lines = table(report)
    (line,) = (line for line in lines if line.startswith("all classes possible, 1 s: "))
    assert f"{row['open']['balanced_accuracy']:.1%}" in line
    assert any(line.split().count("–") == 2 for line in lines)
    assert page(report)


def test_json(report: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    write_json(file, report)
    assert json.loads(file.read_text()) == report
    with pytest.raises(EdgelidError, match="cannot write"):
        write_json(tmp_path / "none" / "report.json", report)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"durations_s": []}, "give a duration"),
        ({"per_language": 0}, "at least one cut"),
        ({"durations_s": [11.0]}, "at most 10 s"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"streams": -1}, "--streams must be at least 0"),
        ({"held_out": {"de": ["attic"]}}, "give it with --split dev"),
        (
            {"held_out": {"de": ["loft"]}, "split": "dev"},
            "no training clips in de from loft: correct",
        ),
        ({"conditions": ["rain"]}, "there is no condition rain: choose from clean, noise-20"),
        ({"conditions": ["babble-10"]}, "has nothing for babble-10"),
    ],
)
def test_nothing_to_score(
    tiny_conversion: Conversion, tiny_corpus: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(EdgelidError, match=message):
        evaluate_model(evaluation(tiny_conversion, tiny_corpus, **changes))


def test_a_split_without_known_speech(
    tiny_conversion: Conversion, tiny_corpus: Path, tmp_path: Path
) -> None:
    lines = (tiny_corpus / "manifest.tsv").read_text().splitlines()
    kept = [line for line in lines if line.startswith(("path", "sv"))]
    (tmp_path / "manifest.tsv").write_text("\n".join(kept) + "\n")
    with pytest.raises(EdgelidError, match="split test has no 1 s of speech"):
        evaluate_model(evaluation(tiny_conversion, tmp_path))


def test_speech_of_one_language_is_in_no_stream(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said before the work, and what can be scored is."""
    manifest = open_manifest(tiny_corpus)
    rows = manifest.rows.filter(pl.col("language").cast(pl.String) == "de")
    write_parquet(rows.lazy(), tmp_path / "m.parquet", manifest.root)
    report = evaluate_model(
        evaluation(tiny_conversion, tmp_path / "m.parquet", durations_s=[1.0], conditions=["clean"])
    )
    assert "streams" not in report
    assert report["durations"]["1"]["languages"]["languages"] == ["de"]
    assert "all speech in split test is of one class: no stream that changes" in caplog.text


def write_yardstick(
    folder: Path, found: list[Cut], corpus: Path, languages: Sequence[str] = ("en", "de")
) -> Path:
    file = folder / "yardstick.json"
    file.write_text(json.dumps({"recogniser": "Oracle, large", "languages": languages}))
    scores = {"de": [-9.0, -0.01], "en": [-0.01, -9.0], "sv": [-0.01, -9.0]}
    rows = ([cut_key(some, corpus), scores[some.language]] for some in found)
    file.with_name("yardstick.json.scores").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
    return file


def test_a_yardstick_has_its_column(
    tiny_conversion: Conversion, tiny_corpus: Path, test_cuts: list[Cut], tmp_path: Path
) -> None:
    file = write_yardstick(tmp_path, test_cuts, tiny_corpus)
    report = evaluate_model(
        evaluation(tiny_conversion, tiny_corpus, yardstick=file, conditions=["clean"], streams=0)
    )
    assert report["yardstick"] == "Oracle, large"
    assert "yardstick" not in report["durations"]["1"]
    both = report["durations"]["10"]["yardstick"]
    assert both["cuts"] == 2
    assert both["yardstick"]["balanced_accuracy"] == 1
    ours = report["durations"]["10"]["languages"]
    assert both["model"]["balanced_accuracy"] == ours["balanced_accuracy"]
    assert "on 2 cuts of 10 s: this model" in "\n".join(table(report))


def test_a_yardstick_of_other_cuts(
    tiny_conversion: Conversion, tiny_corpus: Path, tmp_path: Path
) -> None:
    other = Cut("de", True, "anna", "home", "human", 0, 1.0, (("a.wav", 0.0, 1.0),))
    (tmp_path / "a.wav").touch()
    file = write_yardstick(tmp_path, [other], tmp_path)
    with pytest.raises(EdgelidError, match="has none of these cuts"):
        evaluate_model(evaluation(tiny_conversion, tiny_corpus, yardstick=file))


def test_a_yardstick_that_lacks_a_language(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    test_cuts: list[Cut],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That is said before the work."""
    file = write_yardstick(tmp_path, test_cuts, tiny_corpus, ("fr", "de"))
    monkeypatch.setattr("train.evaluation.evaluate.Workers", None)  # which would be called
    with pytest.raises(EdgelidError, match="the yardstick does not know en: leave it out"):
        evaluate_model(evaluation(tiny_conversion, tiny_corpus, yardstick=file))


def test_lengths_that_nobody_speaks_for_are_left_out(
    tiny_conversion: Conversion,
    tiny_corpus: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As of a folder of clips of 2.3 s, whose speakers nobody has named."""
    manifest = open_manifest(tiny_corpus)
    alone = pl.col("path").cast(pl.Categorical).alias("speaker")
    write_parquet(manifest.rows.with_columns(alone).lazy(), tmp_path / "m.parquet", manifest.root)
    report = evaluate_model(
        Evaluation(tiny_conversion.path, tmp_path / "m.parquet", conditions=["clean"], streams=0)
    )
    assert list(report["durations"]) == ["1"]
    assert report["condition_duration_s"] == 1
    assert "nobody in split test speaks for 3, 5, 10 s" in caplog.text
