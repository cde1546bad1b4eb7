"""From records to verdicts: one a requirement and subject, and whether the run is red."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np

from conformance.contract.reader import requirements
from conformance.judging import tolerances
from conformance.judging.compare import Comparison
from conformance.judging.deviations import Deviation
from conformance.judging.records import TestRecord, totals

# The worst of a requirement's tests decides; a test that is not applicable says nothing.
ORDER = ("error", "mistrusted", "fail", "skipped", "deviation", "tie", "pass", "not-applicable")
RED = ("error", "mistrusted", "fail")


def summarize(records: list[TestRecord], today: date | None = None) -> dict[str, dict[str, Any]]:
    """For each requirement its verdict and its evidence; the records are of one subject or all."""
    summary: dict[str, dict[str, Any]] = {}
    for name in sorted({name for record in records for name in record.requirements}):
        own = [record for record in records if name in record.requirements]
        beyond_tests = [*_claim_faults(name, own, today), *_tie_faults(own)]
        verdicts = {record.verdict for record in own} | ({"fail"} if beyond_tests else set())
        summary[name] = {
            **_terms(name),
            "verdict": next(verdict for verdict in ORDER if verdict in verdicts),
            **_evidence(own),
            "failures": _failures(own) + beyond_tests,
        }
    return summary


def _terms(name: str) -> dict[str, str]:
    """What the contract says of a requirement; one it does not know is a `must`."""
    row = requirements().get(name)
    return {"level": row.level if row else "must", "law": row.law if row else ""}


def _evidence(own: list[TestRecord]) -> dict[str, Any]:
    comparisons = [c for record in own for c in record.comparisons]
    nearest = max(comparisons, key=Comparison.used, default=None)
    return {
        "tests": len(own),
        "nodes": sorted(record.node for record in own),
        "comparisons": len(comparisons),
        "elements": sum(c.elements for c in comparisons),
        **totals(own),
        "nearest": _nearest(nearest) if nearest else None,
    }


def _failures(own: list[TestRecord]) -> list[str]:
    silent = ("pass", "tie", "not-applicable")
    return [f"{r.node}: {r.verdict}: {r.message}" for r in own if r.verdict not in silent]


def _claim_faults(name: str, own: list[TestRecord], today: date | None) -> list[str]:
    """Claims of deviation that have expired, or that no failure bears out any more."""
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
    """The comparison that came nearest to its limit; margin: how many times its error would fit.

    The margin of an exact comparison is None; numbers that JSON does not know become words.
    """
    used = comparison.used()
    found = {**asdict(comparison), "used": used, "margin": 1 / used if used else None}
    return {
        key: str(value) if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in found.items()
    }


def by_subject(records: list[TestRecord]) -> dict[str, dict[str, dict[str, Any]]]:
    """The summary of each backend and model, and of what is shared."""
    subjects = sorted({record.subject for record in records})
    return {
        subject: summarize([record for record in records if record.subject == subject])
        for subject in subjects
    }
