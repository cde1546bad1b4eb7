"""How many examples a property is tried with: the same on every run, or others with each seed.

`--hypothesis-profile explore --hypothesis-seed N` looks further; without it, examples are derived
from the test itself, so that a run tomorrow is the run of today.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import HealthCheck, Phase, settings

EXPLORE = "explore"
_EXPLORED = 3  # times as many examples

settings.register_profile(EXPLORE)


def examples(count: int, phases: Iterable[Phase] = tuple(Phase)) -> settings:
    """The settings of a property, under the profile in force."""
    exploring = settings.default is settings.get_profile(EXPLORE)
    return settings(
        max_examples=count * (_EXPLORED if exploring else 1),
        derandomize=not exploring,
        phases=phases,
        deadline=None,  # a busy machine is no failure
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
