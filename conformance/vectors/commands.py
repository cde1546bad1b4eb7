"""`python -m conformance vectors`: vector packs as a command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

from conformance.report.verdicts import RED
from soprano.errors import one_line


@click.group()
def vectors() -> None:
    """Inputs and expected outputs of every stage as files, and the judging of a port's files."""


@vectors.command()
@click.option("--model", default="v11", show_default=True, help="A folder, or a fixture model.")
@click.option("--reference", type=click.Path(path_type=Path), help="Checkpoint of a bundle.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def export(model: str, reference: Path | None, output: Path) -> None:
    """Write a pack: a folder per case, with a manifest."""
    from conformance.golden.packs import fixture_models
    from conformance.vectors.packs import export as write_pack

    fixtures = {path.name: path for path in fixture_models()}
    try:
        manifest = write_pack(fixtures.get(model, Path(model)), output, reference)
    except (OSError, LookupError, ValueError) as error:
        _refuse(error)
    click.echo(f"{output}: {len(manifest['cases'])} cases of {manifest['model']['name']}")


@vectors.command()
@click.argument("pack", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--outputs", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--name", default="port", show_default=True, help="The port's name in the report.")
@click.option(
    "--report-dir", "folder", type=click.Path(path_type=Path), default=Path("conformance-report"),
    show_default=True, help="Where to write conformance.json.",
)  # fmt: skip
def check(pack: Path, outputs: Path, name: str, folder: Path) -> None:
    """Judge the outputs that a port wrote for a pack.

    Exit status: 0 every output that was written is right, 1 one is not, 2 nothing was judged.
    """
    from conformance.report import json_document, terminal
    from conformance.vectors.packs import check as judge_outputs

    try:
        json_document.prepare_folder(folder)
        evidence = judge_outputs(pack, outputs, name)
    except (OSError, ValueError, KeyError) as error:
        _refuse(error)
    evidence.folder = str(folder)
    evidence.complete = True
    json_document.write(evidence)
    for title, lines in [*terminal.sections(evidence, full=False), *terminal.end(evidence)]:
        click.echo(f"== {title}")
        click.echo("\n".join(lines))
    sys.exit(1 if any(r.verdict in RED for r in evidence.records.values()) else 0)


def _refuse(error: Exception) -> NoReturn:
    click.echo(one_line(f"conformance: {error}"), err=True)
    sys.exit(2)
