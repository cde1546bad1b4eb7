"""The commands of `python -m conformance` that find what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NoReturn

import click


def _refuse(error: object) -> NoReturn:
    from soprano.errors import one_line

    click.echo(one_line(f"conformance: {error}"), err=True)
    sys.exit(2)


@click.command()
@click.argument("name", metavar="SUBJECT")
@click.option("--model", "models", multiple=True, metavar="DIR", help="Repeatable. [v11 and heads]")
@click.option("--reference", type=click.Path(path_type=Path), help="Checkpoint of a bundle.")
@click.option("--pack", type=click.Path(path_type=Path), help="The vector pack of the outputs.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def check(
    name: str, models: tuple[str, ...], reference: Path | None, pack: Path | None, as_json: bool
) -> None:
    """Show the verdict on each stage of SUBJECT, and the first one that is wrong.

    SUBJECT is a backend (also package:factory or exec:COMMAND), a model folder, an ONNX file, or a
    folder with the outputs that a port wrote for a vector pack.

    Exit status: 0 every offered stage is right, 1 one is not, 2 nothing was judged.
    """
    sys.path.insert(0, "")  # where a port may be
    from conformance.diagnosis import check as checking
    from conformance.diagnosis.subjects import Vectors, resolve
    from conformance.subject import Subject
    from soprano.errors import SopranoError

    try:
        found = resolve(name, list(models), reference, pack)
        if isinstance(found, Vectors):
            answers = [checking.check_vectors(found)]
        else:
            answers = checking.check_named(Subject(), found)
    except (SopranoError, OSError, LookupError, ValueError, ImportError) as error:
        _refuse(error)
    if as_json:
        click.echo(checking.as_json(answers))
    else:
        click.echo("\n\n".join(map(checking.text, answers)))
    sys.exit(max(answer.status for answer in answers))


@click.command()
@click.option("--backend", "name", required=True, metavar="NAME")
@click.option("--model", default="v11", show_default=True, metavar="DIR")
@click.option("--reference", type=click.Path(path_type=Path), help="Checkpoint of a bundle.")
@click.option("--input", "texts", multiple=True, metavar="TEXT", help="Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def replace(
    name: str, model: str, reference: Path | None, texts: tuple[str, ...], as_json: bool
) -> None:
    """Show what each stage of a backend contributes to the error of the audio.

    Exit status: 0 every stage is right, 1 one is not, 2 nothing was measured.
    """
    sys.path.insert(0, "")  # where a port may be
    from conformance.diagnosis import check as checking
    from conformance.diagnosis.replacement import TEXTS
    from conformance.diagnosis.subjects import named_model
    from conformance.subject import Subject
    from soprano.errors import SopranoError

    try:
        given = texts or TEXTS
        found = checking.replaced(Subject(), name, named_model(model), reference, given)
    except (SopranoError, OSError, LookupError, ValueError, ImportError) as error:
        _refuse(error)
    click.echo(json.dumps(found.document(), indent=1) if as_json else "\n".join(found.lines()))
    sys.exit(1 if found.named else 0)


@click.command()
@click.option("--backend", "name", required=True, metavar="NAME")
@click.option("--model", default="v11", show_default=True, metavar="DIR")
@click.option("--reference", type=click.Path(path_type=Path), help="Checkpoint of a bundle.")
@click.option("--input", "text", metavar="TEXT", help="Also what this text gives each network.")
@click.option("--linear", is_flag=True, help="Compare every node, not only those of a search.")
@click.option("--trace", is_flag=True, help="Compare every node also in one run of the whole.")
@click.option("--no-f32", is_flag=True, help="OpenVINO is not told to compute in float32.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path),
    help="A folder for the smallest failing part of an ONNX graph, with its inputs.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the tables as JSON.")
def bisect(
    name: str,
    model: str,
    reference: Path | None,
    text: str | None,
    linear: bool,
    trace: bool,
    no_f32: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show the first wrong stage of a backend and the first wrong node in its networks.

    Exit status: 0 nothing is wrong, 1 something is, 2 nothing was compared.
    """
    sys.path.insert(0, "")  # where a port may be
    from conformance.diagnosis.bisect import bisect as search
    from conformance.diagnosis.subjects import named_model
    from conformance.subject import Subject
    from soprano.errors import SopranoError

    try:
        found = search(
            Subject(), name, named_model(model), text=text, reference=reference, linear=linear,
            trace=trace, f32=not no_f32, output=output,
        )  # fmt: skip
    except (SopranoError, OSError, LookupError, ValueError, ImportError) as error:
        _refuse(error)
    click.echo(json.dumps(found.document(), indent=1) if as_json else "\n".join(found.lines()))
    if found.stages is None and not found.searches:
        sys.exit(2)
    sys.exit(1 if found.wrong else 0)


@click.command()
@click.option("--backend", "name", required=True, metavar="NAME")
@click.option("--model", default="v11", show_default=True, metavar="DIR")
@click.option("--utterances", default=200, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def ids(name: str, model: str, utterances: int, as_json: bool) -> None:
    """Generate utterances, greedy and at temperature 1, and judge every id against the oracle.

    Exit status: 0 no defect and no more ties than expected, 1 otherwise, 2 nothing was judged.
    """
    sys.path.insert(0, "")  # where a port may be
    from conformance.diagnosis.generated_ids import OPTIONS, compare_utterances
    from conformance.diagnosis.probes import Probed
    from conformance.diagnosis.subjects import named_model
    from conformance.subject import Subject
    from soprano.errors import SopranoError

    try:
        probed = Probed(Subject(), name, named_model(model), None)
        able = probed.capabilities
        chosen = [key for key, o in OPTIONS.items() if able.uniforms or not o.temperature]
        found = [compare_utterances(probed, key, utterances) for key in chosen]
        probed.backend.close()
    except (SopranoError, OSError, LookupError, ValueError, ImportError) as error:
        _refuse(error)
    if as_json:
        click.echo(json.dumps([each.document() for each in found], indent=1))
    else:
        click.echo("\n".join(line for each in found for line in each.lines()))
    sys.exit(0 if all(each.found.passed for each in found) else 1)


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True))
@click.argument("second", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON.")
def diff(first: Path, second: Path, as_json: bool) -> None:
    """Show what differs between two reports (files or folders): verdicts, errors, configuration.

    Exit status: 0 no requirement fails that did not, 1 one does, 2 a file is no report.
    """
    from conformance.diagnosis.diff import diff as compare
    from conformance.report.documents import DocumentError

    try:
        found = compare(first, second)
    except (DocumentError, OSError) as error:
        _refuse(error)
    click.echo(json.dumps(found.document(), indent=1) if as_json else "\n".join(found.lines()))
    sys.exit(1 if found.worse else 0)


def main() -> None:
    """The console script `soprano-check`."""
    from importlib.util import find_spec

    from conformance.installation import problem

    missing = [name for name in ("hypothesis", "pytest", "scipy") if find_spec(name) is None]
    if missing:
        extra = "pip install 'soprano-conformance[conformance]'"
        _refuse(f"this needs an extra: {extra} (no module {', '.join(missing)})")
    if found := problem():
        _refuse(found)
    from soprano.command_line import run

    run(lambda: check, "soprano-check", "conformance", failure=2)
