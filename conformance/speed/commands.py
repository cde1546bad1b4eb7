"""`python -m conformance bench`: save and compare a run, or run the regression gate."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.speed.regression_gate import measure, tree_of
from conformance.speed.saved_runs import find_run

# Enough to see that every benchmark runs and is found again. A comparison that counts is the gate.
_QUICK = ("--benchmark-min-rounds=2", "--benchmark-max-time=0.1", "--slowdown=5")


def save_and_compare(
    storage: Path, backends: Sequence[str], model: str, arguments: Sequence[str]
) -> int:
    """Save a run and compare another with it. Returns the exit status."""
    for mode in ("--benchmark-autosave", "--benchmark-compare"):
        command = _pytest(backends, model, mode, _location(storage), *_QUICK, *arguments)
        if status := subprocess.run(command).returncode:
            return 1 if status == 1 else 2
    return 0


def gate(
    checkout: Path, storage: Path, backends: Sequence[str], model: str, against: str | None
) -> int:
    """Compare a checkout with a baseline commit. Returns the exit status.

    The baseline is the commit of the newest saved run, unless one is given.

    Raises:
        LookupError: no saved run holds these benchmarks, or the checkout lacks the commit.
        ChildProcessError: a tree cannot be timed.
    """
    commit = against or find_run(storage, _names(storage, backends, model)).commit
    status = 0
    with tree_of(checkout, commit) as baseline:
        print(f"gate: {checkout.resolve().name} against commit {commit[:12]}")
        for backend in backends:
            if not _conforms(backend, model):
                print(f"{backend}-{model}: does not conform, so it is not timed")
                status = 1
                continue
            for verdict in measure(baseline, checkout.resolve(), backend, model):
                print(f"{backend}-{model} {verdict}", flush=True)
                status = max(status, int(verdict.slower))
    return status


def _conforms(backend: str, model: str) -> bool:
    """Whether a backend meets the requirements of its networks; otherwise it is not timed."""
    requirements = [f"--requirement={name}" for name in ("LM", "CA", "DE", "SY-03")]
    command = _pytest([backend], model, *requirements)
    return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


def _names(storage: Path, backends: Sequence[str], model: str) -> list[str]:
    """The names of the benchmarks of this checkout."""
    command = _pytest(backends, model, "--benchmark-autosave", _location(storage), "--collect-only")
    listing = subprocess.run(command, capture_output=True, text=True).stdout
    return [line.split("::", 1)[1] for line in listing.splitlines() if "::bench_" in line]


def _location(storage: Path) -> str:
    return f"--benchmark-storage=file://{storage.resolve()}"


def _pytest(backends: Sequence[str], model: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--pyargs", "conformance", "--model", model, "--only-model", *arguments]
    return command + [f"--backend={backend}" for backend in backends]
