"""The kill matrix: the suite's verdict on every planted fault.

One process plants one fault and runs the tests that its stage can reach, in the order of the data
flow, up to the first that fails: no later one can change whether the fault is caught or who is
blamed. The parent imports everything once and forks, so that a fault costs little more than its
tests.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings

import conformance.golden.packs
import soprano
from conformance.contract import reader as contract
from conformance.faults import FLOW, Fault
from conformance.faults.plant import Plant
from conformance.golden.packs import Pack, fixture_models, weights_digest, read_pack, read_packs
from conformance.hooks import requirements_of
from conformance.report.verdicts import RED
from soprano.backends import backend_names
from soprano.checkpoint.folder import ModelFolder

_CONVENTION = re.compile("you follow the convention ('[^']*'|\"[^\"]*\")")
SECONDS = 120  # of processor time; a fault that makes the suite hang is not caught by it


_collected = cache(contract.collect)  # in the parent; its children inherit what was found


@dataclass
class Result:
    """What the suite said of one fault on one backend."""

    number: str
    name: str
    stage: str
    backend: str
    model: str
    harmless: bool
    hard: bool
    story: str
    requirements: list[str] = field(default_factory=list)  # those seen to fail
    blamed: str = ""  # the first of them in the data flow, by its first letters
    quantity: str = ""  # what that one compared worst
    worst: str = ""
    limit: str = ""
    conventions: list[str] = field(default_factory=list)
    right: bool = False  # whether the fault is caught and the blame is right; or silence kept
    broken: str = ""  # why nothing could be said
    seconds: float = 0.0  # of processor time

    @property
    def verdict(self) -> str:
        if self.broken:
            return "broken"
        if self.harmless:
            return "false alarm" if self.requirements else "silent"
        if not self.requirements:
            return "missed"
        return "caught" if self.right else "wrong blame"


def judge(fault: Fault, backend: str, report: dict[str, Any]) -> Result:
    """Read the verdict on a fault out of the suite's own report."""
    result = _empty(fault, backend)
    entries = {
        name: entry for subject in report["results"].values() for name, entry in subject.items()
        if entry["verdict"] in RED
    }  # fmt: skip
    result.requirements = sorted(entries, key=_in_flow)
    said = (line for entry in entries.values() for line in entry["failures"])
    result.conventions = sorted({found[0] for line in said if (found := _CONVENTION.search(line))})
    if not report["results"]:
        result.broken = "no requirement was judged"
    if result.requirements:
        first = result.requirements[0]
        nearest = entries[first]["nearest"] or {}
        result.blamed = first[:2]
        result.quantity = str(nearest.get("quantity", ""))
        result.worst, result.limit = str(nearest.get("worst", "")), str(nearest.get("limit", ""))
    wanted = () if fault.harmless else fault.rightly_blamed
    silent = fault.harmless and not result.broken
    result.right = result.blamed in wanted if result.blamed else silent
    return result


def _in_flow(requirement: str) -> tuple[int, str]:
    return FLOW.index(requirement[:2]), requirement


def _empty(fault: Fault, backend: str) -> Result:
    return Result(
        fault.number, fault.name, fault.stage.name, backend, fault.model, fault.harmless,
        fault.hard, fault.story,
    )  # fmt: skip


