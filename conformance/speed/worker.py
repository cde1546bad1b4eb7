"""A worker of the regression gate: times the parts of a synthesis in one tree of the package.

Times are of processor time on one thread, which other processes on the machine disturb least. They
do not include waiting (sleep, input and output).
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CALLS = 5  # of a part for one answer, which is the shortest time
TOKENS = 12


def start(
    tree: str,
    definitions: str,
    backend: str,
    model: str,
    core: int | None = None,
    slow: tuple[str, float] | None = None,
) -> tuple[list[str], Callable[[str], float]]:
    """The names of the parts, and a function from a name to seconds.

    Args:
        tree: folder whose package `soprano` is timed.
        definitions: a `soprano/bench.py`, which defines the parts; need not be the tree's own.
        backend: name of a backend.
        model: name or folder of a model.
        core: number of the processor core to run on. None: any.
        slow: a public callable, as `Part.callable` names it, and the factor to slow it down by.
    """
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    sys.path.insert(0, tree)
    import soprano

    if not Path(soprano.__file__).is_relative_to(tree):
        raise SystemExit(f"imported {soprano.__file__}, wanted the package in {tree}")
    voice = soprano.SopranoTTS(model, backend, threads=1)
    if slow:
        owner, name = slow[0].split(".")
        owners = {"backend": voice.backend, "soprano": soprano, "voice": voice}
        setattr(owners[owner], name, slowed(getattr(owners[owner], name), slow[1]))
    parts = runpy.run_path(definitions)["parts"](voice, TOKENS)
    return list(parts), lambda part: min(parts[part](time.process_time) for _ in range(CALLS))


def slowed(call: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """The callable, made slower by a factor; of an iterator, up to its first item."""

    # Delays are loops of counted rounds: reading the processor time in a loop costs more than the
    # delay on a busy machine.
    def spin(rounds: int) -> None:
        for _ in range(rounds):
            pass

    def rounds_per_second(rounds: int = 100_000) -> float:
        start = time.perf_counter()
        spin(rounds)
        return rounds / (time.perf_counter() - start)

    rate = max(rounds_per_second() for _ in range(5))

    def delay(start: float) -> None:
        spin(int((factor - 1) * (time.perf_counter() - start) * rate))

    def run(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = call(*arguments, **options)
        if isinstance(result, Iterator):
            return stream(start, result)
        delay(start)
        return result

    def stream(start: float, items: Iterator[Any]) -> Iterator[Any]:
        first = next(items)
        delay(start)
        yield first
        yield from items

    return run
