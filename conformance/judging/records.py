"""The evidence of one test."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from conformance.judging.compare import Comparison
from conformance.judging.deviations import Deviation
from conformance.judging.excerpts import Excerpt
from soprano.backends import BUILT_IN


@dataclass
class TestRecord:
    """What one test compared, and its verdict."""

    __test__ = False  # pytest would collect the name

    node: str
    requirements: tuple[str, ...]
    subject: str  # backend and model, or "shared" for this package's own stages
    comparisons: list[Comparison] = field(default_factory=list)
    ids: int = 0  # generated ids that were compared with those of another run
    ties: int = 0  # runs that diverged within the decision margin
    claims: tuple[Deviation, ...] = ()  # deviations that apply to the test
    deviated: list[Deviation] = field(default_factory=list)  # deviations that occurred
    differences: list[str] = field(default_factory=list)  # known ones, by a text profile
    notes: list[str] = field(default_factory=list)  # what the report states besides the verdict
    audio: Excerpt | None = None  # samples that were compared
    golden: str = ""  # where the golden values come from
    verdict: str = "error"
    message: str = ""
    repeat: str = ""  # the command that runs the test again
    not_run: bool = False  # selected, but the run ended before the test


def is_third_party(subject: str) -> bool:
    """Whether a subject ("shared", "backend-model" or a backend) is not of this package."""
    return subject != "shared" and subject.partition("-")[0] not in BUILT_IN


def backend_of(subject: str, others: Collection[str]) -> str:
    """The backend of a subject, which is "backend-model" or a backend.

    Both names may contain hyphens. `others` are all subjects of the run: a backend may be one.
    """
    if any(other.startswith(f"{subject}-") for other in others):
        return subject
    known = [other for other in others if subject.startswith(f"{other}-")]
    return max(known, key=len, default="") or subject.rpartition("-")[0] or subject


def totals(records: Sequence[TestRecord]) -> Mapping[str, int]:
    """The number of ids that were compared, and of runs that were tied."""
    return {
        "decisions": sum(record.ids for record in records),
        "ties": sum(record.ties for record in records),
    }
