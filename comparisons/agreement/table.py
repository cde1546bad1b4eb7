"""The agreement table: what was compared with which program, and whether it held."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from conformance.judging import tolerances
from conformance.judging.compare import Comparison
from conformance.judging.judge import Judge, MistrustedError, TestRecord


@dataclass(frozen=True)
class Divergence:
    """A known difference, as measured: it must really be there."""

    name: str
    theirs: str
    ours: str
    shown: bool


@dataclass
class Table:
    records: list[TestRecord] = field(default_factory=list)
    divergences: list[Divergence] = field(default_factory=list)

    @contextmanager
    def judging(self, subject: str, case: str) -> Iterator[Judge]:
        """One claim about one case; what fails is kept and the run goes on."""
        record = TestRecord(case, (), subject)
        self.records.append(record)
        try:
            yield Judge(record)
            if not record.comparisons:
                raise AssertionError("nothing was compared")
            record.verdict = "pass"
        except AssertionError as error:
            record.verdict = "mistrusted" if isinstance(error, MistrustedError) else "fail"
            record.message = str(error)

    @property
    def good(self) -> bool:
        held = all(record.verdict == "pass" for record in self.records)
        shown = all(divergence.shown for divergence in self.divergences)
        return bool(self.records) and held and shown

    def lines(self) -> Iterator[str]:
        """The table, then what failed."""
        yield f"{'with':<28}{'quantity':<24}{'cases':>6}{'compared':>12}  error"
        for (subject, quantity), found in self._rows().items():
            elements = sum(comparison.elements for comparison in found)
            yield f"{subject:<28}{quantity:<24}{len(found):>6}{elements:>12,}  {_error(found)}"
        if self.divergences:
            yield ""
            yield "known divergences, shown to be there"
        for divergence in self.divergences:
            mark = "" if divergence.shown else "NOT SHOWN "
            yield f"  {mark}{divergence.name}"
            yield f"      theirs: {divergence.theirs}"
            yield f"      ours:   {divergence.ours}"
        for record in self.records:
            if record.verdict != "pass":
                yield f"{record.verdict}: {record.subject}, {record.node}: {record.message}"

    def _rows(self) -> dict[tuple[str, str], list[Comparison]]:
        rows: dict[tuple[str, str], list[Comparison]] = {}
        for record in self.records:
            for comparison in record.comparisons:
                rows.setdefault((record.subject, comparison.quantity), []).append(comparison)
        return rows


def _error(found: list[Comparison]) -> str:
    """The largest error of a row: in units of the float32 noise floor, else beside its limit."""
    if failed := sum(comparison.fault is not None for comparison in found):
        return f"FAIL in {failed}"
    if floors := [comparison.rms / comparison.floor for comparison in found if comparison.floor]:
        return f"{max(floors):.2f} times the float32 floor (limit {tolerances.FACTOR:.0f})"
    nearest = max(found, key=Comparison.share)
    return f"{nearest.worst:.2g} (limit {nearest.limit:.2g})" if nearest.limit else "identical"
