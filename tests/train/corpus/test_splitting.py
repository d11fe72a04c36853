"""Splits by whole speakers: none leaks, the draw depends on names alone, shares come out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import EdgelidError
from train.cli import main
from train.corpus.manifest import SCHEMA, Manifest, divided_speakers, open_manifest, write_parquet
from train.corpus.splitting import Wish, divide
from train.corpus.splitting_report import table

Row = tuple[str, str, str, int, str]  # speaker, language, source, milliseconds, split


def corpus(rows: list[Row]) -> Manifest:
    frame = pl.DataFrame(
        {
            "path": [f"{number}.wav" for number in range(len(rows))],
            "language": [row[1] for row in rows],
            "split": [row[4] for row in rows],
            "target": True,
            "speaker": [row[0] for row in rows],
            "source": [row[2] for row in rows],
            "kind": "human",
            "seconds": [row[3] / 1000 for row in rows],
            "licence": "CC0-1.0",
            "origin": "made here",
        }
    )
    cast = frame.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
    return Manifest(Path("m.parquet"), Path(), cast)


def splits(divided: pl.DataFrame, by: str = "path") -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, split in divided.select(pl.col(by, "split").cast(pl.String)).iter_rows():
        found.setdefault(name, set()).add(split)
    return found


def row(split: st.SearchStrategy[str], languages: int = 3) -> st.SearchStrategy[Row]:
    speakers = st.integers(0, 12).map(lambda n: f"s{n}")
    language = st.integers(0, languages - 1).map(lambda n: f"l{n}")
    source = st.sampled_from(["home", "studio", "web", "radio"])
    return st.tuples(speakers, language, source, st.integers(1, 20_000), split)


ANY = st.lists(row(st.sampled_from(["train", "train", "train", "dev", "test"])), min_size=1)
TRAIN = st.lists(row(st.just("train"), languages=1), min_size=1)


def wishes(*by: str) -> st.SearchStrategy[Wish]:
    dev, test = st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([0.0, 0.1, 0.4])
    return st.builds(Wish, dev, test, st.sampled_from(by), st.integers(0, 3), st.booleans())


# A group of polars takes its threads some milliseconds, however few the rows.
FEW = settings(max_examples=60)


@FEW
@given(ANY, wishes("speaker", "source"), st.randoms(use_true_random=False))
def test_nothing_leaks_and_only_names_matter(rows: list[Row], wish: Wish, random: object) -> None:
    manifest = corpus(rows)
    try:
        divided = divide(manifest, wish)
    except EdgelidError as error:
        assert "in dev and in test already" in str(error)
        assert not wish.afresh
        return
    assert divided.drop("split").equals(manifest.rows.drop("split"))
    assert not len(divided_speakers(divided))
    if wish.by == "source":
        assert all(len(found) == 1 for found in splits(divided, "source").values())
    if not wish.afresh:
        before, after = manifest.rows["split"], divided["split"]
        assert after.filter(before != "train").equals(before.filter(before != "train"))
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    again = divide(Manifest(manifest.file, manifest.root, manifest.rows[order]), wish)
    assert splits(again) == splits(divided)


@FEW
@given(TRAIN, wishes("speaker"))
def test_shares_are_as_near_as_whole_units_allow(rows: list[Row], wish: Wish) -> None:
    divided = divide(corpus(rows), wish).with_columns(
        (pl.col("seconds") * 1000).round().cast(pl.Int64).alias("ms")
    )
    total = divided["ms"].sum()
    units = divided.group_by("speaker", "split").agg(pl.col("ms").sum())
    train = units.filter(pl.col("split") == "train")["ms"].to_list()
    wanted = {name: wish.shares[name] for name in ("dev", "test") if wish.shares[name]}
    assert train
    there = set(units["split"].cast(pl.String))
    assert there <= {"train", *wanted}
    if len(units) > len(wanted):
        assert there == {"train", *wanted}
    elif len(units) == 2:
        assert "test" in there or "test" not in wanted
    if len(train) == 1:
        return
    for name, share in wanted.items():
        held = units.filter(pl.col("split") == name)["ms"]
        lack = round(share * total) - held.sum()
        # No other speaker would bring it nearer, and it is no further off than one of its own.
        assert all(abs(lack - ms) >= abs(lack) for ms in train)
        assert lack > 0 or -lack <= held.max()


def test_many_speakers_come_out_as_wished_in_each_source() -> None:
    rows = [
        (f"{language}{number}", language, ("home", "web")[number % 3 == 0], 900 + number, "train")
        for language, count in (("de", 900), ("en", 300))
        for number in range(count)
    ]
    divided = divide(corpus(rows), Wish(0.1, 0.2))
    for keys, off in ((["language"], 0.002), (["language", "source"], 0.02)):
        for name, share in (("dev", 0.1), ("test", 0.2)):
            held = pl.col("seconds").filter(pl.col("split") == name).sum()
            shares = divided.group_by(keys).agg(held / pl.col("seconds").sum())["seconds"]
            assert all(abs(found - share) < off for found in shares)


def test_a_speaker_of_two_languages_and_sources_stays_whole() -> None:
    rows = [("both", "de", "home", 1000, "train"), ("both", "en", "web", 1000, "train")]
    rows += [(f"{c}{n}", c, "home", 1000, "train") for c in ("de", "en") for n in range(9)]
    for seed in range(20):
        divided = divide(corpus(rows), Wish(0.1, 0.1, seed=seed))
        assert len(splits(divided, "speaker")["both"]) == 1
        counts = divided.group_by("language", "split").len()
        assert len(counts) == 6


def test_the_seed_draws() -> None:
    manifest = corpus([(f"s{n}", "de", "home", 1000, "train") for n in range(50)])
    drawn = {str(sorted(splits(divide(manifest, Wish(0.1, 0.1, seed=s))).items())) for s in (1, 2)}
    assert len(drawn) == 2


def test_the_same_draw_for_ever() -> None:
    manifest = corpus([(f"s{n}", "de", "home", 1000, "train") for n in range(10)])
    found = splits(divide(manifest, Wish(0.2, 0.2)), "speaker")
    held = {split: {s for s, f in found.items() if f == {split}} for split in ("dev", "test")}
    assert held == HELD


HELD = {"dev": {"s3", "s6"}, "test": {"s2", "s7"}}


def test_a_speaker_follows_what_is_held_out_already() -> None:
    rows = [("s0", "de", "home", 1000, "train"), ("s0", "de", "web", 1000, "test")]
    rows += [(f"s{n}", "de", "home", 1000, "train") for n in range(1, 20)]
    assert splits(divide(corpus(rows), Wish(0, 0.01)), "speaker")["s0"] == {"test"}


def test_held_out_twice_is_refused() -> None:
    rows = [("anna", "de", "home", 1000, split) for split in ("dev", "test")]
    with pytest.raises(EdgelidError, match="the speaker anna is in dev and in test already"):
        divide(corpus(rows), Wish(0.1, 0.1))
    divide(corpus(rows), Wish(0.1, 0.1, afresh=True))


def test_what_cannot_be_divided() -> None:
    with pytest.raises(EdgelidError, match="lists no clip"):
        divide(corpus([]), Wish(0.1, 0.1))
    rows = corpus([("anna", "de", "home", 1000, "train")]).rows
    with pytest.raises(EdgelidError, match=r"lists 0\.wav twice"):
        divide(Manifest(Path("m.parquet"), Path(), pl.concat([rows, rows])), Wish(0.1, 0.1))


def test_small_languages_are_told_of() -> None:
    rows = [("a", "fr", "home", 1000, "train")]
    rows += [(f"b{n}", "it", "home", 1000, "train") for n in range(2)]
    rows += [(f"c{n}", "de", "home", 1000, "train") for n in range(20)]
    wish = Wish(0.1, 0.1)
    divided = divide(corpus(rows), wish)
    found = splits(divided, "language")
    assert found == {"fr": {"train"}, "it": {"train", "test"}, "de": {"train", "dev", "test"}}
    lines = table(divided, wish)
    assert max(map(len, lines)) <= 80
    assert "no test, for want of another speaker to give away: fr" in lines
    assert "no dev, for want of another speaker to give away: fr, it" in lines
    assert any(line.startswith("test is over 5 % off the wish") for line in lines)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(f"s{n}", "de", "home", 1000, "train") for n in range(10)]
    source, output = tmp_path / "m.parquet", tmp_path / "out.parquet"
    write_parquet(corpus(rows).rows.lazy(), source, tmp_path)
    options = ["--dev", "0.2", "--test", "0.1", "--by", "speaker", "--seed", "5"]
    assert main(["split", str(source), "-o", str(output), *options]) == 0
    assert "20.0%" in capsys.readouterr().out
    manifest = open_manifest(output)
    assert manifest.root == tmp_path
    assert sorted(manifest.rows["split"].cast(pl.String)) == ["dev"] * 2 + ["test"] + ["train"] * 7


def test_of_a_text(tiny_corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    assert main(["split", str(tiny_corpus), "-o", str(output), "--by", "source"]) == 0
    manifest = open_manifest(output)
    assert all((manifest.root / path).is_file() for path in manifest.rows["path"])
    assert splits(manifest.rows, "source")["field"] == {"test"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dev", "0.6", "--test", "0.4"], "--dev and --test must be at least 0"),
        (["--dev", "nan"], "--dev and --test must be at least 0"),
        (["--promote", "sv", "--afresh"], "--afresh divides all rows"),
        (["--promote", "fi"], "has no speech in fi: it has de, en, sv"),
        (["-o", "x.tsv"], "--output is Parquet"),
        (["-o", "none/x.parquet"], "cannot write none/x.parquet"),
    ],
)
def test_in_one_sentence(
    tiny_corpus: Path,
    tmp_path: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = ["-o", str(tmp_path / "out.parquet")]
    assert main(["split", str(tiny_corpus), *output, *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_not_over_data_of_others(
    tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.parquet"
    pl.DataFrame({"audio": ["x"]}).write_parquet(output)
    before = output.read_bytes()
    assert main(["split", str(tiny_corpus), "-o", str(output)]) == 1
    assert "exists, and is no manifest of edgelid" in capsys.readouterr().err
    assert output.read_bytes() == before
    output.write_bytes(b"")  # as of mktemp
    for _ in range(2):  # and over its own
        assert main(["split", str(tiny_corpus), "-o", str(output)]) == 0


def test_promoting_a_language(tiny_corpus: Path, tmp_path: Path) -> None:
    """It becomes a target and is divided; every other row stays as it is."""
    output = tmp_path / "out.parquet"
    arguments = ["split", str(tiny_corpus), "-o", str(output), "--promote", "sv-SE", "--dev", "0.3"]
    assert main(arguments) == 0
    before, after = open_manifest(tiny_corpus).rows, open_manifest(output).rows
    others = pl.col("language").cast(pl.String) != "sv"
    assert after.filter(others).equals(before.filter(others))
    swedish = after.filter(~others)
    assert swedish["target"].all()
    assert not before.filter(~others)["target"].any()
    assert set(swedish["split"]) == {"train", "dev", "test"}
    held_out = before.filter(~others, pl.col("split") == "test")["path"]
    assert set(held_out) <= set(swedish.filter(pl.col("split") == "test")["path"])


def test_who_speaks_another_language_too_is_not_moved() -> None:
    rows = [("anna", "ml", "home", 1000, "train"), ("anna", "de", "home", 1000, "train")]
    rows += [(f"s{n}", "ml", "home", 1000, "train") for n in range(4)]
    divided = divide(corpus(rows), Wish(0.4, 0.4, only=("ml",)))
    assert splits(divided, "speaker")["anna"] == {"train"}
    assert splits(divided, "language") == {"ml": {"train", "dev", "test"}, "de": {"train"}}
