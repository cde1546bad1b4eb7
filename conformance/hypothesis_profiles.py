"""The number of examples of a property, and whether they are the same on every run.

By default, examples are derived from the test itself, so that every run tries the same ones.
`--hypothesis-profile explore --hypothesis-seed N` tries others, and three times as many.
"""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import HealthCheck, Phase, settings

EXPLORE = "explore"
_EXPLORED = 3  # factor of the number of examples

settings.register_profile(EXPLORE)


def examples(count: int, phases: Iterable[Phase] = tuple(Phase)) -> settings:
    """The settings of a property, under the active profile."""
    exploring = settings.default is settings.get_profile(EXPLORE)
    return settings(
        max_examples=count * (_EXPLORED if exploring else 1),
        derandomize=not exploring,
        phases=phases,
        deadline=None,  # a slow machine is not a failure
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
