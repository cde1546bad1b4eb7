"""What the process protocol adds to a step: `onnx_cpu` here and behind `exec:`, in turns.

    python -m comparisons.speed.protocol BUNDLE

Times are processor times of both processes, which other load changes less than the clock.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from conformance.subject import open_any_backend

PAIRS, PROMPT, THREADS = 120, 60, 1
SERVER = f"exec:{sys.executable} -m conformance.ports.server onnx_cpu"


def processor_time(pids: list[int]) -> float:
    """Milliseconds that all threads of some processes have run."""
    stats = (path for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(path.read_text("ascii").split()[0]) for path in stats) / 1e6


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(word) for word in text.split()]


def main() -> None:
    folder = sys.argv[1]
    backends: list[Any] = [
        open_any_backend(name, folder, threads=THREADS) for name in ("onnx_cpu", SERVER)
    ]
    pids = [os.getpid(), *children(os.getpid())]
    ids = np.arange(4, 4 + PROMPT)[None]
    states = [backend.prefill(ids, np.array([PROMPT])).state for backend in backends]
    taken: list[list[float]] = [[], []]
    for number in range(PAIRS):
        for side in (0, 1) if number % 2 else (1, 0):
            start = processor_time(pids)
            output = backends[side].step(np.array([4 + number]), states[side])
            taken[side].append(processor_time(pids) - start)
            states[side] = output.state
    ratios = [other / own for own, other in zip(*taken, strict=True)]
    low, high = np.percentile(ratios, [5, 95])
    print(f"step in process: {median(taken[0]):.2f} ms, behind exec: {median(taken[1]):.2f} ms")
    print(f"ratio of {PAIRS} pairs: {median(ratios):.3f} ({low:.3f} to {high:.3f})")
    for backend in backends:
        backend.close()


if __name__ == "__main__":
    main()
