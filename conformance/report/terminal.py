"""The summary of a run on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from conformance.judging.compare import of_limit
from conformance.report import margins
from conformance.report.evidence import Evidence
from conformance.report.verdicts import first_failure, summarize

_SHOWN, _WIDTH = 3, 240  # failures per requirement, and their characters

Section = tuple[str, list[str]]  # title and lines


def sections(evidence: Evidence) -> Iterator[Section]:
    """Everything but the end, which states the first failing stage."""
    records = evidence.judged()
    summary = summarize(records)
    judged = {name: entry for name, entry in summary.items() if entry["not_run"] < entry["tests"]}
    lines = [line for name, entry in judged.items() for line in _requirement(name, entry)]
    if missing := [name for name in summary if name not in judged]:
        reason = next(record.message for record in records if record.not_run)
        span = missing[0] if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
        lines.append(f"error: {len(missing)} requirements ({span}) were not judged: {reason}")
    for backend, models in evidence.not_covered.items():
        lines += _not_covered(backend, models)
    yield "conformance by requirement", lines
    if table := margins.lines(records):
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


def _not_covered(backend: str, models: dict[str, str]) -> Iterator[str]:
    for reason in dict.fromkeys(models.values()):
        names = ", ".join(name for name, own in models.items() if own == reason)
        yield f"not covered: {backend} on {names} ({_cut(reason)})"


def _requirement(name: str, entry: dict[str, Any]) -> Iterator[str]:
    nearest = entry["nearest"]
    used = ""
    if nearest and nearest["limit"] and nearest["used"] is not None:
        used = f"{nearest['quantity']}: {of_limit(nearest['used'])}"
    yield (
        f"{name:8} {entry['verdict']:14} {entry['tests']:4} tests "
        f"{entry['elements']:>12,} compared  {used}"
    )
    for failure in entry["failures"][:_SHOWN]:
        yield f"         {_short(failure)}"
    if more := len(entry["failures"][_SHOWN:]):
        yield f"         and {more} more"


def _short(failure: str) -> str:
    """One line of a failure: its message, then the test, whose path may be long."""
    node, colon, message = failure.splitlines()[0].partition(": ")
    return f"{_cut(message)} ({node})" if colon else node


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
