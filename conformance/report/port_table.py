"""The compatibility table: what reports say about ports, kept as data and shown as one page."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from conformance.contract.reader import STAGES
from conformance.documents import DocumentError, read_document
from conformance.judging.records import backend_of
from conformance.report.documents import read_inputs
from conformance.report.levels import LEVELS, PARTIAL
from conformance.report.verdicts import ORDER
from soprano.audio_files import whole_file

Json = dict[str, Any]

_TEXT, _LIST = {"type": "string"}, {"type": "array", "items": {"type": "string"}}
_COUNTS = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
_MEMBERS: Json = {
    **{name: _TEXT for name in ("name", "version", "suite", "date", "reason")},
    **{name: _LIST for name in ("models", "offered", "faults")},
    "level": {"enum": [*LEVELS, None]},
    "families": {"type": "object", "additionalProperties": _COUNTS},
}
_SUMMARY: Json = {"required": [*_MEMBERS], "properties": _MEMBERS}
_NAMED = re.compile(r"you follow the convention [\"']([^\n]*?)[\"'](?=\s|$|[;,:)])")
_HEAD = "\n".join(
    (
        "# Ports",
        "",
        "What the suite found in ports, from the reports of complete or partial runs.",
        "The page is written by `python -m conformance port table`, from data that "
        "`python -m conformance port record` takes from a report.",
        "",
        "A cell has the number of requirements that hold, of those that were judged. "
        "A dash means that the port does not offer the stage, or that the run did not select it.",
        "Levels are defined in [the contract](../conformance/contract/port.md#levels).",
        "",
    )
)


def summary(document: Json, name: str, day: str) -> Json:
    """What the table keeps of the report of one port."""
    families: dict[str, dict[str, int]] = {}
    faults: set[str] = set()
    worst: dict[str, str] = {}
    for entries in document["results"].values():
        for requirement, entry in entries.items():
            known = worst.setdefault(requirement, entry["verdict"])
            worst[requirement] = min(known, entry["verdict"], key=ORDER.index)
            faults |= {found for text in entry["failures"] for found in _NAMED.findall(text)}
    for requirement, verdict in sorted(worst.items()):
        own = families.setdefault(requirement[:2], {})
        own[verdict] = own.get(verdict, 0) + 1
    attested = next(iter(document["backends"].values()), {})
    subjects = {*document["results"], *document["backends"]}
    level = next(iter(document["levels"].values()), {"level": None, "reason": "", "offered": []})
    return {
        "name": name,
        "version": attested.get("version", {}).get("value", "unknown"),
        "suite": document["environment"].get("soprano-conformance", "unknown"),
        "date": day,
        "models": sorted({_model(subject, subjects) for subject in document["backends"]}),
        "level": level["level"],
        "reason": level["reason"],
        "offered": level["offered"],
        "families": {stage: families[stage] for stage in STAGES if stage in families},
        "faults": sorted(faults),
    }


def _model(subject: str, subjects: Collection[str]) -> str:
    return subject.removeprefix(f"{backend_of(subject, subjects)}-")


def table(summaries: Sequence[Json]) -> str:
    """The page of some summaries, in the order of their names."""
    ordered = sorted(summaries, key=lambda own: str(own["name"]))
    stages = [stage for stage in STAGES if any(_cell(own, stage) != "-" for own in ordered)]
    head = ["port", "version", "level", *stages, "models", "date"]
    lines = [_HEAD, _row(head), _row(["---"] * len(head))]
    for own in ordered:
        cells = [_cell(own, stage) for stage in stages]
        level = own["level"] or ("partial run" if own["reason"] == PARTIAL else "none")
        lines.append(
            _row(
                [own["name"], own["version"], level, *cells, ", ".join(own["models"]), own["date"]]
            )
        )
    lines += ["", "Families: " + ", ".join(f"{stage} {STAGES[stage]}" for stage in stages) + "."]
    names = ", ".join(f"{level} {text}" for level, text in LEVELS.items())
    lines += [f"Levels: {names}.", "", *_details(ordered)]
    return "\n".join(lines).rstrip() + "\n"


def _details(ordered: Sequence[Json]) -> Iterator[str]:
    for own in ordered:
        yield f"## {own['name']}"
        yield ""
        yield f"- Offered: {', '.join(own['offered']) or 'nothing'}."
        if own["level"] and own["reason"]:
            yield f"- To the next level: {own['reason']}."
        for fault in own["faults"]:
            yield f"- Named fault: {fault}."
        yield f"- Judged by soprano-conformance {own['suite']}."
        yield ""


def _cell(own: Json, stage: str) -> str:
    counts = own["families"].get(stage, {})
    judged = {name: n for name, n in counts.items() if name not in ("not-applicable", "skipped")}
    held = sum(judged.get(name, 0) for name in ("pass", "tie", "warning", "deviation"))
    claimed = f", {n} claimed" if (n := judged.get("deviation", 0)) else ""
    return f"{held} of {sum(judged.values())}{claimed}" if judged else "-"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--name", required=True, help="Of the port.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def record(reports: tuple[Path, ...], name: str, output: Path) -> None:
    """Keep what the compatibility table shows of REPORTS (conformance.json, or their folders).

    Of all but the first, only the named faults are kept.
    """
    found = []
    for path in reports:
        runs = read_inputs([path]).runs
        if not runs:
            raise DocumentError(f"{path} is no report of a run")
        found.append(summary(runs[0].document, name, date.today().isoformat()))
    kept = found[0] | {"faults": sorted({fault for own in found for fault in own["faults"]})}
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as file:
        file.write((json.dumps(kept, indent=2) + "\n").encode())


@click.command(name="table")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def write_table(files: tuple[Path, ...], output: Path) -> None:
    """Write the compatibility table of FILES, which `port record` has written."""
    summaries = [read_document(path, _SUMMARY) for path in files]
    with whole_file(output) as file:
        file.write(table(summaries).encode())
