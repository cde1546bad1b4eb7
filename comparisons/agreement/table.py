"""The agreement table: what was compared with which program, and the largest error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from comparisons.agreement.known_differences import KnownDifference
from conformance.judging import tolerances
from conformance.judging.compare import Comparison
from conformance.judging.judge import Judge, MistrustedError
from conformance.judging.records import TestRecord


@dataclass
class Table:
    records: list[TestRecord] = field(default_factory=list)
    differences: list[KnownDifference] = field(default_factory=list)

    @contextmanager
    def judging(self, subject: str, case: str) -> Iterator[Judge]:
        """Record the comparisons of one case; a failure is recorded and does not end the run."""
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
    def passed(self) -> bool:
        passed = all(record.verdict == "pass" for record in self.records)
        reproduced = all(difference.reproduced for difference in self.differences)
        return bool(self.records) and passed and reproduced

    def lines(self) -> Iterator[str]:
        """The table, the known differences, and the failures."""
        yield f"{'with':<28}{'quantity':<24}{'cases':>6}{'compared':>12}  error"
        groups: dict[tuple[str, str], list[Comparison]] = {}
        for record in self.records:
            for comparison in record.comparisons:
                groups.setdefault((record.subject, comparison.quantity), []).append(comparison)
        for (subject, quantity), group in groups.items():
            elements = sum(comparison.elements for comparison in group)
            yield f"{subject:<28}{quantity:<24}{len(group):>6}{elements:>12,}  {_error(group)}"
        if self.differences:
            yield ""
            yield "known differences, each reproduced"
        for difference in self.differences:
            mark = "" if difference.reproduced else "NOT REPRODUCED "
            yield f"  {mark}{difference.name}"
            yield f"      theirs: {difference.theirs}"
            yield f"      ours:   {difference.ours}"
        for record in self.records:
            if record.verdict != "pass":
                yield f"{record.verdict}: {record.subject}, {record.node}: {record.message}"


def _error(group: list[Comparison]) -> str:
    """The largest error: in units of the noise floor if there is one, else with its limit."""
    if failed := sum(comparison.fault is not None for comparison in group):
        return f"FAIL in {failed}"
    if floors := [comparison.rms / comparison.floor for comparison in group if comparison.floor]:
        return f"{max(floors):.2f} times the float32 floor (limit {tolerances.FACTOR:.0f})"
    nearest = max(group, key=Comparison.used)
    return f"{nearest.worst:.2g} (limit {nearest.limit:.2g})" if nearest.limit else "identical"
