"""The processor time of this process and of the processes that it started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

PROCESSES = Path("/proc")


def processor_time() -> float:
    """Seconds of all threads; other processes count where the system lists them in /proc."""
    others = (own for pid, own in _threads().items() if pid != "self")
    return time.process_time() + sum(sum(own.values()) for own in others)


def _threads() -> dict[str, dict[str, float]]:
    """By process, the seconds of each thread; nothing where the system does not list them."""
    pids = ["self", *_started(PROCESSES / "self")]
    return {pid: dict(_seconds(PROCESSES / pid)) for pid in pids}


def _started(process: Path) -> Iterator[str]:
    """The processes that a process has started, and those that these started."""
    for children in process.glob("task/*/children"):
        with suppress(OSError):  # it has ended
            for pid in children.read_text("ascii").split():
                yield pid
                yield from _started(PROCESSES / pid)


def _seconds(process: Path) -> Iterator[tuple[str, float]]:
    for thread in process.glob("task/*/schedstat"):
        with suppress(OSError, ValueError, IndexError):
            yield thread.parent.name, int(thread.read_text("ascii").split()[0]) / 1e9


def threads_used(call: Callable[[], object], seconds: float) -> float:
    """How many threads share the work of a call that is repeated, however busy the machine is.

    The processor time of a process divided by that of its busiest thread; where threads are not
    listed, processor time per second. Of a port in a process of its own, only that process counts:
    this one passes messages in threads.
    """
    before, start, spent = _threads(), time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        call()
    after, elapsed = _threads(), time.perf_counter() - start
    work = {
        pid: [value - before.get(pid, {}).get(name, 0.0) for name, value in own.items()]
        for pid, own in after.items()
    }
    total = sum(map(sum, work.values()))
    # The work of this process is that of a port only if no process that it has started works.
    if sum(work["self"]) < 0.9 * total:
        work["self"] = []
        total = sum(map(sum, work.values()))
    shared = [sum(own) / max(own) for own in work.values() if sum(own) > total / 4]
    return max(shared, default=(time.process_time() - spent) / elapsed)
