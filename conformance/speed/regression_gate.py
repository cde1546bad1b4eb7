"""A gate against slowdowns: the saved commit and this tree, measured in turns.

A sitting opens three processes on one core: the baseline, the baseline again (the control) and
the candidate. Its rounds time a part once in each, in rotating order, so that a machine that is
slow for a while is slow for all three; its result is the median of the rounds' ratios. Which
process is opened first goes round too: the first can be a few hundredths slower for its life.
Where a process happens to lie in memory makes it quicker or slower for as long as it lives, so
sittings are repeated with new processes, and what counts is how far their results agree.
A part is red where the candidate is slower than the baseline and than the control by more than
the limit, with the lower end of the 99 % interval of the median over sittings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.speed import worker as gate_side

LIMIT = 1.04
ROUNDS = 8  # of a sitting
SITTINGS = (5, 10, 20, 40)  # after each, a part that is clear is decided
INTERVAL = (0.005, 0.995)
RESAMPLES = 1000
_DEFINITIONS = Path("soprano", "bench.py")  # what the parts are


@dataclass(frozen=True)
class Verdict:
    part: str
    ratio: float  # candidate / the slower of baseline and control
    low: float
    high: float
    control: float  # control / baseline: what the machine and chance make of no change at all
    sittings: int

    @property
    def slower(self) -> bool:
        return self.low > LIMIT

    def __str__(self) -> str:
        state = f"slower than {LIMIT}" if self.slower else "ok"
        return (
            f"{self.part:12} {self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}) of the baseline; "
            f"control {self.control:.3f}; {self.sittings} sittings: {state}"
        )


def judge(part: str, sittings: npt.ArrayLike) -> Verdict:
    """The verdict on one part from seconds (N sittings, 3 sides, rounds).

    The sides are the baseline, the control and the candidate.
    """
    baseline, control, candidate = np.moveaxis(np.asarray(sittings, np.float64), 1, 0)
    count = len(baseline)
    generator = np.random.Generator(np.random.Philox(key=0))
    chosen = generator.integers(0, count, (RESAMPLES, count))

    def against(other: npt.NDArray[np.float64]) -> tuple[float, float, float]:
        ratios = np.median(candidate / other, axis=1)
        low, high = np.quantile(np.median(ratios[chosen], axis=1), INTERVAL)
        return float(np.median(ratios)), float(low), float(high)

    ratio, low, high = min(against(baseline), against(control))  # of the slower of the two
    return Verdict(part, ratio, low, high, float(np.median(control / baseline)), count)


def measure(
    baseline: Path, candidate: Path, backend: str, model: str, only: str = ""
) -> Iterator[Verdict]:
    """A verdict for each part of a synthesis (or only one), the clear ones first.

    Raises:
        LookupError: a tree cannot be timed, or the baseline has a part that the candidate lacks.
    """
    trees = baseline, baseline, candidate
    definitions = candidate / _DEFINITIONS
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    with closing(Side(baseline, baseline / _DEFINITIONS, backend, model, cores[0])) as side:
        known = set(side.parts)
    found: dict[str, list[list[list[float]]]] = {}
    for number in range(SITTINGS[-1]):
        core = cores[number % len(cores)]
        with _opened(trees, number, definitions, backend, model, core) as sides:
            if not number:
                if gone := ", ".join(sorted(known - set(sides[0].parts))):
                    raise LookupError(f"parts that the baseline has are missing: {gone}")
                found = {part: [] for part in ([only] if only else sides[0].parts)}
            for part, sittings in found.items():
                sittings.append(_sitting(sides, part, number))
        if number + 1 in SITTINGS:
            for part in list(found):
                verdict = judge(part, found[part])
                if verdict.slower or verdict.high < LIMIT or number + 1 == SITTINGS[-1]:
                    del found[part]
                    yield verdict
            if not found:
                return


@contextmanager
def _opened(trees: Sequence[Path], number: int, *settings: Any) -> Iterator[list[Side]]:
    """A process for each tree; which of them is opened first goes round with the number."""
    order = [(number + place) % len(trees) for place in range(len(trees))]
    with ExitStack() as stack:
        sides = {i: stack.enter_context(closing(Side(trees[i], *settings))) for i in order}
        yield [sides[i] for i in sorted(sides)]


def _sitting(sides: list[Side], part: str, number: int) -> list[list[float]]:
    """Seconds of a part, (sides, rounds)."""
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(ROUNDS):
        for place in range(len(sides)):
            side = (number + turn + place) % len(sides)
            seconds[side].append(sides[side](part))
    return seconds


class Side:
    """A process that times the parts of one tree on one core."""

    def __init__(self, tree: Path, definitions: Path, backend: str, model: str, core: int) -> None:
        arguments = [str(tree), str(definitions), backend, model, str(core)]
        self._process = subprocess.Popen(
            [sys.executable, "-P", gate_side.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.parts: list[str] = json.loads(self._answer())

    def __call__(self, part: str) -> float:
        assert self._process.stdin is not None
        print(part, file=self._process.stdin, flush=True)
        return float(json.loads(self._answer()))

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise LookupError("a side of the gate ended before it was asked to")
        return line

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def tree_of(checkout: Path, commit: str) -> Iterator[Path]:
    """The package as it was at a commit, in a folder of its own, with its embedded voice."""
    command = ["git", "-C", str(checkout), "archive", commit, "soprano", "fixtures"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        raise LookupError(f"no commit {commit} in {checkout}: {archive.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def conforms(backend: str, model: str) -> bool:
    """Whether the backend holds the laws of its networks; what does not is not timed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--pyargs", "conformance", "--backend", backend, "--model", model]
    for requirement in ("LM", "CA", "DE", "SY-03"):
        command += ["--requirement", requirement]
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0
