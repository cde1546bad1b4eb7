"""Benchmarks against a saved run: the newest that holds the same names, or red.

pytest-benchmark alone compares with the newest file whatever it holds, and says nothing where no
name matches. Times of two runs on one machine differ by its mood, so the limit here is coarse;
`gate.py` measures both sides in turns and sees what this cannot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.options import option

SLOWDOWN = 2.0  # of the quickest round, which a busy machine disturbs least


@dataclass(frozen=True)
class SavedRun:
    path: Path
    commit: str
    seconds: Mapping[str, float]  # by name, the quickest round


def saved_runs(storage: Path) -> list[SavedRun]:
    """Every readable run below a storage folder, oldest first."""
    found: list[tuple[str, SavedRun]] = []
    for path in storage.rglob("*.json"):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            seconds = {b["name"]: float(b["stats"]["min"]) for b in content["benchmarks"]}
            commit = str(content["commit_info"].get("id"))
            found.append((content["datetime"], SavedRun(path, commit, seconds)))
        except (ValueError, KeyError, TypeError):
            continue  # another tool's file
    return [run for _, run in sorted(found, key=lambda entry: entry[0])]


def newest_with(storage: Path, names: Iterable[str]) -> SavedRun:
    """The newest run of exactly these benchmarks; an error that tells the difference else."""
    wanted = set(names)
    runs = saved_runs(storage)
    for run in reversed(runs):
        if set(run.seconds) == wanted:
            return run
    if not runs:
        raise LookupError(f"no saved run in {storage}: save one with --benchmark-autosave")
    nearest = min(reversed(runs), key=lambda run: len(wanted ^ set(run.seconds)))
    missing = ", ".join(sorted(set(nearest.seconds) - wanted)) or "none"
    unknown = ", ".join(sorted(wanted - set(nearest.seconds))) or "none"
    raise LookupError(
        f"no saved run in {storage} holds these benchmarks; {nearest.path.name} is nearest: "
        f"missing now: {missing}; not in it: {unknown}"
    )


def breaches(
    seconds: Mapping[str, float], saved: Mapping[str, float], limit: float = SLOWDOWN
) -> list[str]:
    """What became slower than `limit` times its saved time, one line each."""
    return [
        f"{name}: {now / saved[name]:.2f} times the saved {saved[name] * 1e3:.3g} ms, limit {limit}"
        for name, now in sorted(seconds.items())
        if not now <= limit * saved[name]
    ]


def _storage(config: pytest.Config) -> Path:
    return Path(str(config.getoption("benchmark_storage")).removeprefix("file://"))


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.getoption("benchmark_compare", None) is not True:
        return
    names = [
        item.name for item in session.items if "benchmark" in getattr(item, "fixturenames", ())
    ]
    try:
        run = newest_with(_storage(config), names)
    except LookupError as error:
        raise pytest.UsageError(str(error)) from None
    benchmarks: Any = config._benchmarksession  # type: ignore[attr-defined]
    benchmarks.compare = str(run.path)
    config.stash[_SAVED] = run


_SAVED = pytest.StashKey[SavedRun]()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(_SAVED, None)
    if run is None:
        return
    benchmarks: Any = session.config._benchmarksession  # type: ignore[attr-defined]
    seconds = {b.name: b.stats.min for b in benchmarks.benchmarks if b.stats is not None}
    lost = sorted(set(run.seconds) - set(seconds))
    limit = option(session.config, "slowdown") or SLOWDOWN
    session.config.stash[_FAULTS] = [
        *(f"{name}: not measured" for name in lost),
        *breaches(seconds, run.seconds, limit),
    ]
    if session.config.stash[_FAULTS] and session.exitstatus in (0, 5):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


_FAULTS = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    run = config.stash.get(_SAVED, None)
    if run is None:
        return
    faults = config.stash.get(_FAULTS, ["nothing was measured"])
    terminalreporter.section(f"against {run.path.name} of commit {run.commit[:12]}")
    for line in faults or [f"{len(run.seconds)} benchmarks within the limit"]:
        terminalreporter.write_line(line, red=bool(faults), green=not faults)
