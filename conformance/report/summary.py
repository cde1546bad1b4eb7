"""The compact report as text, and as Markdown for pull requests."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.report.documents import Run
from conformance.report.merged import Column, Table, merge, verdict_of
from conformance.report.verdicts import RED

_MOST = 20  # failing requirements that are listed
_WIDTH = 200  # characters of a message


def text(runs: list[Run]) -> str:
    """One screen: the verdict, the counts, the failing requirements with their commands."""
    table = merge(runs)
    lines = [verdict_of(runs)]
    width = max((len(column.title) for column in table.columns), default=0)
    lines += [f"{column.title:{width}}  {_counts(table, column)}" for column in table.columns]
    lines += _text_failures(table)
    lines += [f"deviation: {claim}" for run in runs for claim in _claims(run)]
    return "\n".join(lines) + "\n"


def _text_failures(table: Table) -> Iterator[str]:
    red = list(table.red())
    for requirement, column, verdict in red[:_MOST]:
        _, message, command = first_failure_of(column, requirement)
        yield f"{requirement}  {verdict:10} {column.title}: {message}"
        yield f"       {command}"
    if more := len(red[_MOST:]):
        yield f"and {more} more"


def markdown(runs: list[Run]) -> str:
    """The verdict, a table of counts, and the failing requirements, folded."""
    table = merge(runs)
    lines = [f"### Conformance: {verdict_of(runs)}", ""]
    lines += ["| backend | requirements |", "|---|---|"]
    lines += [f"| {_cell(c.title)} | {_counts(table, c)} |" for c in table.columns]
    if first := [_first_failure(run) for run in runs if run.document["first_failure"]]:
        lines += ["", *first]
    lines += _markdown_failures(table)
    if claims := [claim for run in runs for claim in _claims(run)]:
        lines += ["", "<details><summary>Deviations</summary>", "", *(f"- {c}" for c in claims)]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n"


def _markdown_failures(table: Table) -> Iterator[str]:
    red = list(table.red())
    if not red:
        return
    count = f"{len(red)} failing requirement{'s' * (len(red) > 1)}"
    yield from ("", f"<details><summary>{count}</summary>", "")
    yield from ("| requirement | backend | verdict | what was found |", "|---|---|---|---|")
    for requirement, column, verdict in red[:_MOST]:
        cells = requirement, column.title, verdict, first_failure_of(column, requirement)[1]
        yield f"| {' | '.join(map(_cell, cells))} |"
    if more := len(red[_MOST:]):
        yield f"| and {more} more | | | |"
    yield from ("", "</details>")


def _first_failure(run: Run) -> str:
    failure = run.document["first_failure"]
    convention = failure["convention"]
    named = f" You follow the convention: {_cell(convention)}." if convention else ""
    return (
        f"First failing stage: **{failure['stage']}** ({failure['requirement']} on "
        f"{_cell(failure['subject'])}): {_cell(_cut(failure['message']))}{named}\n\n"
        f"```console\n$ {failure['repeat']}\n```"
    )


def first_failure_of(column: Column, requirement: str) -> tuple[str, str, str]:
    """The first failing test of a cell, its message, and the command that repeats it."""
    entries = column.entries(requirement).values()
    entry = next(entry for entry in entries if entry["verdict"] in RED)
    text = next(iter(entry["failures"]), "")
    node = next((name for name in entry["nodes"] if text.startswith(f"{name}: ")), "")
    message = text.removeprefix(f"{node}: ").partition("\n")[0]
    for verdict in RED:
        message = message.removeprefix(f"{verdict}: ")
    return node, _cut(message), entry["commands"].get(node) or column.command(requirement)


def _counts(table: Table, column: Column) -> str:
    counts = ", ".join(f"{count} {verdict}" for verdict, count in table.counts(column).items())
    level = column.level and column.level["level"]
    return f"{level}: {counts}" if level else counts


def _claims(run: Run) -> Iterator[str]:
    for claim in run.document["deviations"]:
        state = "expired" if claim["expired"] else "expires"
        yield (
            f"{claim['requirement']} on {claim['subject']}, {state} {claim['expires']}: "
            f"{_cell(claim['reason'])} ({claim['owner']})"
        )


def _cut(message: str) -> str:
    return message if len(message) <= _WIDTH else f"{message[:_WIDTH]}..."


def _cell(value: str) -> str:
    """Text in a cell of a table, without the characters that Markdown or HTML would interpret."""
    for character in "\\`*_[]<>|":
        value = value.replace(character, f"\\{character}")
    return value.replace("\n", " ")
