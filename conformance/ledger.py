"""Evidence: what every test compared, and the verdict that follows for each requirement."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance import compare
from conformance.compare import Comparison, Limit

SCHEMA_VERSION = 1


class MistrustedError(AssertionError):
    """A check that held, but would have held for a wrong output too."""


@dataclass
class TestRecord:
    """One test's part in the evidence."""

    __test__ = False  # a name that pytest would otherwise collect

    node: str
    requirements: tuple[str, ...]
    subject: str  # the backend and model judged, or "shared"
    comparisons: list[Comparison] = field(default_factory=list)
    ties: int = 0
    verdict: str = "error"
    message: str = ""


class Judge:
    """Compares, records the evidence, and proves on the spot that the comparison can fail."""

    def __init__(self, record: TestRecord) -> None:
        self._record = record

    def equal(self, quantity: str, actual: Any, expected: Any) -> None:
        """Integers, strings and sequences of them: exactly the same."""
        self._hold(compare.values(quantity, actual, expected))

    def same(self, quantity: str, actual: Any, expected: npt.NDArray[Any]) -> None:
        """Arrays: the same shape, type and bits."""
        self._hold(compare.bits(quantity, actual, expected))

    def close(
        self,
        quantity: str,
        actual: Any,
        expected: npt.ArrayLike,
        limit: Limit,
        *,
        decoys: tuple[npt.NDArray[Any], ...] = (),
        dtype: Any = np.float32,
    ) -> None:
        """Arrays of floats: within the limit everywhere.

        The same comparison is then made with outputs that must fail: zeros, one NaN, one element
        moved by twice its limit, the outputs shifted by one place, and the `decoys` (outputs for
        other inputs). If one passes, the limit hides more than it shows.
        """
        self._hold(compare.floats(quantity, actual, expected, limit, dtype))
        wanted = np.asarray(expected, np.float64)
        for name, wrong in _counterexamples(wanted, limit, decoys, dtype):
            if compare.floats(quantity, wrong, wanted, limit, dtype).fault is None:
                raise MistrustedError(f"{quantity}: {name} would have passed within {limit}")

    def refuses(self, quantity: str, call: Callable[[], Any], *errors: type[BaseException]) -> str:
        """The call raises one of the errors; gives its message."""
        try:
            result = call()
        except errors as error:
            self._hold(Comparison(quantity, 1, 0, 0))
            return str(error)
        names = " or ".join(error.__name__ for error in errors)
        self._hold(Comparison(quantity, 1, np.inf, 0, fault=f"got {result!r}, wanted {names}"))
        return ""

    def below(self, quantity: str, value: float, limit: float, elements: int = 1) -> None:
        """A measured number that must not exceed its limit; NaN exceeds every limit."""
        fault = None if value <= limit else f"{value:.4g} exceeds {limit:.4g}"
        self._hold(Comparison(quantity, elements, float(value), float(limit), fault=fault))

    def tie(self) -> None:
        """Count a divergence that its margin excuses."""
        self._record.ties += 1

    def _hold(self, comparison: Comparison) -> None:
        self._record.comparisons.append(comparison)
        if comparison.fault is not None:
            raise AssertionError(str(comparison))


def _counterexamples(
    wanted: npt.NDArray[np.float64],
    limit: Limit,
    decoys: tuple[npt.NDArray[Any], ...],
    dtype: Any,
) -> list[tuple[str, npt.NDArray[Any]]]:
    typed = wanted.astype(dtype)
    nan, moved = typed.copy(), typed.copy()
    nan.flat[-1] = np.nan
    moved.flat[-1] += 2 * limit.worst
    found = [("one NaN", nan), ("one element moved by twice its limit", moved)]
    if wanted.size > 1 and np.ptp(wanted) > 0:
        found += [("zeros", np.zeros_like(typed)), ("a shift by one", np.roll(typed, 1))]
    return found + [(f"decoy {i}", np.asarray(decoy)) for i, decoy in enumerate(decoys)]


_WORST_FIRST = ("error", "mistrusted", "fail", "not-applicable", "tie", "pass")


def summarize(records: list[TestRecord]) -> dict[str, dict[str, Any]]:
    """For each requirement its verdict (the worst of its tests') and its evidence."""
    summary: dict[str, dict[str, Any]] = {}
    for name in sorted({name for record in records for name in record.requirements}):
        own = [record for record in records if name in record.requirements]
        comparisons = [c for record in own for c in record.comparisons]
        nearest = max(comparisons, key=_share, default=None)
        verdicts = {record.verdict for record in own}
        summary[name] = {
            "verdict": next(v for v in _WORST_FIRST if v in verdicts),
            "tests": len(own),
            "elements": sum(c.elements for c in comparisons),
            "ties": sum(record.ties for record in own),
            "nearest": {k: _plain(v) for k, v in asdict(nearest).items()} if nearest else None,
            "failures": [f"{r.node}: {r.message}" for r in own if r.verdict not in ("pass", "tie")],
        }
    return summary


def _share(comparison: Comparison) -> float:
    """How much of its limit a comparison used."""
    if comparison.fault is not None:
        return np.inf
    shares = [
        value / limit
        for value, limit in (
            (comparison.worst, comparison.limit),
            (comparison.rms, comparison.rms_limit),
        )
        if limit
    ]
    return max(shares, default=0.0)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def document(
    records: list[TestRecord], environment: dict[str, str], backends: dict[str, Any]
) -> dict[str, Any]:
    """The machine-readable report, one verdict a requirement and subject."""
    subjects = sorted({record.subject for record in records})
    results = {
        subject: summarize([r for r in records if r.subject == subject]) for subject in subjects
    }
    verdicts = [entry["verdict"] for result in results.values() for entry in result.values()]
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": environment,
        "backends": backends,
        "results": results,
        "totals": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
    }


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
