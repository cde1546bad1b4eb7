"""The report as one HTML file that needs no network: figures, audio and data are embedded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from conformance.contract.reader import STAGES
from conformance.report import sections
from conformance.report.documents import Inputs, Json
from conformance.report.levels import LEVELS
from conformance.report.markup import Row, element, style_of, table, verdict
from conformance.report.merged import Column, Table, merge, used, verdict_of
from conformance.report.verdicts import ORDER, RED

_PAGE = Path(__file__).parent / "page"
_NODES = 3  # tests of a passing cell that are named


def page(inputs: Inputs) -> str:
    """The whole file."""
    merged = merge(inputs.runs)
    parts = {
        "Requirements": _matrix(merged),
        "Failures": _failures(merged),
        "Errors": sections.errors(inputs),
        "Audio": sections.audio(inputs.runs),
        "Speed": sections.speed(inputs.benchmarks),
        "Deviations": sections.deviations(inputs.runs),
        "Configurations": sections.configurations(inputs.runs),
        "Kill matrix": sections.kill_matrix(inputs.matrices),
    }
    links = "".join(
        element("a", escape(title), href=f"#{_anchor(title)}")
        for title, body in parts.items()
        if body
    )
    shown = "".join(
        element("section", element("h2", escape(title), id=_anchor(title)) + body)
        for title, body in parts.items()
        if body
    )
    outcome = verdict_of(inputs.runs)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; media-src data:">
<title>Conformance: {outcome}</title>
<style>{_file("report.css")}</style>
<header><h1>Conformance {verdict(outcome)}</h1>
<button id="theme" type="button">Light or dark</button></header>
<nav>{links}</nav>
<main>{_overview(merged)}{shown}</main>
<dialog id="detail" aria-labelledby="detail-title"><div class="dialog-head">
<h2 id="detail-title"></h2><button type="button">Close</button></div><div class="body"></div></dialog>
<script type="application/json" id="evidence">{_script(_evidence(merged))}</script>
<script>{_file("report.js")}</script>
</html>
"""  # noqa: E501 - a meta element