def warm_up(models: Sequence[str]) -> dict[Path, Pack]:
    """Import what the children need, and read the golden packs of their models.

    The noise floor is the pack's own: measured again, it would tell of the fault.
    """
    # A property that fails is not searched for its simplest example.
    settings.register_profile("planted", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("planted")
    for module in pkgutil.walk_packages(soprano.__path__, "soprano."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # of a runtime that is not installed
                import_module(module.name)
    _collected()
    packs = read_packs()
    folders = [path for path in fixture_models() if path.name in models]
    identities = {path: weights_digest(ModelFolder.open(path)) for path in folders}
    found = {path: read_pack(packs[name]) for path, name in identities.items() if name in packs}
    gc.collect()
    gc.freeze()  # what is here now is no child's garbage
    return found


@contextmanager
def _quiet(path: str = os.devnull) -> Iterator[None]:
    """Whatever anyone writes to stdout or stderr goes to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, start=1):
            os.dup2(copy, number)
            os.close(copy)


def run(
    wanted: Sequence[tuple[Fault, str]], jobs: int, logs: Path, whole: bool = False
) -> Iterator[Result]:
    """Judge each fault on its backend, `jobs` at a time; `whole`: also after the first failure."""
    waiting = list(wanted)
    if not waiting:
        return
    vectors = warm_up(sorted({fault.model for fault, _ in waiting}))
    running: dict[int, tuple[Fault, str]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            fault, backend = waiting.pop(0)
            child = os.fork()
            if not child:
                _plant_and_run(fault, backend, vectors, logs, whole)
            running[child] = (fault, backend)
        child, status, usage = os.wait4(-1, 0)
        fault, backend = running.pop(child)
        result = _read(fault, backend, logs, status)
        result.seconds = round(usage.ru_utime + usage.ru_stime, 1)
        yield result


def _read(fault: Fault, backend: str, logs: Path, status: int) -> Result:
    report = logs / f"{fault.number}-{backend}" / "conformance.json"
    if status == 0 and report.is_file():
        return judge(fault, backend, json.loads(report.read_text("utf-8")))
    result = _empty(fault, backend)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
    result.broken = f"no end within {SECONDS} s" if late else f"the suite broke off ({status})"
    return result


class _InFlowOrder:
    """A pytest plugin that puts tests in the order of the first requirement that they judge."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: min(map(_in_flow, requirements_of(item))))


def _plant_and_run(
    fault: Fault, backend: str, vectors: dict[Path, Pack], logs: Path, whole: bool
) -> None:
    """In a forked process: plant, run, and leave without the parent's way out."""
    status = 1
    folder = logs / f"{fault.number}-{backend}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "conformance.json").unlink(missing_ok=True)
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        model = next(path for path in vectors if path.name == fault.model)
        with _quiet(str(folder / "log.txt")):
            plant = Plant()
            find, names = conformance.golden.packs.find_pack, backend_names()
            plant.replace(find, lambda path, reference=None: vectors[path])
            plant.replace(backend_names, lambda: names)  # many look-ups in a slow place
            fault.plant(plant)
            arguments = ["-p", "no:cacheprovider", "-q", "--tb=line", "--pyargs"]
            arguments += _modules_of(fault.stage.reach)
            arguments += ["--backend", backend, "--model", str(model)]
            arguments += ["--threads", str(fault.threads)]
            arguments += [f"--requirement={prefix}" for prefix in fault.stage.reach]
            arguments += [f"--report-dir={folder}", *([] if whole else ["--exitfirst"])]
            ended = pytest.main(arguments, plugins=[_InFlowOrder()])
            status = 0 if int(ended) in (0, 1) else 1
    finally:
        os._exit(status)


def _modules_of(prefixes: tuple[str, ...]) -> list[str]:
    """The test modules that hold tests of these requirements: the others need no collecting."""
    paths = {
        node.split("::")[0]
        for node, names in _collected().items()
        if any(name.startswith(prefixes) for name in names)
    }
    return sorted(f"conformance.{Path(path).stem}" for path in paths)


def write(path: Path, results: Sequence[Result]) -> None:
    """The matrix as JSON, with its totals."""
    verdicts = [result.verdict for result in results]
    totals = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    rows = [{**asdict(result), "verdict": result.verdict} for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"totals": totals, "results": rows}, indent=1) + "\n", "utf-8")


def read(path: Path) -> list[Result]:
    """The results of a run that was interrupted."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text("utf-8"))["results"]
    return [Result(**{key: row[key] for key in row if key != "verdict"}) for row in rows]
