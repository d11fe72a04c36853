"""``edgelid classify``: one answer for each recording."""

from __future__ import annotations

import argparse
from typing import Any

from edge.cli.options import Parser, complain, model_of, model_options, path
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
        "files", nargs="+", type=path, metavar="FILE", help="audio files, or folders of them"
    )
    one.set_defaults(run=run_classify)


def run_classify(options: argparse.Namespace, output: Output) -> int:
    """``edgelid classify``: goes on after a file that cannot be read, and fails at the end."""
    from edge.model.interpreter import open_model
    from edge.offline import RecordingClassifier, classify_file, find_recordings

    model = model_of(options)
    languages = options.languages
    if languages is not None:
        languages = meant(languages, model.labels)
    classifier = RecordingClassifier(model, open_model(model, options.threads), languages)
    status = 0
    for file in find_recordings(options.files):
        try:
            answer = classify_file(classifier, file)
        except EdgelidError as error:
            status = 1
            if options.json:
                output.record({"path": str(file), "error": str(error)})
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
                }
            )
        else:
            shown = str(file).replace("\n", "\\n")  # or it would look like two
            name = f"{answer.language:<9} {language_name(answer.language):<15}"
            output.line(f"{name} {answer.confidence:4.0%}  {answer.duration_s:7.1f} s  {shown}")
    return status
