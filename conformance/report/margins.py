"""The error of each quantity against the oracle, in noise floors and as a part of its limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from conformance.judging.compare import Comparison, of_limit
from conformance.judging.records import TestRecord, backend_of

_LANGUAGE_MODEL = ("logits", "hidden")  # the last words of its quantities; others: the decoder's

Group = list[tuple[TestRecord, Comparison]]  # the comparisons of one quantity with their tests


@dataclass(frozen=True)
class Margin:
    """The comparisons of one quantity with the oracle, over all models of a run."""

    floor: float  # the smallest noise floor (rms) of the models
    floors: float  # the largest rms error of the models, in noise floors
    row: float  # the error of the worst row divided by its limit
    worst: float  # the error of the worst element divided by its limit


def margins(records: list[TestRecord]) -> dict[str, dict[str, Margin]]:
    """By backend, then by quantity, where it was measured as widely as its neighbours."""
    return {
        backend: {
            quantity: _margin([comparison for _, comparison in group])
            for quantity, group in own.items()
            if not _gap(group, own, quantity)
        }
        for backend, own in _by_backend(records).items()
    }


def _by_backend(records: list[TestRecord]) -> dict[str, dict[str, Group]]:
    groups: dict[str, dict[str, Group]] = {}
    subjects = {record.subject for record in records}
    for record in records:
        backend = backend_of(record.subject, subjects)
        for comparison in record.comparisons:
            if comparison.floor:
                own = groups.setdefault(backend, {})
                own.setdefault(comparison.quantity, []).append((record, comparison))
    return {
        backend: dict(sorted(own.items(), key=lambda entry: _order(entry[0])))
        for backend, own in sorted(groups.items())
    }


def _order(quantity: str) -> tuple[bool, str]:
    return not _of_language_model(quantity), quantity


def _of_language_model(quantity: str) -> bool:
    return quantity.split()[-1] in _LANGUAGE_MODEL


def _gap(group: Group, own: dict[str, Group], quantity: str) -> str:
    """Why the numbers of a quantity cannot be compared with those of its neighbours; or nothing.

    Its neighbours are the other quantities of the same calls. A test that ends at a failure leaves
    some unjudged: the numbers of other models or tests would stand for them.
    """
    if any(not np.isfinite(comparison.used()) for _, comparison in group):
        return "not measured: an output has another form or is not finite"
    call = quantity.split()[:-1] if _of_language_model(quantity) else None
    neighbours = {
        name: other
        for name, other in own.items()
        if (name.split()[:-1] if _of_language_model(name) else None) == call
    }
    if missing := sorted(_models(neighbours) - _models({quantity: group})):
        return f"not judged on {', '.join(missing)}"
    tests = {record.node for record, _ in group}
    for name, other in neighbours.items() if call else ():
        if not {record.node for record, _ in other} <= tests:
            return f"not judged by every test of {name}"
    return ""


def _models(groups: dict[str, Group]) -> set[str]:
    return {record.subject.rpartition("-")[2] for own in groups.values() for record, _ in own}


def _margin(comparisons: list[Comparison]) -> Margin:
    return Margin(
        min(c.floor for c in comparisons),
        max(c.rms / c.floor for c in comparisons),
        max(c.row / c.row_limit if c.row_limit else 0.0 for c in comparisons),
        max(c.worst / c.limit for c in comparisons),
    )


def lines(records: list[TestRecord], most: int | None = None) -> list[str]:
    """The table, one line per quantity and backend; no line if nothing was compared.

    With `most`, only that many quantities.
    """
    head = f"{'quantity':22} {'backend':16} {'floor':>9} {'floors':>9} {'row used':>14} "
    table = list(_rows(_by_backend(records), margins(records)))
    if more := len(table[most:]) if most else 0:
        table[most:] = [f"and {more} more"]
    return [f"{head}{'worst used':>14}", *table] if table else []


def _rows(
    groups: dict[str, dict[str, Group]], measured: dict[str, dict[str, Margin]]
) -> Iterator[str]:
    for backend, own in groups.items():
        everywhere = _models(own)
        for quantity, group in own.items():
            text = _gap(group, own, quantity)
            if margin := measured[backend].get(quantity):
                used = f"{_used(margin.row):>14} {_used(margin.worst):>14}"
                text = f"{margin.floor:9.1e} {_number(margin.floors):>9} {used}"
                if (models := _models({quantity: group})) != everywhere:
                    text += f"  on {', '.join(sorted(models))}"
            yield f"{quantity:22} {backend:16} {text}"


def _number(value: float) -> str:
    return f"{value:.2f}" if value < 1000 else f"{value:.1e}"


def _used(ratio: float) -> str:
    return of_limit(ratio).removesuffix(" of its limit").removesuffix(" its limit")
