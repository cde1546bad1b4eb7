"""Which known wrong conventions, alone or together, explain the answers of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar

MOST = 3  # conventions in a combination
STEPS = 15_000  # combinations that are tried

_Stage = TypeVar("_Stage", bound=Any)  # a frozen dataclass whose fields are steps


def combine(first: _Stage, second: _Stage) -> _Stage | None:
    """The stage with the replaced steps of both; None if both replace the same step.

    A step that the class lists in `CHAINED` returns its first argument, changed: two of them
    follow each other.
    """
    steps = _merged(_replaced(first), _replaced(second), first.CHAINED)
    return None if steps is None else type(first)(**steps)


def _replaced(stage: Any) -> dict[str, Any]:
    """The steps of a stage that are not the defaults of its class."""
    values = {field.name: getattr(stage, field.name) for field in fields(stage)}
    return {name: step for name, step in values.items() if step is not getattr(type(stage), name)}


def _merged(
    first: dict[str, Any], second: dict[str, Any], chained: tuple[str, ...]
) -> dict[str, Any] | None:
    shared = first.keys() & second.keys()
    if not shared <= set(chained):
        return None
    return first | second | {name: _in_turn(first[name], second[name]) for name in shared}


@cache
def _in_turn(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    return lambda value, *context: second(first(value, *context), *context)


Steps = tuple[tuple[str, ...], dict[str, Any]]  # the names of conventions and what they replace


def _combined(known: list[Steps], size: int, chained: tuple[str, ...]) -> Iterator[Steps]:
    """The combinations of `size` conventions that can be combined."""
    if size == 1:
        yield from known
        return
    for index, (name, steps) in enumerate(known):
        for names, others in _combined(known[index + 1 :], size - 1, chained):
            if (merged := _merged(steps, others, chained)) is not None:
                yield name + names, merged


def smallest_explanations(
    known: Mapping[str, _Stage], right: _Stage, explains: Callable[[_Stage], str | None]
) -> list[str]:
    """The smallest combinations of conventions that explain the answers of a stage.

    Args:
        known: the conventions by name.
        right: the stage that follows none of them.
        explains: "" if a stage gives the answers, the name of what else is wrong if it gives them
            but for that, None otherwise.

    Returns:
        The names of each combination, joined by " + ". Empty for the right stage, and if no
        combination of `MOST` conventions among the first `STEPS` explains the answers.
    """
    rest = explains(right)
    if rest == "":
        return []
    larger, tried = [rest] if rest else [], 0
    steps: list[Steps] = [((name,), _replaced(stage)) for name, stage in known.items()]
    for size in range(1, MOST + 1):
        found: list[str] = []
        besides, larger = larger, []
        for names, changed in _combined(steps, size, right.CHAINED):
            rest = explains(type(right)(**changed))
            if rest is not None:
                (larger if rest else found).append(" + ".join([*names, *[rest] * bool(rest)]))
            tried += 1
            if tried == STEPS:
                break
        if found or besides:
            return found or besides
    return larger
