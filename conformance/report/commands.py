"""`python -m conformance report`: what runs have found, as HTML, text or Markdown."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

from soprano.audio_files import whole_file
from soprano.errors import one_line

FORMATS = ("html", "text", "markdown")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-f", "--format", "form", type=click.Choice(FORMATS),
    help="[html for a file .html, markdown for .md, else text]",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File. [standard output]")
def report(files: tuple[Path, ...], form: str | None, output: Path | None) -> None:
    """Merge FILES into one report.

    FILES are documents of runs (conformance.json, or the folder of one), of any schema version;
    beside them saved benchmarks, faults.json and bisections as JSON.
    """
    from conformance.report.documents import DocumentError, read_inputs
    from conformance.report.summary import markdown, text

    form = form or _form(output)
    if form == "html" and find_spec("matplotlib") is None:
        _refuse("figures need an extra: pip install 'soprano-conformance[report]'")
    try:
        inputs = read_inputs(files)
    except DocumentError as error:
        _refuse(str(error))
    if form == "html":
        from conformance.report.html import page

        shown = page(inputs)
    else:
        shown = markdown(inputs.runs) if form == "markdown" else text(inputs.runs)
    if output is None:
        click.echo(shown, nl=False)
        return
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(output) as file:
            file.write(shown.encode())
    except OSError as error:
        _refuse(f"{output}: {error.strerror}")


def _form(output: Path | None) -> str:
    suffix = output.suffix.lower() if output else ""
    return {".html": "html", ".htm": "html", ".md": "markdown"}.get(suffix, "text")


def _refuse(message: str) -> NoReturn:
    click.echo(one_line(f"conformance: {message}"), err=True)
    sys.exit(2)
