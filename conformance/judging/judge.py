"""Comparisons with evidence: every passing comparison is repeated on mutants, which must fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.judging import compare, mutants
from conformance.judging.compare import Comparison, Limit
from conformance.judging.excerpts import error_quantiles, excerpt
from conformance.judging.places import Places, usual
from conformance.judging.records import TestRecord, is_third_party
from conformance.judging.sequences import short
from conformance.judging.waveform import compare_waveforms
from conformance.ports.wire import PortFailureError
from soprano.config import DecoderConfig

_WATCHED = 2**26  # bytes of outputs that are compared with their copies again after a test
_HUNDREDS = 200  # elements whose errors cannot all be zero


class MistrustedError(AssertionError):
    """A comparison passed, and a mutant passed it too."""


class Judge:
    """Compares outputs and records the evidence; raises `AssertionError` at the first failure.

    `places` name the positions in an array. By default they follow from the name of the quantity,
    which contains "logits", "hidden", "spectrum" or "samples"; see `places.usual`.
    """

    def __init__(self, record: TestRecord, config: DecoderConfig | None = None) -> None:
        self._evidence = record
        self._config = config
        self.faults: list[str] | None = None  # of the comparisons that are made together
        self._compared: list[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]] = []
        self._bytes = 0  # of the outputs that were compared

    def require_unchanged(self) -> None:
        """Outputs are still what they were when they were compared."""
        __tracebackhide__ = True
        for quantity, actual, copy in self._compared:
            if actual.tobytes() != copy.tobytes():
                raise AssertionError(f"{quantity} changed after it was compared")

    def _watched(self, quantity: str, actual: Any) -> Any:
        """A copy of an output, with which it is compared again after the test."""
        copy = _copy(actual)
        if copy is not actual:
            self._bytes += copy.nbytes
            if self._bytes <= _WATCHED:
                self._compared.append((quantity, actual, copy))
        return copy

    def together(self) -> AbstractContextManager[None]:
        """Make all comparisons of a block, then fail once with every fault."""
        return _Together(self) if self.faults is None else nullcontext()

    def equal(self, quantity: str, actual: Any, expected: Any) -> None:
        """Exact equality of integers, strings and sequences of them."""
        __tracebackhide__ = True
        if self._passed(compare.values(quantity, actual, expected)):
            _require_two_objects(quantity, actual, expected)
            _challenge(
                quantity,
                mutants.of_values(expected),
                lambda mutant: compare.values(quantity, actual, mutant),
            )

    def shape(
        self,
        quantity: str,
        actual: Any,
        expected: tuple[int, ...],
        *,
        places: Places | None = None,
    ) -> None:
        """An array of a shape."""
        __tracebackhide__ = True
        named = places or usual(quantity, expected, self._config)
        if self._passed(compare.shape(quantity, actual, expected, named)):
            _challenge(
                quantity,
                mutants.of_values(expected),
                lambda mutant: compare.shape(quantity, actual, mutant),
            )

    def bits(
        self,
        quantity: str,
        actual: Any,
        expected: npt.NDArray[Any],
        *,
        places: Places | None = None,
    ) -> None:
        """Arrays of the same shape, type and bits."""
        __tracebackhide__ = True
        named = places or usual(quantity, expected.shape, self._config)
        if self._passed(compare.bits(quantity, _copy(actual), expected, named)):
            _require_two_objects(quantity, actual, expected)
            _challenge(
                quantity,
                mutants.of_bits(expected),
                lambda mutant: compare.bits(quantity, actual, mutant),
            )

    def close(
        self,
        quantity: str,
        actual: Any,
        expected: npt.ArrayLike,
        limit: Limit,
        *,
        decoys: tuple[npt.NDArray[Any], ...] = (),
        dtype: Any = np.float32,
        places: Places | None = None,
    ) -> None:
        """Arrays of floats within the limit.

        The mutants are those of `mutants.of_floats` and the `decoys`, outputs for other inputs.
        """
        __tracebackhide__ = True
        named = places or usual(quantity, np.shape(expected), self._config)
        copy = self._watched(quantity, actual)
        comparison = compare.floats(quantity, copy, expected, limit, dtype, named)
        if self._passed(_with_quantiles(comparison, copy, expected)):
            _require_rounding(comparison, copy, expected)
            self._challenge_floats(quantity, actual, expected, limit, decoys, dtype)

    def waveform(
        self,
        quantity: str,
        actual: Any,
        expected: Any,
        limit: Limit,
        *,
        places: Places | None = None,
    ) -> None:
        """Samples (N,) within the limit.

        A failure names samples that are missing, a lag, an inverted polarity or another level.
        """
        __tracebackhide__ = True
        named = places or usual("samples", np.shape(expected), self._config)
        copy = self._watched(quantity, actual)
        comparison = compare_waveforms(quantity, copy, expected, limit, named)
        self._keep_audio(comparison, copy, expected)
        if self._passed(_with_quantiles(comparison, copy, expected)):
            _require_rounding(comparison, copy, expected)
            decoys = (np.roll(copy, 1), -copy) if np.any(expected) else ()
            self._challenge_floats(quantity, actual, expected, limit, decoys, np.float32)

    def _keep_audio(self, comparison: Comparison, actual: Any, expected: Any) -> None:
        """Keep samples for the report, if they were compared with the oracle or differ."""
        if self._config and (comparison.floor or comparison.fault):
            kept = excerpt(comparison, actual, expected, self._config.sample_rate)
            if kept and kept.preferred_to(self._evidence.audio):
                self._evidence.audio = kept

    def _challenge_floats(
        self,
        quantity: str,
        actual: Any,
        expected: npt.ArrayLike,
        limit: Limit,
        decoys: tuple[npt.NDArray[Any], ...],
        dtype: Any,
    ) -> None:
        __tracebackhide__ = True
        _require_two_objects(quantity, actual, expected)
        wanted = np.asarray(expected, np.float64)
        altered = mutants.of_floats(wanted, limit, dtype)
        altered |= {f"decoy {i}": np.asarray(decoy) for i, decoy in enumerate(decoys)}
        _challenge(
            f"{quantity} within {limit}",
            altered,
            lambda mutant: compare.floats(quantity, mutant, wanted, limit, dtype),
        )

    def refuses(
        self,
        quantity: str,
        call: Callable[[], Any],
        *errors: type[BaseException],
        accepts: Callable[[], Any],
        names: Sequence[object] = (),
    ) -> str:
        """The call raises one of the errors; returns the message.

        A port may raise any exception whose message names the problem: it contains one of `names`
        (words or values), or is not empty if there are none.
        `accepts` is the same call with valid input. It must succeed: a call that rejects every
        input proves nothing.
        """
        __tracebackhide__ = True
        message, fault = "", None
        wanted = " or ".join(error.__name__ for error in errors)
        foreign = is_third_party(self._evidence.subject)
        if foreign:
            errors, wanted = (Exception,), "an exception"
        try:
            result = call()
        except PortFailureError:
            raise
        except errors as error:
            message = str(error)
            known = [str(name).lower() in message.lower() for name in names] or [bool(message)]
            if foreign and not any(known):
                fault = f"the message does not name the problem: {error!r}"
        else:
            fault = f"got {short(result)}, wanted {wanted}"
        self._passed(Comparison(quantity, 1, 0, 0, fault=fault))
        try:
            accepts()
        except errors as error:
            raise MistrustedError(f"{quantity}: valid input is rejected too: {error}") from error
        return message

    def below(
        self,
        quantity: str,
        value: float,
        limit: float,
        elements: int = 1,
        *,
        wrong: float,
        fault: str = "",
    ) -> None:
        """A measured value that must not exceed its limit; NaN exceeds every limit.

        `wrong` is the same measure of an output that must not pass; `fault` states what a value
        beyond the limit means.
        """
        __tracebackhide__ = True
        if self._passed(compare.number(quantity, value, limit, elements, fault)):
            _challenge(
                f"{quantity} within {limit:.4g}",
                {f"{wrong:.4g}": wrong},
                lambda mutant: compare.number(quantity, mutant, limit, elements),
            )

    def not_following(self, convention: str, followed: Sequence[str]) -> None:
        """The outputs are not those of a known wrong convention; a failure names it."""
        __tracebackhide__ = True
        fault = f"you follow the convention {convention!r}" if convention in followed else None
        self._passed(Comparison(convention, 1, 0, 0, fault=fault))

    def differs(self, what: str) -> None:
        """Record a difference from the contract that is known of what is judged."""
        self._evidence.differences.append(what)

    def note(self, what: str) -> None:
        """Record what the report states besides the verdict."""
        self._evidence.notes.append(what)

    def count_ids(self, count: int, *, tied: bool = False) -> None:
        """Count the compared ids of one run; `tied`: it diverged within the decision margin."""
        self._evidence.ids += count
        self._evidence.ties += tied

    def _passed(self, comparison: Comparison) -> bool:
        """Record a comparison; whether it passed, where a failure does not raise at once.

        One that a claim covers has not passed: a mutant may equal the output.
        """
        __tracebackhide__ = True
        self._evidence.comparisons.append(comparison)
        if comparison.fault is None:
            return True
        claims = [claim for claim in self._evidence.claims if claim.covers(comparison)]
        self._evidence.deviated += claims
        if claims:
            return False
        if self.faults is None:
            raise AssertionError(str(comparison))
        self.faults.append(str(comparison))
        return False


class _Together(AbstractContextManager[None]):
    """The block of `Judge.together`; a class, whose frames pytest can leave out of a traceback."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    def __enter__(self) -> None:
        self.judge.faults = []

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        __tracebackhide__ = True
        faults, self.judge.faults = self.judge.faults or [], None
        if faults and isinstance(error, Exception):
            faults.append(f"then {type(error).__name__}: {error}")
        if faults and (error is None or isinstance(error, Exception)):
            raise AssertionError("\n".join(faults)) from error


