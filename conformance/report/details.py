"""What the document adds to the verdicts: errors, audio, deviations and commands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import date
from math import isfinite
from typing import Any

from conformance.judging.compare import Comparison
from conformance.judging.excerpts import Excerpt
from conformance.judging.records import TestRecord

_COMMANDS = 20  # of the failing tests of a requirement


def details(records: list[TestRecord], today: date | None = None) -> dict[str, Any]:
    """The fields of the document that a report shows beside the verdicts."""
    return {
        "errors": _errors(records),
        "audio": _audio(records),
        "deviations": _deviations(records, today or date.today()),
    }


def commands(records: Iterable[TestRecord]) -> dict[str, str]:
    """By failing test, the command that repeats it; of many tests, the first."""
    good = ("pass", "tie", "not-applicable")
    found = [(r.node, r.repeat) for r in records if r.repeat and r.verdict not in good]
    return dict(found[:_COMMANDS])


def _errors(records: list[TestRecord]) -> dict[str, dict[str, dict[str, Any]]]:
    """By subject, then by quantity: the comparison with the oracle that has the largest error."""
    worst: dict[str, dict[str, Comparison]] = {}
    for record in records:
        own = worst.setdefault(record.subject, {})
        for each in record.comparisons:
            known = own.get(each.quantity)
            measured = each.quantiles and isfinite(sum(each.quantiles) + each.rms / each.floor)
            if measured and (known is None or each.rms / each.floor > known.rms / known.floor):
                own[each.quantity] = each
    return {
        subject: {
            quantity: {"floor": c.floor, "floors": c.rms / c.floor, "quantiles": c.quantiles}
            for quantity, c in sorted(own.items())
        }
        for subject, own in sorted(worst.items())
        if own
    }


def _audio(records: list[TestRecord]) -> dict[str, dict[str, Any]]:
    """By subject: the excerpt of a failure, else the longest."""
    kept: dict[str, Excerpt] = {}
    for record in records:
        if record.audio and record.audio.preferred_to(kept.get(record.subject)):
            kept[record.subject] = record.audio
    return {subject: asdict(excerpt) for subject, excerpt in sorted(kept.items())}


def _deviations(records: list[TestRecord], today: date) -> list[dict[str, Any]]:
    """The claims that apply to a test, and whether a failure confirmed them."""
    claims = {claim: False for record in records for claim in record.claims}
    for record in records:
        claims.update(dict.fromkeys(record.deviated, True))
    return [
        {
            **asdict(claim),
            "expires": claim.expires.isoformat(),
            "expired": claim.expires < today,
            "met": met,
        }
        for claim, met in claims.items()
    ]
