"""A gate against slowdowns: the saved commit and this tree, measured in turns.

Three processes stand open: the baseline, the baseline again (the control) and the candidate.
Each round times a part once in each, in rotating order; what counts are the rounds' ratios, so
that a machine that is slow for a while is slow for all three.
A part is red where the candidate is slower than the baseline and than the control by more than
the limit, with the lower end of the 99 % interval of the median ratio.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from conformance import gate_side

LIMIT = 1.04
ROUNDS = (20, 40, 80, 160, 320)  # after each, a part that is clear is decided
INTERVAL = (0.005, 0.995)
RESAMPLES = 1000


@dataclass(frozen=True)
class Verdict:
    part: str
    ratio: float  # candidate / the slower of baseline and control
    low: float
    high: float
    control: float  # control / baseline: what the machine and chance make of no change at all
    rounds: int

    @property
    def slower(self) -> bool:
        return self.low > LIMIT

    def __str__(self) -> str:
        state = f"slower than {LIMIT}" if self.slower else "ok"
        return (
            f"{self.part:12} {self.ratio:.3f} ({self.low:.3f} to {self.high:.3f}) of the baseline; "
            f"control {self.control:.3f}; {self.rounds} rounds: {state}"
        )


def judge(
    part: str, baseline: Sequence[float], control: Sequence[float], candidate: Sequence[float]
) -> Verdict:
    """The verdict on one part from the seconds of its rounds."""
    a, b, c = (np.asarray(values) for values in (baseline, control, candidate))
    generator = np.random.Generator(np.random.Philox(key=0))
    chosen = generator.integers(0, len(a), (RESAMPLES, len(a)))
    against = {
        float(np.median(c / other)): np.quantile(np.median((c / other)[chosen], axis=1), INTERVAL)
        for other in (a, b)
    }
    ratio = min(against)  # against the slower of the two
    low, high = against[ratio]
    return Verdict(part, ratio, float(low), float(high), float(np.median(b / a)), len(a))


def measure(
    baseline: Path, candidate: Path, backend: str, model: str, only: str = ""
) -> Iterator[Verdict]:
    """A verdict for each part of a synthesis (or only one), the two trees measured in turns."""
    sides = [
        Side(tree, candidate / "soprano" / "bench.py", backend, model)
        for tree in (baseline, baseline, candidate)
    ]
    try:
        for part in [only] if only else sides[0].parts:
            seconds: list[list[float]] = [[], [], []]
            for rounds in ROUNDS:
                while len(seconds[0]) < rounds:
                    shift = len(seconds[0]) % 3
                    for place in (shift, (shift + 1) % 3, (shift + 2) % 3):
                        seconds[place].append(sides[place](part))
                verdict = judge(part, *seconds)
                if verdict.slower or verdict.high < LIMIT:
                    break
            yield verdict
    finally:
        for side in sides:
            side.close()


class Side:
    """A process that times the parts of one tree."""

    def __init__(self, tree: Path, definitions: Path, backend: str, model: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", gate_side.__file__, str(tree), str(definitions), backend, model],
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
