"""What changed between two runs: two versions of a runtime, two commits, two machines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from conformance.contract.reader import STAGES, pipeline_order
from conformance.report.documents import DocumentError, read_inputs
from conformance.report.verdicts import RED

Json = dict[str, Any]
CHANGED = 1.25  # an error that is larger or smaller by this factor has changed


@dataclass(frozen=True)
class Change:
    """One difference; `where` is a subject, and a requirement or a quantity of it."""

    where: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.where}: {self.before or 'absent'} -> {self.after or 'absent'}"


@dataclass
class Differences:
    """The differences of two runs by kind."""

    verdicts: list[Change] = field(default_factory=list)
    errors: list[Change] = field(default_factory=list)
    configuration: list[Change] = field(default_factory=list)
    worse: bool = False  # whether a requirement fails that did not

    def document(self) -> Json:
        return asdict(self)

    def lines(self) -> Iterator[str]:
        kinds = {
            "changed verdicts": self.verdicts,
            "changed errors, in noise floors or parts of their limits": self.errors,
            "different configuration": self.configuration,
        }
        for title, changes in kinds.items():
            yield f"{title}: {len(changes) or 'none'}"
            yield from (f"  {change}" for change in changes)


def diff(first: Path, second: Path) -> Differences:
    """Compare two documents of `conformance run`.

    Raises:
        DocumentError: a file is no such document.
    """
    documents = []
    for path in (first, second):
        runs = read_inputs([path]).runs
        if len(runs) != 1:
            raise DocumentError(f"{path} is no document of a run")
        documents.append(runs[0].document)
    before, after = documents
    found = Differences()
    for subject, one, other in _pairs(before["results"], after["results"]):
        _verdicts(found, subject, one, other)
    found.errors += [
        *_levels(before["results"], after["results"]),
        *_floors(before["margins"], after["margins"]),
    ]
    found.configuration += _fields("environment", before["environment"], after["environment"])
    for subject, one, other in _pairs(before["backends"], after["backends"]):
        attested = ({n: e["value"] for n, e in each.items()} for each in (one, other))
        found.configuration += _fields(subject, *attested)
    return found


def _pairs(before: Json, after: Json) -> Iterator[tuple[str, Json, Json]]:
    """The entries of equal names; single entries of other names are compared too."""
    own, other = (set(names) for names in (before, after))
    if len(own - other) == len(other - own) == 1:
        (old,), (new,) = own - other, other - own
        yield f"{old} / {new}", before[old], after[new]
    for name in sorted(own & other):
        yield name, before[name], after[name]


def _verdicts(found: Differences, subject: str, before: Json, after: Json) -> None:
    for name in sorted({*before, *after}, key=pipeline_order):
        old, new = (entries.get(name, {}).get("verdict", "") for entries in (before, after))
        if old != new:
            found.verdicts.append(Change(f"{subject} {name}", old, new))
            found.worse = found.worse or (new in RED and old not in RED)


def _levels(before: Json, after: Json) -> Iterator[Change]:
    """The largest part of a limit that is used, of each stage."""
    for subject, one, other in _pairs(before, after):
        used = [_largest(entries) for entries in (one, other)]
        for stage in STAGES:
            old, new = (each.get(stage) for each in used)
            if old and new and not 1 / CHANGED <= new / old <= CHANGED:
                yield Change(
                    f"{subject} {STAGES[stage]}, part of its limit", f"{old:.3g}", f"{new:.3g}"
                )


def _largest(entries: Json) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, entry in entries.items():
        used = (entry.get("nearest") or {}).get("used")
        if used and entry["nearest"].get("limit"):
            found[name[:2]] = max(found.get(name[:2], 0.0), used)
    return found


def _floors(before: Json, after: Json) -> Iterator[Change]:
    """Errors of the networks in noise floors."""
    for backend, one, other in _pairs(before, after):
        for quantity in sorted(set(one) & set(other)):
            old, new = one[quantity]["floors"], other[quantity]["floors"]
            if old and new and not 1 / CHANGED <= new / old <= CHANGED:
                yield Change(f"{backend} {quantity}, noise floors", f"{old:.3g}", f"{new:.3g}")


def _fields(where: str, before: Json, after: Json) -> list[Change]:
    return [
        Change(f"{where} {name}", str(before.get(name, "")), str(after.get(name, "")))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
