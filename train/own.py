"""From recordings of one's own to a model file: the single commands, one after the other.

Each runs as a process of its own, as if it had been typed, and is told of as it would be typed.
What is done is noted in the folder of the work; the same command goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

import train
from edge.errors import EdgelidError
from edge.model.modelfile import NONSPEECH, OTHER
from edge.system.atomic import write_atomically
from train.command import check_model_output
from train.config import read_toml
from train.corpus.held_out import check_held_out
from train.corpus.importers.folders import languages_in
from train.corpus.importers.languages import from_code
from train.corpus.importing import Selection
from train.corpus.manifest import DEV, TEST, TRAIN, read_rows
from train.evaluation.metrics import wilson
from train.evaluation.report import share
from train.folder import make_place
from train.own_estimate import estimate

log = logging.getLogger(__name__)

CONFIGS = Path(train.__file__).parent / "configs"
# Below this of the scarcest language, all of a network would learn voices and rooms.
FEW_HOURS = 1.0
# With fewer hours in all, a tenth would be a handful of sentences.
FEW_HELD_OUT, MANY_HELD_OUT = 0.2, 0.1
WANTED_S = 3.0  # of speech, that the last line tells the accuracy for
FEW_SPEAKERS = 10
PROGRAMS = {"edgelid-train": "train.cli", "edgelid-convert": "convert.cli"}


@dataclass(frozen=True)
class Own:
    """What is wanted.

    Attributes
    ----------
    recordings : Path
        Folder of recordings, or the root of a published corpus.
    output : Path
        Model file.
    work : Path
        Folder of everything in between.
    importer : str
        That reads `recordings`.
    languages : tuple of str
        Codes to learn; all other speech is of class ``other``. All languages if there are none.
    hours : float or None
        Of training speech of each language, at most.
    skip_bad : bool
        Leave out recordings that cannot be read.
    sounds, cache : Path or None
        As the single commands take them.
    workers : int
        Processes.
    """

    recordings: Path
    output: Path
    work: Path
    importer: str = "folders"
    languages: tuple[str, ...] = ()
    hours: float | None = None
    skip_bad: bool = False
    sounds: Path | None = None
    cache: Path | None = None
    workers: int = 1

    @property
    def manifest(self) -> Path:
        """What `edgelid-train import` writes."""
        return self.work / "speech.parquet"

    @property
    def divided(self) -> Path:
        """What `edgelid-train split` writes."""
        return self.work / "divided.parquet"

    @property
    def report(self) -> Path:
        """What `edgelid-train evaluate` writes."""
        return self.work / "report.json"


def make(own: Own) -> list[str]:
    """Go through all steps that are left.

    Returns
    -------
    list of str
        What has come of it, in lines.

    Raises
    ------
    EdgelidError
        If a step fails, or there is not speech enough to learn from and to be judged by.
    """
    _check(own)
    steps = _Steps.of(own)
    more = ["--languages", ",".join(own.languages)] if own.languages else []
    most = ["--hours", f"{own.hours:g}"] if own.hours else []
    bad = ["--skip-bad"] if own.skip_bad else []
    sounds = ["--sounds", str(own.sounds)] if own.sounds else []
    cache = ["--cache", str(own.cache)] if own.cache else []
    workers = ["--workers", str(own.workers)]
    imported = ["edgelid-train", "import", own.importer, str(own.recordings)]
    # Of an archive only what is wanted is unpacked; of a folder, others teach what is `other`.
    only = more if own.importer != "folders" else []
    steps.run("import", [*imported, "-o", str(own.manifest), *only, *most, *bad, *workers])
    held_out = _held_out(own)
    steps.run("validate", ["edgelid-train", "validate", str(own.manifest), *workers])
    split = ["edgelid-train", "split", str(own.manifest), "-o", str(own.divided)]
    steps.run("split", [*split, *held_out])
    _check_divided(own)
    features = ["--corpus", str(own.divided), *sounds]
    run = own.work / "run"
    plan = _plan(own)
    fit = ["edgelid-train", "fit", *plan, "--run", str(run), *features, *more, *cache, *bad]
    steps.run("fit", [*fit, *workers])
    convert = ["edgelid-convert", str(run), *features, "-o", str(own.output)]
    steps.run("convert", convert, own.output)
    tested = TEST if _speakers(own, TEST) else DEV
    evaluate = ["edgelid-train", "evaluate", str(own.output), *features, "--split", tested]
    evaluate += ["--conditions", "clean", "--streams", "0", "--json", str(own.report), *workers]
    steps.run("evaluate", evaluate, own.report)
    return [
        *_verdict(own, tested),
        f"to listen: edgelid listen --model {shlex.quote(str(own.output))}",
    ]


def foresee(own: Own) -> list[str]:
    """What `make` would cost, in lines; nothing is written.

    The last of them come from ``edgelid-train fit --dry-run``, printed as it goes.

    Raises
    ------
    EdgelidError
        If there are no recordings, no language is known, or `make` would refuse it at once.
    """
    _check(own)
    languages = own.languages or tuple(languages_in(own.recordings))
    most = own.hours * len(languages) if own.hours and languages else None
    found = estimate(own.recordings, most)
    if not languages:
        raise EdgelidError("name the languages, such as --languages da,sv: no folder is called so")
    is_few = found.hours < FEW_HOURS * len(languages)
    config = CONFIGS / ("own-few.toml" if is_few else "own.toml")
    variants = int(read_toml(config)["data"]["variants"])
    print("\n".join(found.lines(variants, own.workers)), flush=True)
    plan = [str(config), "--init", "shipped", *(["--freeze", "trunk"] if is_few else [])]
    plan += ["--languages", ",".join(languages)]
    _run(["edgelid-train", "fit", *plan, "--dry-run"])
    return ["Conversion and evaluation take some minutes more."]


def _check(own: Own) -> None:
    """Refuse what is known to be in vain before any work."""
    is_packed = own.importer != "folders" and own.recordings.is_file()
    if not (own.recordings.is_dir() or is_packed):
        raise EdgelidError(
            f"{own.recordings} is no folder: give the one that holds a folder a language"
        )
    Selection(hours=own.hours)
    check_model_output(own.output)
    written = {"-o": own.output, "--work": own.work, "--cache": own.cache}
    for option, path in written.items():
        # It would be taken for a recording, and for one that came after the work was begun.
        if path is not None and _is_within(path, own.recordings):
            raise EdgelidError(
                f"{option} {path} would lie among the recordings in {own.recordings}: name a place "
                "outside that folder"
            )


def _is_within(path: Path, folder: Path) -> bool:
    """Whether it is in a folder, or is it: itself, or what it leads to where it is a link."""
    root = os.path.realpath(folder)
    beside = os.path.realpath(Path(os.path.abspath(path)).parent)  # noqa: PTH100 keeps links
    return any(Path(each).is_relative_to(root) for each in (os.path.realpath(path), beside))


# --- steps ------------------------------------------------------------------------------------


@dataclass
class _Steps:
    """Runs commands, and notes those that are done.

    Attributes
    ----------
    file : Path
        Where they are noted.
    recordings : str
        What they are about: another one is other work.
    done : dict of str to str
        Commands by their step.
    is_new : bool
        Whether the folder was made for them.
    """

    file: Path
    recordings: str
    done: dict[str, str] = field(default_factory=dict)
    is_new: bool = False

    @classmethod
    def of(cls, own: Own) -> _Steps:
        """What has been done in a folder.

        Raises
        ------
        EdgelidError
            If it cannot be made or written to, or holds other work.
        """
        file, seen = own.work / "own.json", _fingerprint(own.recordings)
        is_new = not own.work.exists()
        make_place(file)
        if not file.exists():
            if any(own.work.iterdir()):
                raise EdgelidError(
                    f"{own.work} holds other things already: name another folder with --work"
                )
            return cls(file, seen, is_new=is_new)
        try:
            noted: dict[str, Any] = json.loads(file.read_bytes())
            steps = cls(file, str(noted["recordings"]), dict(noted["done"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EdgelidError(f"{file} is damaged: delete {own.work} to begin anew") from error
        if steps.recordings != seen:
            raise EdgelidError(
                f"{own.recordings} has changed since {own.work} was begun: name another folder "
                "with --work, or delete that one"
            )
        return steps

    def run(self, name: str, command: Sequence[str], made: Path | None = None) -> None:
        """Run a command, unless it is done; whatever came after another one is to be done anew.

        Parameters
        ----------
        name : str
        command : sequence of str
        made : Path, optional
            What it leaves that can have been taken away since.
        """
        typed = shlex.join(command)
        if self.done.get(name) == typed and (made is None or made.exists()):
            log.info("done already: %s", typed)
            return
        names = list(self.done)
        for later in names[names.index(name) :] if name in names else ():
            del self.done[later]
        print(f"\n$ {typed}", flush=True)
        try:
            _run(command)
        except BaseException:
            if self.is_new:
                with contextlib.suppress(OSError):  # of what is in it, the next try makes use
                    self.file.parent.rmdir()
            raise
        self.done[name] = typed
        noted = {"recordings": self.recordings, "done": self.done}
        write_atomically(self.file, (json.dumps(noted, indent=1) + "\n").encode())


def _run(command: Sequence[str]) -> None:
    """Run a command of ours; Ctrl-C and the like end it as they would if it had been typed.

    The like are SIGTERM, and SIGHUP of a terminal that is closed: the child, which that does not
    reach, would go on alone.
    """
    program, *arguments = command
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN  # as nohup has it
    }
    try:
        # In a session of its own, so that it hears of Ctrl-C once: from here.
        child = subprocess.Popen(
            [sys.executable, "-m", PROGRAMS[program], *arguments], start_new_session=True
        )
        try:
            status = child.wait()
        except KeyboardInterrupt:
            child.send_signal(signal.SIGINT)
            child.wait()
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if status:
        raise EdgelidError(
            f"{program} {arguments[0]} did not end well (see above): once that is mended, the same "
            "command goes on from there"
        )


def _fingerprint(root: Path) -> str:
    """Changes with the names and sizes of the files in a folder."""
    digest = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape"))
    for entry in _files(root):
        digest.update(entry.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _files(root: Path) -> Iterator[str]:
    if root.is_file():
        yield f"{root.stat().st_size}"
    for parent, inner, names in os.walk(root):
        inner.sort()
        for name in sorted(names):
            path = os.path.join(parent, name)  # noqa: PTH118 a million of them
            try:
                yield f"{path}\0{os.stat(path).st_size}\n"
            except OSError:
                yield f"{path}\0\n"


# --- what there is ----------------------------------------------------------------------------


def _classes(own: Own, languages: Sequence[str]) -> list[str]:
    """The languages to learn, of those that there are, as a manifest calls them."""
    wanted = [from_code(code) or code for code in own.languages] or list(languages)
    if missing := sorted(set(wanted) - set(languages)):
        raise EdgelidError(
            f"--languages: {own.recordings} has no speech in {', '.join(missing)}; it has "
            f"{', '.join(sorted(languages))}"
        )
    return wanted


def _held_out(own: Own) -> list[str]:
    """Options of split: shares that leave enough to judge by, and a test where there can be one.

    Raises
    ------
    EdgelidError
        If a language has a single speaker, or there is only one language.
    """
    rows = read_rows(own.manifest).rows
    found = rows.group_by(pl.col("language").cast(pl.String)).agg(pl.col("speaker").n_unique())
    speakers = dict(found.iter_rows())
    classes = _classes(own, list(speakers))
    if len(speakers) < 2:
        raise EdgelidError(
            f"{own.recordings} has speech in {', '.join(speakers)} alone, which there is nothing "
            "to tell from: add a folder of another language, which --languages may leave out"
        )
    alone = [language for language in sorted(classes) if speakers[language] < 2]
    if alone:
        raise EdgelidError(
            f"one speaker only of {', '.join(alone)}: nobody is left to judge by whom the model "
            "has not heard; add others, each with a folder of their own (LANG/SPEAKER/...)"
        )
    held = rows.filter(pl.col("split") != TRAIN)["split"].unique()
    if DEV in held:
        return []  # as its corpus divides it
    hours = rows["seconds"].sum() / 3600
    part = FEW_HELD_OUT if hours < FEW_HOURS * len(classes) else MANY_HELD_OUT
    tested = part if min(speakers[language] for language in classes) > 2 else 0.0
    return ["--dev", f"{part:g}", "--test", f"{tested:g}"]


def _check_divided(own: Own) -> None:
    """Refuse now what fit and convert would refuse later.

    Raises
    ------
    EdgelidError
    """
    rows = read_rows(own.divided).rows
    classes = _classes(own, rows["language"].cast(pl.String).unique().to_list())
    is_class = pl.col("language").cast(pl.String).is_in(classes)
    for finding in check_held_out(rows.with_columns(is_class.alias("target"))):
        if finding.kind.severity == "error":
            names = ", ".join(each.name for each in finding.examples)
            raise EdgelidError(f"{finding.kind.what} ({names}): {finding.kind.advice}")


def _plan(own: Own) -> list[str]:
    """Configuration and beginning, by how much speech there is to learn from."""
    rows = read_rows(own.divided).rows.filter(pl.col("split") == TRAIN)
    found = rows.group_by(pl.col("language").cast(pl.String)).agg(pl.col("seconds").sum() / 3600)
    hours = dict(found.iter_rows())
    if min(hours[language] for language in _classes(own, list(hours))) < FEW_HOURS:
        return [str(CONFIGS / "own-few.toml"), "--init", "shipped", "--freeze", "trunk"]
    return [str(CONFIGS / "own.toml"), "--init", "shipped"]


def _speakers(own: Own, split: str) -> int:
    """Of a split, in the languages to learn."""
    rows = read_rows(own.divided).rows
    classes = _classes(own, rows["language"].cast(pl.String).unique().to_list())
    held = rows.filter(pl.col("split") == split, pl.col("language").cast(pl.String).is_in(classes))
    return held["speaker"].n_unique()


# --- what has come of it ----------------------------------------------------------------------


def _verdict(own: Own, tested: str) -> Iterator[str]:
    """How good the model is, and how sure that is."""
    report = json.loads(own.report.read_bytes())
    durations, labels = report["durations"], set(report["labels"])
    length = min(durations, key=lambda each: abs(float(each) - WANTED_S))
    told = durations[length]["languages"]
    by_language, speakers = told["by_language"], told["speakers"]
    languages = sorted(labels - {OTHER, NONSPEECH})  # some may have no stretch so long
    # Among one language any answer is right: there `other` and `nonspeech` must be possible.
    is_alone = len(languages) < 2
    row = durations[length]["open"] if is_alone else told
    accuracy = row["balanced_accuracy"]
    chance = f"chance {1 / len(languages):.0%}"
    # The cuts of a speaker are alike. So the interval is no narrower than if each speaker had
    # been asked once; a bootstrap of answers that are all right would have no width at all.
    few = wilson(accuracy, speakers)
    drawn = row["intervals"]["balanced_accuracy"]
    ends = [min(few[0], drawn[0]), max(few[1], drawn[1])]
    yield ""
    yield (
        f"right for {share(accuracy, ends)} of {length} s of speech (95 % interval), "
        f"{row['cuts']} stretches of {speakers} speakers whom it has not learnt from, "
        + (f"`{OTHER}` and `{NONSPEECH}` being possible answers" if is_alone else chance)
    )
    if not is_alone:
        for language in languages:
            found = by_language.get(language)
            yield f"  {language}: " + (
                f"{found['accuracy']:.0%}"
                if found
                else f"not known, as nobody held out says {length} s of it"
            )
    elif strangers := report.get("open_set"):
        taken = strangers["at_decoder_confidence"]["strangers_accepted"]
        yield f"  speech in other languages that is taken for {', '.join(languages)}: {taken:.0%}"
    if tested == DEV:
        yield "  The same speech has picked the checkpoint, so this is a little too good."
    if speakers < FEW_SPEAKERS:
        yield f"  {speakers} speakers are few: more of them would tell more."
    others = set(read_rows(own.divided).rows["language"].cast(pl.String).unique()) - labels
    if not others:
        yield (
            "  It has learnt no other language: it will take any for one of these. Folders of "
            "others teach it, with --languages naming those that are to be told."
        )
    yield f"kept: {own.work} (report.json has all figures)"
