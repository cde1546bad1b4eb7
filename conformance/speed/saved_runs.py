"""Compare benchmarks with the newest saved run that holds the same names.

pytest-benchmark compares with the newest file whatever it holds, and is silent if no name matches.
Times of two runs on one machine vary, so that the limit here is coarse; `regression_gate` measures
both versions in one run and detects smaller differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conformance.documents import DocumentError, read_document
from conformance.options import option

_STATS = {"required": ["min"], "properties": {"min": {"type": "number", "minimum": 0}}}
_BENCHMARK = {
    "type": "object",
    "required": ["name", "stats"],
    "properties": {"name": {"type": "string"}, "stats": {"type": "object", **_STATS}},
}
_RUN_FORM = {
    "required": ["benchmarks", "commit_info", "datetime"],
    "properties": {
        "benchmarks": {"type": "array", "items": _BENCHMARK},
        "commit_info": {"type": "object"},
        "datetime": {"type": "string"},
    },
}
SLOWDOWN = 2.0  # of the fastest round, which a busy machine affects least


@dataclass(frozen=True)
class SavedRun:
    path: Path
    commit: str
    seconds: Mapping[str, float]  # by name, the fastest round


def saved_runs(storage: Path) -> list[SavedRun]:
    """Every readable run below a storage folder, oldest first."""
    runs: list[tuple[str, SavedRun]] = []
    for path in storage.rglob("*.json"):
        try:
            content = read_document(path, _RUN_FORM)
        except DocumentError:
            continue  # another tool's file
        seconds = {b["name"]: float(b["stats"]["min"]) for b in content["benchmarks"]}
        commit = str(content["commit_info"].get("id"))
        runs.append((content["datetime"], SavedRun(path, commit, seconds)))
    return [run for _, run in sorted(runs, key=lambda dated: dated[0])]


def find_run(storage: Path, names: Iterable[str]) -> SavedRun:
    """The newest run of exactly these benchmarks.

    Raises:
        LookupError: there is none; the message names the differences from the nearest run.
    """
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


def slowdowns(
    seconds: Mapping[str, float], saved: Mapping[str, float], limit: float = SLOWDOWN
) -> list[str]:
    """One line for each benchmark that takes more than `limit` times its saved time."""
    return [
        f"{name}: {now / saved[name]:.2f} times the saved {saved[name] * 1e3:.3g} ms, limit {limit}"
        for name, now in sorted(seconds.items())
        if not now <= limit * saved[name]
    ]


_RUN = pytest.StashKey[SavedRun]()
_FAILURES = pytest.StashKey[list[str]]()


def pytest_collection_finish(session: pytest.Session) -> None:
    config = session.config
    if config.getoption("benchmark_compare", None) is not True:
        return
    names = [
        item.name for item in session.items if "benchmark" in getattr(item, "fixturenames", ())
    ]
    storage = Path(str(config.getoption("benchmark_storage")).removeprefix("file://"))
    try:
        run = find_run(storage, names)
    except LookupError as error:
        raise pytest.UsageError(str(error)) from None
    benchmarks: Any = config._benchmarksession  # type: ignore[attr-defined]
    benchmarks.compare = str(run.path)
    config.stash[_RUN] = run


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    run = session.config.stash.get(_RUN, None)
    if run is None:
        return
    benchmarks: Any = session.config._benchmarksession  # type: ignore[attr-defined]
    seconds = {b.name: b.stats.min for b in benchmarks.benchmarks if b.stats is not None}
    limit = option(session.config, "slowdown") or SLOWDOWN
    failures = [f"{name}: not measured" for name in sorted(set(run.seconds) - set(seconds))]
    failures += slowdowns(seconds, run.seconds, limit)
    session.config.stash[_FAILURES] = failures
    if failures and session.exitstatus in (0, 5):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is None:
        return
    failures = config.stash.get(_FAILURES, ["nothing was measured"])
    terminalreporter.section(f"against {run.path.name} of commit {run.commit[:12]}")
    for line in failures or [f"{len(run.seconds)} benchmarks within the limit"]:
        terminalreporter.write_line(line, red=bool(failures), green=not failures)
