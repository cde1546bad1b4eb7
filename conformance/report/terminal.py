"""The summary of a run on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.judging.compare import of_limit
from conformance.report import margins
from conformance.report.evidence import Evidence
from conformance.report.levels import PARTIAL, levels, line
from conformance.report.verdicts import RED, by_subject, first_failure, summarize

_SHOWN, _WIDTH = 3, 240  # failures per requirement, and their characters
_MANY = 5  # failing requirements, above which only the first ones are listed
_BRIEF_ROWS, _BRIEF_WIDTH = 12, 110  # then: requirements or quantities, and characters of a line

Section = tuple[str, list[str]]  # title and lines


def sections(evidence: Evidence, *, full: bool) -> Iterator[Section]:
    """Everything but the end, which states the first failing stage.

    If many requirements failed, all of it fits on a screen, unless it is to be `full`.
    """
    records = evidence.judged()
    summary = summarize(records)
    judged = {name: entry for name, entry in summary.items() if entry["not_run"] < entry["tests"]}
    brief = not full and sum(entry["verdict"] in RED for entry in judged.values()) > _MANY
    if brief:
        lines = list(_first_failures(judged))
    else:
        lines = [line for name, entry in judged.items() for line in _requirement(name, entry)]
    if missing := [name for name in summary if name not in judged]:
        reason = next(record.message for record in records if record.not_run)
        span = missing[0] if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
        lines.append(f"error: {len(missing)} requirements ({span}) were not judged: {reason}")
    lines += [_not_covered(*left_out) for left_out in evidence.not_covered.items()]
    found = levels(by_subject(records), evidence.subjects) if evidence.collected else {}
    lines += [line(*each) for each in found.items() if each[1]["reason"] != PARTIAL]
    yield "conformance by requirement", lines
    if table := margins.lines(records, _BRIEF_ROWS if brief else None):
        yield "errors in noise floors of the reference, and limits used", table


def end(evidence: Evidence) -> Iterator[Section]:
    """The first failing stage; its last line is the command that repeats the test."""
    failure = first_failure(evidence.judged())
    if failure is None:
        return
    lines = [
        f"{failure['stage']}: {failure['requirement']} {failure['verdict']} on "
        f"{failure['subject']}: {failure['message']}"
    ]
    if failure["convention"]:
        lines.append(f"you follow the convention: {failure['convention']}")
    if failure["repeat"]:
        lines.append(f"repeat with: {failure['repeat']}")
    yield "first failing stage", lines


def _not_covered(backend: str, models: dict[str, str]) -> str:
    """One line, with the first reason."""
    first, reason = next(iter(models.items()))
    same = len(set(models.values())) == 1
    why = reason if same else f"{first}: {reason}"
    return f"not covered: {backend} on {', '.join(models)} ({_cut(why, _BRIEF_WIDTH)})"


def _first_failures(judged: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A line for each of the first failing requirements of each stage, and for other verdicts."""
    red = [name for name, entry in judged.items() if entry["verdict"] in RED]
    stages = list(dict.fromkeys(name[:2] for name in red))
    each = max(_BRIEF_ROWS // len(stages), 1)
    first = [name for s in stages for name in [n for n in red if n.startswith(s)][:each]]
    for name in first:
        message = judged[name]["failures"][0].partition(": ")[2].partition(": ")[2]
        line = f"{name:8} {judged[name]['verdict']:10} {message.splitlines()[0]}"
        yield _cut(line, _BRIEF_WIDTH)
    if more := [name for name in red if name not in first]:
        yield _cut(f"and {len(more)} more: {', '.join(more)}", _BRIEF_WIDTH)
    for verdict in dict.fromkeys(entry["verdict"] for entry in judged.values()):
        names = [name for name, entry in judged.items() if entry["verdict"] == verdict]
        if verdict not in RED:
            families = ", ".join(dict.fromkeys(name[:2] for name in names))
            yield f"{verdict}: {len(names)} requirements of {families}"
    yield "-v lists every requirement, --tb=short every failure; the report contains everything"


def _requirement(name: str, entry: dict[str, Any]) -> Iterator[str]:
    nearest = entry["nearest"]
    used = ""
    if nearest and nearest["limit"] and nearest["used"] is not None:
        used = f"{nearest['quantity']}: {of_limit(nearest['used'])}"
    yield (
        f"{name:8} {entry['verdict']:14} {entry['tests']:4} tests "
        f"{entry['elements']:>12,} compared  {used}"
    )
    for text in entry["notes"][:_SHOWN]:
        yield f"         {text}"
    for failure in entry["failures"][:_SHOWN]:
        yield f"         {_short(failure)}"
    if more := len(entry["failures"][_SHOWN:]):
        yield f"         and {more} more"


def _short(failure: str) -> str:
    """One line of a failure: its message, then the test, whose path may be long."""
    node, colon, message = failure.splitlines()[0].partition(": ")
    return f"{_cut(message)} ({node})" if colon else node


def _cut(text: str, width: int = _WIDTH) -> str:
    return text if len(text) <= width else f"{text[:width]}..."
