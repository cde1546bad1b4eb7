"""The number of examples of a property, and how a failing input is reported.

By default, examples are derived from the test itself, so that every run tries the same ones.
`--hypothesis-profile explore --hypothesis-seed N` tries others, and three times as many.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.strategies import DataObject

from conformance.judging.sequences import short
from conformance.report.failures import stating

EXPLORE = "explore"
_EXPLORED = 3  # factor of the number of examples
_PHASES = tuple(phase for phase in Phase if phase != Phase.explain)

settings.register_profile(EXPLORE)


def examples(
    count: int, phases: Iterable[Phase] = _PHASES
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The settings of a property, under the active profile; a failure states its input."""
    exploring = settings.default is settings.get_profile(EXPLORE)
    chosen = settings(
        max_examples=count * (_EXPLORED if exploring else 1),
        derandomize=not exploring,
        phases=phases,
        deadline=None,  # a slow machine is not a failure
        database=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )

    # The library prints all arguments of a failing test, also fixtures, before `failures` can
    # take its notes away.
    quiet = pytest.mark.filterwarnings("ignore:Generating overly large repr")

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        handle: Any = test.hypothesis  # type: ignore[attr-defined]
        fixtures = inspect.signature(test).parameters
        handle.inner_test = _with_input(handle.inner_test, frozenset(fixtures))
        decorated: Callable[..., None] = quiet(chosen(test))
        return decorated

    return decorate


def _with_input(test: Callable[..., None], fixtures: frozenset[str]) -> Callable[..., None]:
    """The test, whose exceptions carry the generated arguments as a note."""
    signature = inspect.signature(test)

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True

        def describe() -> str:
            return ", ".join(
                f"{name} = {short(value)}"
                for name, value in signature.bind(*args, **kwargs).arguments.items()
                if name not in fixtures and not isinstance(value, DataObject)
            )

        with stating(describe):
            test(*args, **kwargs)

    return run
