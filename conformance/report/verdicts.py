"""From records to verdicts: one per requirement and subject."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np

from conformance.contract.reader import STAGES, pipeline_order, requirements
from conformance.judging import tolerances
from conformance.judging.compare import Comparison
from conformance.judging.deviations import Deviation
from conformance.judging.records import TestRecord, totals
from conformance.report.details import commands

# From worst to best. A requirement has the worst verdict of its tests.
ORDER = (
    "error", "mistrusted", "fail", "skipped", "warning", "deviation", "tie", "pass",
    "not-applicable",
)  # fmt: skip
UNJUDGED = ("not-applicable", "skipped")
RED = ("error", "mistrusted", "fail")  # these fail the run
_CONVENTION = re.compile(r"you follow the convention [\"'](.*)[\"']")


def summarize(records: list[TestRecord], today: date | None = None) -> dict[str, dict[str, Any]]:
    """The verdict and the evidence of each requirement, from records of one or all subjects."""
    summary: dict[str, dict[str, Any]] = {}
    names = {name for record in records for name in record.requirements}
    for name in sorted(names, key=pipeline_order):
        own = [record for record in records if name in record.requirements]
        faults = [*_claim_faults(name, own, today), *_tie_faults(own)]
        verdicts = {record.verdict for record in own} | ({"fail"} if faults else set())
        summary[name] = {
            **_contract(name),
            "verdict": next(verdict for verdict in ORDER if verdict in verdicts),
            **_evidence(own),
            "failures": _failures(own) + faults,
            "commands": commands(own),
        }
    return summary


def failed(entry: dict[str, Any]) -> bool:
    """Whether a requirement of a report failed, and not only because tests of it did not run."""
    return entry["verdict"] in RED and len(entry["failures"]) > entry["not_run"]


def first_failure(records: list[TestRecord]) -> dict[str, str] | None:
    """The failing test of the earliest stage of the pipeline, and how to run it again.

    A test that did not run is named only if no other failed.
    """
    failures = list(_red(records))
    if not failures:
        return None
    _, name, record, message = min(failures, key=lambda failure: failure[0])
    conventions = {
        found[1]
        for _, other, own, text in failures
        if other[:2] == name[:2] and own.subject == record.subject
        if (found := _CONVENTION.search(text))
    }
    return {
        "stage": STAGES.get(name[:2], ""),
        "requirement": name,
        "subject": record.subject,
        "verdict": record.verdict if record.verdict in RED else "fail",
        "message": message.partition("\n")[0],
        "convention": ", ".join(sorted(conventions)),
        "repeat": record.repeat,
    }


def _red(records: list[TestRecord]) -> Iterator[tuple[tuple[Any, ...], str, TestRecord, str]]:
    """Rank, requirement, test and message of each failure."""
    for record in records:
        if record.verdict in RED:
            for name in record.requirements:
                yield (record.not_run, *pipeline_order(name)), name, record, record.message
    groups: dict[tuple[str, str], list[TestRecord]] = {}
    for record in records:
        for name in record.requirements:
            groups.setdefault((record.subject, name), []).append(record)
    for (_, name), own in groups.items():
        for fault in [*_claim_faults(name, own, None), *_tie_faults(own)]:
            yield (False, *pipeline_order(name)), name, own[0], fault


def _contract(name: str) -> dict[str, str]:
    """Level and law of a requirement; a requirement that is not in the contract is a `must`."""
    known = requirements().get(name)
    return {"level": known.level if known else "must", "law": known.law if known else ""}


def _evidence(own: list[TestRecord]) -> dict[str, Any]:
    comparisons = [c for record in own for c in record.comparisons]
    nearest = max(comparisons, key=Comparison.used, default=None)
    return {
        "tests": len(own),
        "not_run": sum(record.not_run for record in own),
        "nodes": sorted(record.node for record in own),
        "comparisons": len(comparisons),
        "elements": sum(c.elements for c in comparisons),
        **totals(own),
        "notes": sorted({note for record in own for note in record.notes}),
        "nearest": _nearest(nearest) if nearest else None,
    }


def _failures(own: list[TestRecord]) -> list[str]:
    good = ("pass", "tie", "not-applicable")
    return [f"{r.node}: {r.verdict}: {r.message}" for r in own if r.verdict not in good]


def _claim_faults(name: str, own: list[TestRecord], today: date | None) -> list[str]:
    """Claims of deviations that have expired, or that no failure needed."""
    claims: dict[Deviation, bool] = {}
    for record in own:
        for claim in record.claims:
            if claim.requirement == name and record.verdict != "not-applicable":
                claims[claim] = claims.get(claim, False) or claim in record.deviated
    day = today or date.today()
    return [
        f"the claimed deviation {claim} {'has expired' if claim.expires < day else 'is not met'}"
        for claim, met in claims.items()
        if claim.expires < day or not met
    ]


def _tie_faults(own: list[TestRecord]) -> list[str]:
    count = totals(own)
    allowed = tolerances.ties_allowed(count["decisions"])
    if count["ties"] <= allowed:
        return []
    return [f"{count['ties']} runs were tied; among {count['decisions']} ids at most {allowed} may"]


def _nearest(comparison: Comparison) -> dict[str, Any]:
    """The comparison nearest to its limit; its margin is the limit divided by the error.

    The margin of an exact comparison is None. A failure without a size has no errors either.
    """
    used = comparison.used()
    entry = {**asdict(comparison), "used": used, "margin": 1 / used if used else None}
    del entry["quantiles"]
    if not np.isfinite(used):
        entry |= dict.fromkeys(("worst", "rms", "row", "used", "margin"))
    return entry


def by_subject(records: list[TestRecord]) -> dict[str, dict[str, dict[str, Any]]]:
    """The summary of each backend and model, and of the shared stages."""
    subjects = sorted({record.subject for record in records})
    return {
        subject: summarize([record for record in records if record.subject == subject])
        for subject in subjects
    }
