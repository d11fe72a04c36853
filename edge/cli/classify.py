"""``edgelid classify``: one answer for each recording."""

from __future__ import annotations

import argparse
import math
from typing import Any

from edge.cli.options import (
    Parser,
    add_ear,
    add_lessons,
    add_second_opinion,
    complain,
    model_options,
    model_path,
    recording,
)
from edge.errors import EdgelidError
from edge.languages import language_name, meant
from edge.outputs.stdout import Output, probabilities_record


def add(commands: Any, common: Parser) -> None:
    """Add the command to the grammar."""
    one = commands.add_parser(
        "classify",
        parents=[common, model_options(threads=1)],
        help="one answer for each recording",
    )
    one.add_argument(
        "files", nargs="+", type=recording, metavar="FILE", help="audio files, or folders of them"
    )
    add_ear(one)
    add_second_opinion(one)
    add_lessons(one)
    one.set_defaults(run=run_classify)


def run_classify(options: argparse.Namespace, output: Output) -> int:
    """``edgelid classify``: goes on after a file that cannot be read, and fails at the end."""
    from edge.audio.decoding import NeedsFfmpeg
    from edge.audio.formats import check_no_folder, find_recordings
    from edge.audio.mixing import Ear
    from edge.config import gain_db
    from edge.model.interpreter import open_file
    from edge.offline import RecordingClassifier, classify_file, opinion_record, shares
    from edge.opinion.expert import ExpertFile, check_another

    if options.second_opinion:
        check_another(options.second_opinion, model_path(options))

    model, graphs = open_file(model_path(options), options.threads)
    lessons = None
    if options.lessons is not None:
        from edge.teaching import taught

        learnt = taught(options.lessons, model, graphs)
        model, lessons = learnt.model, learnt.correction
    languages = options.languages
    if languages is not None:
        languages = meant(languages, model.labels)
    gain = gain_db(options.gain)
    classifier = RecordingClassifier(
        model,
        graphs,
        languages,
        options.threshold,
        ExpertFile(options.second_opinion, model.labels) if options.second_opinion else None,
        lessons,
        automatic_gain=gain is None,
    )
    ear = Ear(options.channel or None, gain, math.inf)
    status = 0
    need_ffmpeg: list[NeedsFfmpeg] = []
    for file in find_recordings(options.files):
        try:
            check_no_folder(file)
            answer = classify_file(classifier, file, ear)
        except EdgelidError as error:
            status = 1
            if options.json:
                output.record({"path": str(file), "error": str(error)})
            if isinstance(error, NeedsFfmpeg):  # which one sentence says of a whole folder
                need_ffmpeg.append(error)
            else:
                complain(str(error))
            continue
        if options.json:
            values = list(answer.probabilities.values())
            output.record(
                {
                    "path": str(file),
                    "language": answer.language,
                    "confidence": round(answer.confidence, 4),
                    "probabilities": probabilities_record(model.labels, values),
                    "duration_s": round(answer.duration_s, 3),
                    "speech_s": round(answer.speech_s, 3),
                    "stretches": [
                        {
                            "language": stretch.language,
                            "start_s": round(stretch.start_s, 3),
                            "end_s": round(stretch.end_s, 3),
                            "confidence": round(stretch.confidence, 4),
                            **({} if stretch.by is None else {"by": stretch.by}),
                        }
                        for stretch in answer.stretches
                    ],
                    "shares": {
                        language: round(share, 4)
                        for language, share in shares(answer.stretches).items()
                    },
                    **({"shortfall": answer.shortfall} if answer.shortfall else {}),
                    **opinion_record(answer),
                }
            )
        else:
            shown = str(file).replace("\n", "\\n")  # or it would look like two
            name = f"{answer.language:<9} {language_name(answer.language):<15}"
            several = ", ".join(
                f"{language} {share:.0%}" for language, share in shares(answer.stretches).items()
            )
            output.line(
                f"{name} {answer.confidence:4.0%}  {answer.duration_s:7.1f} s  {shown}"
                + (f"  (languages: {several})" if several else "")
                + (f"  by {answer.by}" if answer.by == "second opinion" else "")
            )
    if need_ffmpeg:
        complain(str(need_ffmpeg[0].together(len(need_ffmpeg))))
    return status