def _with_quantiles(comparison: Comparison, actual: Any, expected: npt.ArrayLike) -> Comparison:
    """A comparison of floats with the quantiles of its errors, if it has a noise floor."""
    if not comparison.floor or not comparison.elements or not np.isfinite(actual).all():
        return comparison
    errors = error_quantiles(actual, expected, comparison.floor)
    return replace(comparison, quantiles=errors)


def _challenge(
    quantity: str, altered: Mapping[str, Any], again: Callable[[Any], Comparison]
) -> None:
    """Repeat a comparison with each mutant; each must fail."""
    __tracebackhide__ = True
    for name, mutant in altered.items():
        if again(mutant).fault is None:
            raise MistrustedError(f"{quantity}: the mutant {name!r} would have passed")


def _copy(actual: Any) -> Any:
    """An array as it is now: a port may have kept it."""
    return actual.copy() if type(actual) is np.ndarray else actual


def _require_rounding(comparison: Comparison, actual: Any, expected: npt.ArrayLike) -> None:
    """Outputs cannot equal values that their type does not represent, such as those of float64."""
    __tracebackhide__ = True
    wanted = np.asarray(expected, np.float64)
    exact = comparison.worst == 0 and comparison.elements >= _HUNDREDS
    if exact and np.any(wanted.astype(actual.dtype) != wanted):
        raise MistrustedError(
            f"{comparison.quantity}: the error of {comparison.elements:,} elements is exactly "
            f"zero, and {actual.dtype} does not represent them"
        )


def _require_two_objects(quantity: str, actual: Any, expected: Any) -> None:
    """A comparison of an object with itself proves nothing."""
    __tracebackhide__ = True
    same = isinstance(actual, (list, dict, set)) and actual is expected
    if isinstance(actual, np.ndarray) and isinstance(expected, np.ndarray):
        same = bool(actual.size) and np.may_share_memory(actual, expected)
    if same:
        raise MistrustedError(f"{quantity}: compared with itself")
