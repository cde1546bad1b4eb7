"""The error of each quantity against the oracle, in noise floors and as a part of its limit."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.judging.compare import Comparison
from conformance.judging.records import TestRecord


@dataclass(frozen=True)
class Margin:
    """The comparisons of one quantity with the oracle, over all models of a run."""

    floor: float  # the smallest noise floor (rms) of the models
    floors: float  # the largest rms error of the models, in noise floors
    row: float  # the error of the worst row divided by its limit
    worst: float  # the error of the worst element divided by its limit


def margins(records: list[TestRecord]) -> dict[str, dict[str, Margin]]:
    """By backend, then by quantity."""
    comparisons: dict[str, dict[str, list[Comparison]]] = {}
    for record in records:
        backend = record.subject.rpartition("-")[0] or record.subject
        for comparison in record.comparisons:
            if comparison.floor:
                own = comparisons.setdefault(backend, {})
                own.setdefault(comparison.quantity, []).append(comparison)
    return {
        backend: {quantity: _margin(each) for quantity, each in sorted(own.items())}
        for backend, own in sorted(comparisons.items())
    }


def _margin(comparisons: list[Comparison]) -> Margin:
    return Margin(
        min(c.floor for c in comparisons),
        max(c.rms / c.floor for c in comparisons),
        max(c.row / c.row_limit if c.row_limit else 0.0 for c in comparisons),
        max(c.worst / c.limit for c in comparisons),
    )


def lines(records: list[TestRecord]) -> list[str]:
    """The table, one line per quantity and backend; no line if nothing was compared."""
    table = [
        f"{quantity:22} {backend:16} {margin.floor:9.1e} {margin.floors:8.2f} "
        f"{margin.row:9.0%} {margin.worst:10.0%}"
        for backend, own in margins(records).items()
        for quantity, margin in own.items()
    ]
    head = f"{'quantity':22} {'backend':16} {'floor':>9} {'floors':>8} {'row used':>9} "
    return [f"{head}{'worst used':>10}", *table] if table else []
