"""`python -m conformance port`: the skeleton of a port."""

from __future__ import annotations

from pathlib import Path

import click

SKELETONS = {"python": "port.py", "javascript": "port.mjs", "c": "port.c"}


@click.group()
def port() -> None:
    """Ports as processes of their own."""


@port.command()
@click.argument("language", type=click.Choice(sorted(SKELETONS)))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path(), help="Folder. [.]")
def init(language: str, output: Path) -> None:
    """Write a port that answers the first request and rejects the others."""
    source = Path(__file__).parent / "skeletons" / f"{language}{Path(SKELETONS[language]).suffix}"
    target = output / SKELETONS[language]
    if target.exists():
        raise click.UsageError(f"{target} exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    for line in source.read_text(encoding="utf-8").splitlines():
        if "python -m conformance" in line:
            click.echo(f"{target}: judge it with {line.split('`')[1]}")
