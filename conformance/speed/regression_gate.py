"""A regression gate: is the working tree slower than a baseline commit?

A session opens three processes on one core: the baseline, the baseline again as control (A/A), and
the candidate. In each of its rounds every process times a part once, in rotating order, so that a
temporary slowdown of the machine affects all three. The result of a session is the median over
rounds of candidate / baseline.

The memory layout of a process makes it faster or slower for its whole life, and the process that
is opened first may be a few percent slower. Sessions are therefore repeated with new processes,
opened in rotating order, and the uncertainty is that of the median over sessions.

A part is slower if the lower end of the 99 % interval of its median ratio exceeds the limit. The
ratio is that to the baseline or to the control, whichever is lower.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.speed import worker
from conformance.speed.bootstrap import Interval, median_interval
from conformance.speed.worker_process import WorkerProcess

LIMIT = 1.04
ROUNDS = 8  # of a session
SESSIONS = (5, 10, 20, 40)  # after each of these, parts with a clear result are finished
LEVEL = 0.99
_DEFINITIONS = Path("soprano", "bench.py")  # of the parts


@dataclass(frozen=True)
class Verdict:
    part: str
    ratio: Interval  # candidate / baseline or candidate / control, whichever is lower
    control: float  # control / baseline: what an unchanged tree measures
    sessions: int

    @property
    def slower(self) -> bool:
        return self.ratio.low > LIMIT

    def __str__(self) -> str:
        state = f"slower than {LIMIT}" if self.slower else "ok"
        value, low, high = self.ratio
        return (
            f"{self.part:12} {value:.3f} ({low:.3f} to {high:.3f}) of the baseline; "
            f"control {self.control:.3f}; {self.sessions} sessions: {state}"
        )


def judge(part: str, seconds: npt.ArrayLike) -> Verdict:
    """The verdict on one part from seconds (sessions, 3, rounds).

    The second axis holds the baseline, the control and the candidate.
    """
    baseline, control, candidate = np.moveaxis(np.asarray(seconds, np.float64), 1, 0)

    ratio = min(
        median_interval(np.median(candidate / other, axis=1), LEVEL)
        for other in (baseline, control)
    )
    return Verdict(part, ratio, float(np.median(control / baseline)), len(baseline))


def measure(
    baseline: Path,
    candidate: Path,
    backend: str,
    model: str,
    only: str | None = None,
    slow: tuple[str, float] | None = None,
) -> Iterator[Verdict]:
    """A verdict for each part of a synthesis, or for one; parts with a clear result come first.

    `slow` is a public callable of the candidate and the factor to slow it down by.

    Raises:
        LookupError: the candidate lacks a part that the baseline has.
        ChildProcessError: a tree cannot be timed.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    common = {"backend": backend, "model": model, "definitions": str(candidate / _DEFINITIONS)}
    old, new = {**common, "tree": str(baseline)}, {**common, "tree": str(candidate), "slow": slow}
    own = {**old, "definitions": str(baseline / _DEFINITIONS)}
    with closing(WorkerProcess(worker.__file__, own)) as process:
        known = process.first_answer
    seconds: dict[str, list[list[list[float]]]] = {}
    for number in range(SESSIONS[-1]):
        core = {"core": cores[number % len(cores)]}
        with _opened([old | core, old | core, new | core], number) as processes:
            if not number:
                parts = processes[0].first_answer
                if missing := ", ".join(sorted(set(known) - set(parts))):
                    raise LookupError(f"parts that the baseline has are missing: {missing}")
                seconds = {part: [] for part in ([only] if only else parts)}
            for part, sessions in seconds.items():
                sessions.append(_session(processes, part, number))
        if number + 1 in SESSIONS:
            for part in list(seconds):
                verdict = judge(part, seconds[part])
                if verdict.slower or verdict.ratio.high < LIMIT or number + 1 == SESSIONS[-1]:
                    del seconds[part]
                    yield verdict
            if not seconds:
                return


@contextmanager
def _opened(workers: Sequence[Mapping[str, Any]], number: int) -> Iterator[list[WorkerProcess]]:
    """A process for each worker; the one that is opened first rotates with the session."""
    with ExitStack() as stack:
        processes = {}
        for shift in range(len(workers)):
            index = (number + shift) % len(workers)
            process = WorkerProcess(worker.__file__, workers[index])
            processes[index] = stack.enter_context(closing(process))
        yield [processes[index] for index in sorted(processes)]


def _session(processes: Sequence[WorkerProcess], part: str, number: int) -> list[list[float]]:
    """Seconds of a part (processes, rounds)."""
    seconds: list[list[float]] = [[] for _ in processes]
    for turn in range(ROUNDS):
        for shift in range(len(processes)):
            index = (number + turn + shift) % len(processes)
            seconds[index].append(processes[index].ask(part))
    return seconds


@contextmanager
def tree_of(checkout: Path, commit: str) -> Iterator[Path]:
    """A folder with the package `soprano` at a commit and its embedded voice.

    Raises:
        LookupError: the checkout has no such commit.
    """
    # Older commits have the voice in `fixtures`.
    command = ["git", "-C", str(checkout), "archive", commit, "soprano", "fixtures"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        raise LookupError(f"no commit {commit} in {checkout}: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)
