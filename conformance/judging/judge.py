"""Evidence: what every test compared, and on the spot the proof that it could have failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging import compare
from conformance.judging import mutants as counterexamples
from conformance.judging.compare import Comparison, Limit
from conformance.judging.deviations import Deviation
from conformance.judging.waveform import sounds


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
    decisions: int = 0  # ids that were compared with those of a golden run
    ties: int = 0  # runs among them that parted from it where the margin excuses it
    claims: tuple[Deviation, ...] = ()  # known deviations that apply to it
    deviated: list[Deviation] = field(default_factory=list)  # those that were met
    verdict: str = "error"
    message: str = ""


class Judge:
    """Compares, records the evidence, and proves on the spot that the comparison can fail."""

    def __init__(self, record: TestRecord) -> None:
        self._record = record

    def equal(self, quantity: str, actual: Any, expected: Any) -> None:
        """Integers, strings and sequences of them: exactly the same.

        Repeated with something other than the expected, which must fail.
        """
        self._hold(compare.values(quantity, actual, expected))
        _require_two(quantity, actual, expected)
        for name, wrong in counterexamples.of_values(expected).items():
            if compare.values(quantity, actual, wrong).fault is None:
                raise MistrustedError(f"{quantity}: {name} would have passed")

    def same(self, quantity: str, actual: Any, expected: npt.NDArray[Any]) -> None:
        """Arrays: the same shape, type and bits; repeated with one bit turned."""
        self._hold(compare.bits(quantity, actual, expected))
        _require_two(quantity, actual, expected)
        for name, wrong in counterexamples.of_bits(expected).items():
            if compare.bits(quantity, actual, wrong).fault is None:
                raise MistrustedError(f"{quantity}: {name} would have passed")

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

        The same comparison is then made with outputs that must fail: those of
        `counterexamples.of_floats` and the `decoys` (outputs for other inputs). If one passes,
        the limit hides more than it shows.
        """
        self._hold(compare.floats(quantity, actual, expected, limit, dtype))
        self._mistrust(quantity, actual, expected, limit, decoys, dtype)

    def sounds(self, quantity: str, actual: Any, expected: npt.NDArray[Any], limit: Limit) -> None:
        """Samples (N,): as many, in step, of one polarity, and within the limit everywhere."""
        self._hold(sounds(quantity, actual, expected, limit))
        shifted = (np.roll(actual, 1), -actual) if np.any(expected) else ()
        self._mistrust(quantity, actual, expected, limit, shifted, np.float32)

    def _mistrust(
        self,
        quantity: str,
        actual: Any,
        expected: npt.ArrayLike,
        limit: Limit,
        decoys: tuple[npt.NDArray[Any], ...],
        dtype: Any,
    ) -> None:
        """What held is compared again with what must not."""
        _require_two(quantity, actual, expected)
        wanted = np.asarray(expected, np.float64)
        wrong_ones = counterexamples.of_floats(wanted, limit, dtype)
        wrong_ones |= {f"decoy {i}": np.asarray(decoy) for i, decoy in enumerate(decoys)}
        for name, wrong in wrong_ones.items():
            if compare.floats(quantity, wrong, wanted, limit, dtype).fault is None:
                raise MistrustedError(f"{quantity}: {name} would have passed within {limit}")

    def refuses(
        self,
        quantity: str,
        call: Callable[[], Any],
        *errors: type[BaseException],
        accepts: Callable[[], Any],
    ) -> str:
        """The call raises one of the errors; gives its message.

        `accepts` is the same call with valid input, which must succeed: what refuses everything
        refuses nothing in particular.
        """
        message = ""
        names = " or ".join(error.__name__ for error in errors)
        try:
            result = call()
        except errors as error:
            message = str(error)
            self._hold(Comparison(quantity, 1, 0, 0))
        else:
            fault = f"got {compare.short(result)}, wanted {names}"
            self._hold(Comparison(quantity, 1, np.inf, 0, fault=fault))
        try:
            accepts()
        except errors as error:
            raise MistrustedError(f"{quantity}: valid input is refused too: {error}") from error
        return message

    def below(
        self, quantity: str, value: float, limit: float, elements: int = 1, *, wrong: float
    ) -> None:
        """A measured number that must not exceed its limit; NaN exceeds every limit.

        `wrong` is the same measure taken of something that must not pass.
        """
        self._hold(compare.number(quantity, value, limit, elements))
        if compare.number(quantity, wrong, limit, elements).fault is None:
            raise MistrustedError(f"{quantity}: {wrong:.4g} would have passed within {limit:.4g}")

    def follows_not(self, convention: str, followed: Sequence[str]) -> None:
        """The outputs are not those of a known wrong convention; who follows it is told so."""
        fault = f"you follow the convention {convention!r}" if convention in followed else None
        self._hold(Comparison(convention, 1, float(convention in followed), 0, fault=fault))

    def decided(self, count: int, *, tied: bool = False) -> None:
        """Count the ids of one run; `tied`: it parted from the golden run within the margin."""
        self._record.decisions += count
        self._record.ties += tied

    def _hold(self, comparison: Comparison) -> None:
        self._record.comparisons.append(comparison)
        if comparison.fault is None:
            return
        met = [claim for claim in self._record.claims if claim.covers(comparison)]
        if not met:
            raise AssertionError(str(comparison))
        self._record.deviated += met


def _require_two(quantity: str, actual: Any, expected: Any) -> None:
    """Nothing is judged by comparing a thing with itself."""
    containers = (list, dict, set)
    alike = isinstance(actual, containers) and actual is expected
    if isinstance(actual, np.ndarray) and isinstance(expected, np.ndarray):
        alike = bool(actual.size) and np.may_share_memory(actual, expected)
    if alike:
        raise MistrustedError(f"{quantity}: compared with itself")


def totals(records: list[TestRecord]) -> Mapping[str, int]:
    """How many ids were decided and how many runs were tied."""
    return {
        "decisions": sum(record.decisions for record in records),
        "ties": sum(record.ties for record in records),
    }