def _file(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")


def _script(content: Json) -> str:
    """JSON inside a script element, which ends at the first `</script`."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def _overview(merged: Table) -> str:
    """A card for each column: the counts of its verdicts, where it ran, its first failing stage."""
    cards = "".join(_card(merged, column) for column in merged.columns)
    return element("div", cards, class_="cards", style="margin-top:1rem")


def _card(merged: Table, column: Column) -> str:
    counts = " ".join(verdict_count(name, count) for name, count in merged.counts(column).items())
    models = [s.removeprefix(f"{column.backend}-") for s in column.subjects if s != column.backend]
    document = column.run.document
    known = [escape(f"{key} {value}") for key, value in document["environment"].items()]
    lines = [element("p", counts)]
    if found := column.level:
        lines.append(element("p", _level(found)))
    if models:
        lines.append(element("p", f"On {escape(', '.join(models))}."))
    failure = document["first_failure"]
    if failure and failure["subject"] in column.subjects:
        lines.append(element("p", f"First failing stage: <b>{escape(failure['stage'])}</b>."))
        if failure["convention"]:
            followed = f"You follow the convention: {escape(failure['convention'])}."
            lines.append(element("p", followed))
    if left_out := document["not_covered"].get(column.backend):
        lines.append(element("p", f"Not judged on {escape(', '.join(left_out))}."))
    lines.append(element("details", f"<summary>Environment</summary>{', '.join(known)}"))
    return element("div", element("h3", escape(column.title)) + "".join(lines), class_="card")


def _level(found: Json) -> str:
    """The conformance level of a backend, and why it is not the next one."""
    level, why = found["level"], escape(found["reason"])
    if level is None:
        return f"No level: {why}."
    reached = f"Level <b>{level}</b>: {LEVELS[level]}."
    return f"{reached} Not the next level: {why}." if why else reached


def verdict_count(name: str, count: int) -> str:
    return element("span", f"{count} {escape(name)}", class_=f"verdict {style_of(name)}")


def _matrix(merged: Table) -> str:
    rows = [_matrix_row(merged, name) for name in merged.requirements]
    seen = {v for row in rows for v in row.choices["verdict"].split()}
    choices = {
        "verdict": [name for name in ORDER if name in seen],
        "stage": list(dict.fromkeys(_stage(name) for name in merged.requirements)),
        "level": ["must", "should"],
    }
    heads = ["id", *(column.title for column in merged.columns), "law"]
    hint = (
        "A cell opens its evidence and the command that repeats it. "
        "Keys: / filters, arrows move between cells, Enter opens, Escape closes."
    )
    return element("p", hint, class_="muted") + table(
        "matrix", heads, rows, choices=choices, tall=True
    )


def _code(text: str) -> str:
    """Text with `code` as HTML."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text))


def _stage(name: str) -> str:
    return STAGES.get(name[:2], name[:2])


def _matrix_row(merged: Table, name: str) -> Row:
    found = [column.verdict(name) for column in merged.columns]
    contract = merged.contract(name)
    cells = [_matrix_cell(f"{name}|{index}", each) for index, each in enumerate(found)]
    rank: dict[int, Any] = {
        index: ORDER.index(each) if each else len(ORDER) for index, each in enumerate(found, 1)
    }
    choices = {
        "verdict": " ".join(sorted({each for each in found if each})),
        "stage": style_of(_stage(name)),
        "level": contract["level"],
    }
    law = element("div", _code(contract["law"]), class_="law")
    return Row([name, *cells, law], choices, rank)


def _matrix_cell(key: str, name: str | None) -> str:
    if name is None:
        return ""
    return element(
        "button", escape(name), type="button", class_=f"cell {style_of(name)}", data_cell=key
    )


def _evidence(merged: Table) -> Json:
    """What the dialog of each cell shows."""
    requirements: Json = {}
    for name in merged.requirements:
        contract = merged.contract(name)
        cells = {
            str(index): {
                "subjects": [_subject(s, entry) for s, entry in column.entries(name).items()],
                "command": column.command(name),
            }
            for index, column in enumerate(merged.columns)
            if column.entries(name)
        }
        requirements[name] = {"law": contract["law"], "level": contract["level"], "cells": cells}
    return {"columns": [column.title for column in merged.columns], "requirements": requirements}


def _subject(subject: str, entry: Json) -> list[Any]:
    return [subject, entry["verdict"], _facts(entry), entry["failures"], _commands(entry)]


def _commands(entry: Json) -> list[str]:
    return list(dict.fromkeys(entry["commands"].values()))


def _facts(entry: Json) -> str:
    """What was compared, in a sentence."""
    facts = [
        f"{entry['tests']} test{'s' * (entry['tests'] != 1)}",
        f"{entry['elements']:,} elements compared",
    ]
    if nearest := used(entry):
        place = entry["nearest"]["place"]
        facts.append(f"nearest to its limit: {nearest}{f' at {place}' if place else ''}")
    if entry["ties"]:
        facts.append(f"{entry['ties']} runs tied among {entry['decisions']:,} ids")
    facts += entry["notes"]
    nodes = [node.rpartition("/")[2] for node in entry["nodes"]]
    more = f" and {len(nodes) - _NODES} more" if len(nodes) > _NODES else ""
    tests = f" Tests: {', '.join(nodes[:_NODES])}{more}." if nodes else ""
    return f"{'; '.join(facts)}.{tests}"


def _failures(merged: Table) -> str:
    """Every failing cell in full, also for print."""
    return "".join(_failing(merged, *cell) for cell in merged.red())


def _failing(merged: Table, name: str, column: Column, found: str) -> str:
    title = f"{name} on {escape(column.title)} {verdict(found)}"
    law = element("p", _code(merged.contract(name)["law"]))
    body = "".join(_failed_subjects(column, name))
    return element("details", f"<summary>{title}</summary>{law}{body}", open="")


def _failed_subjects(column: Column, name: str) -> Iterator[str]:
    for subject, entry in column.entries(name).items():
        if entry["verdict"] in RED:
            yield element("p", f"<b>{escape(subject)}</b>: {escape(_facts(entry))}")
            yield from (element("pre", escape(text)) for text in entry["failures"])
            commands = _commands(entry) or [column.command(name)]
            yield from (element("pre", escape(text), class_="command") for text in commands)
