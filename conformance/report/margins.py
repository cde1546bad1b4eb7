"""How far from the oracle each quantity was, in units of its noise floor, and what was left."""

from __future__ import annotations

from dataclasses import dataclass

from conformance.judging.compare import Comparison
from conformance.judging.records import TestRecord


@dataclass(frozen=True)
class Margin:
    """The comparisons of one quantity with the oracle, over all models of a run."""

    floor: float  # the least noise floor (rms) among the models
    floors: float  # the rms error, in noise floors: the most of any model
    row: float  # how much of its limit the worst row used
    worst: float  # how much of its limit the worst element used


def margins(records: list[TestRecord]) -> dict[str, dict[str, Margin]]:
    """By backend, then by quantity."""
    found: dict[str, dict[str, list[Comparison]]] = {}
    for record in records:
        backend = record.subject.rpartition("-")[0] or record.subject
        for comparison in record.comparisons:
            if comparison.floor:
                own = found.setdefault(backend, {})
                own.setdefault(comparison.quantity, []).append(comparison)
    return {
        backend: {quantity: _margin(each) for quantity, each in sorted(own.items())}
        for backend, own in sorted(found.items())
    }


def _margin(comparisons: list[Comparison]) -> Margin:
    return Margin(
        min(c.floor for c in comparisons),
        max(c.rms / c.floor for c in comparisons),
        max(c.row / c.row_limit if c.row_limit else 0.0 for c in comparisons),
        max(c.worst / c.limit for c in comparisons),
    )


def lines(records: list[TestRecord]) -> list[str]:
    """The table, one line a quantity and backend; none where nothing was compared."""
    found = [
        f"{quantity:22} {backend:16} {margin.floor:9.1e} {margin.floors:8.2f} "
        f"{margin.row:9.0%} {margin.worst:10.0%}"
        for backend, own in margins(records).items()
        for quantity, margin in own.items()
    ]
    head = f"{'quantity':22} {'backend':16} {'floor':>9} {'floors':>8} {'row used':>9} "
    return [f"{head}{'worst used':>10}", *found] if found else []
