"""The kill matrix: the suite's verdict on every planted fault.

One process plants one fault and runs the tests that its stage can reach, in the order of the data
flow, up to the first failure, which decides the stage that is blamed. It then runs the tests of
the requirements that the fault is aimed at, each up to its first failure.
The parent imports everything once and forks, so that a fault costs little more than its tests.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import Phase, settings

import soprano
from conformance.contract import reader
from conformance.documents import read_document
from conformance.faults import plant
from conformance.faults.fault import FLOW, Fault
from conformance.golden.packs import (
    Pack,
    find_pack,
    fixture_models,
    read_packs,
    weights_digest,
)
from conformance.hooks import requirements_of
from conformance.report.verdicts import failed
from conformance.subject import Subject
from soprano.checkpoint.folder import ModelFolder

_CONVENTION = re.compile("you follow the convention ('[^']*'|\"[^\"]*\")")
SECONDS = 120  # of processor time; a fault that makes the suite hang is not caught by it


@dataclass
class Result:
    """The suite's verdict on one fault on one backend."""

    id: str
    stage: str
    aims: list[str]
    backend: str
    model: str
    harmless: bool
    hard: bool
    story: str
    requirements: list[str] = field(default_factory=list)  # those that failed
    blamed: str = ""  # the family of the first of them in the data flow
    quantity: str = ""  # its comparison that came nearest to the limit, or exceeded it most
    worst: str = ""
    limit: str = ""
    conventions: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)  # requirements aimed at that did not fail
    right: bool = False  # caught by every aim and rightly blamed, or silent if harmless
    broken: str = ""  # why there is no verdict
    seconds: float = 0.0  # of processor time

    @property
    def verdict(self) -> str:
        if self.broken:
            return "broken"
        if self.harmless:
            return "false alarm" if self.requirements else "silent"
        if not self.requirements:
            return "missed"
        if self.missed:
            return "aim missed"
        return "caught" if self.right else "wrong blame"


def judge(fault: Fault, backend: str, reports: Sequence[dict[str, Any]]) -> Result:
    """The verdict on a fault from the suite's reports: of the run that blames, and of the aims."""
    result = _empty(fault, backend)
    red = {
        name: entry
        for report in reversed(reports)
        for subject in report["results"].values()
        for name, entry in subject.items()
        if _is_found(entry)
    }
    result.requirements = sorted(red, key=_in_flow)
    lines = (line for entry in red.values() for line in entry["failures"])
    matches = (_CONVENTION.search(line) for line in lines)
    result.conventions = sorted({match[0] for match in matches if match})
    if not reports[0]["results"]:
        result.broken = "no requirement was judged"
    if result.requirements:
        first = result.requirements[0]
        nearest = red[first]["nearest"] or {}
        result.blamed = first[:2]
        result.quantity = str(nearest.get("quantity", ""))
        sizes = (nearest.get(size) for size in ("worst", "limit"))
        result.worst, result.limit = ("" if size is None else str(size) for size in sizes)
    if fault.harmless:
        result.right = not result.requirements and not result.broken
    else:
        rightly = result.blamed in fault.rightly_blamed
        result.missed = [aim for aim in fault.aims if rightly and aim not in result.requirements]
        result.right = rightly and not result.missed
    return result


def _is_found(entry: dict[str, Any]) -> bool:
    """Whether a fault shows in a requirement; a `should` that a port does not meet is a warning."""
    return failed(entry) or entry["verdict"] == "warning"


def _in_flow(requirement: str) -> tuple[int, str]:
    return FLOW.index(requirement[:2]), requirement


def _empty(fault: Fault, backend: str) -> Result:
    names = ("id", "model", "harmless", "hard", "story")
    known = {name: getattr(fault, name) for name in names}
    return Result(stage=fault.stage.name, aims=list(fault.aims), backend=backend, **known)


def warm_up(models: Sequence[str]) -> dict[Path, Pack]:
    """Import what the children need, and read the golden packs of their models.

    A child does not read or measure a pack itself: the fault would change it.
    """
    # Failing examples of a property are not minimised.
    settings.register_profile("planted", phases=[Phase.explicit, Phase.generate])
    settings.load_profile("planted")
    for module in pkgutil.walk_packages(soprano.__path__, "soprano."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # of a runtime that is not installed
                import_module(module.name)
    packs = read_packs()
    folders = [path for path in fixture_models() if path.name in models]
    digests = {path: weights_digest(ModelFolder.open(path)) for path in folders}
    found = {path: find_pack(path) for path, name in digests.items() if name in packs}
    for pack in found.values():
        pack.networks()
    gc.collect()
    gc.freeze()  # no child's collector needs to visit what exists now
    return found


def collect(checkout: Path | None) -> dict[str, list[str]]:
    """`reader.collect` in a process of its own.

    Here no test module may be imported before a fault is planted: it would keep what it imports
    by name.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        try:
            os.close(read)
            with _quiet(), os.fdopen(write, "w") as pipe:
                json.dump(reader.collect(checkout), pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the tests cannot be collected: run `python -m conformance contract`")
    tests: dict[str, list[str]] = json.loads(text)
    return tests


def modules_of(
    prefixes: Sequence[str], tests: dict[str, list[str]], checkout: Path | None
) -> list[str]:
    """Arguments of pytest for the modules that contain tests of these requirements."""
    paths = {
        Path(node.split("::")[0])
        for node, names in tests.items()
        if any(name.startswith(tuple(prefixes)) for name in names)
    }
    folder = reader.package_tests(checkout)
    root = folder.parent if folder else Path()
    return sorted(
        f"conformance.laws.{path.stem}" if path.parent.name == "laws" else str(root / path)
        for path in paths
    )


@contextmanager
def _quiet(path: str = os.devnull) -> Iterator[None]:
    """Standard output and standard error go to a file."""
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
    wanted: Sequence[tuple[Fault, str]],
    jobs: int,
    logs: Path,
    *,
    whole: bool = False,
    checkout: Path | None = None,
    port: Subject | None = None,
    command: str = "",
) -> Iterator[Result]:
    """Judge each fault on its backend, `jobs` at a time.

    Args:
        whole: also after the first failure.
        port: how the fault is opened as a port of a third party; None plants it in the backend.
        command: what stands before the port's name, such as "exec:COMMAND ".
    """
    if not wanted:
        return
    packs = warm_up(sorted({fault.model for fault, _ in wanted}))
    tests = collect(checkout)
    families = {name[:2] for names in tests.values() for name in names}
    waiting: list[tuple[Fault, str]] = []
    for fault, backend in wanted:
        if fault.harmless or families & set(fault.rightly_blamed):
            waiting.append((fault, backend))
            continue
        result = _empty(fault, backend)
        result.broken = "its tests are in a checkout of this package: name one"
        yield result
    running: dict[int, tuple[Fault, str]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            fault, backend = waiting.pop(0)
            child = os.fork()
            if not child:
                find = partial(modules_of, tests=tests, checkout=checkout)
                name = f"{command}{plant.__name__}:{fault.id}" if port else backend
                _plant_and_run(fault, backend, name, packs, logs, find, whole=whole, port=port)
            running[child] = (fault, backend)
        child, status, usage = os.wait4(-1, 0)
        fault, backend = running.pop(child)
        result = _read(fault, backend, logs, status)
        result.seconds = round(usage.ru_utime + usage.ru_stime, 1)
        yield result


def _folder(logs: Path, fault: Fault, backend: str) -> Path:
    return logs / backend / fault.id


def _read(fault: Fault, backend: str, logs: Path, status: int) -> Result:
    folder = _folder(logs, fault, backend)
    paths = [folder / "conformance.json", *sorted(folder.glob("*/conformance.json"))]
    if status == 0 and paths[0].is_file():
        return judge(fault, backend, [json.loads(path.read_text("utf-8")) for path in paths])
    result = _empty(fault, backend)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
    result.broken = f"no end within {SECONDS} s" if late else f"the suite broke off ({status})"
    return result


class Planted:
    """A pytest plugin: the faulty subject, and the tests in the order of the data flow."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def pytest_conformance_subject(self) -> Subject:
        return self.subject

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: min(map(_in_flow, requirements_of(item))))


def _plant_and_run(
    fault: Fault,
    backend: str,
    name: str,
    packs: dict[Path, Pack],
    logs: Path,
    modules_of: Callable[[Sequence[str]], list[str]],
    *,
    whole: bool,
    port: Subject | None,
) -> NoReturn:
    """In a forked process: plant, run, and end without the parent's cleanup."""
    status = 1
    folder = _folder(logs, fault, backend)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def known_pack(model: Path, reference: Path | None = None) -> Pack:
        return packs.get(model) or find_pack(model, reference)

    def judge(prefixes: Sequence[str], report: Path, *options: str) -> bool:
        modules = modules_of(prefixes)
        arguments = ["-p", "no:cacheprovider", "-q", "--tb=line", "--pyargs", *modules, *options]
        arguments += ["--backend", name, "--model", str(model), "--only-model"]
        arguments += [f"--report-dir={report}"]
        arguments += ["--threads", str(fault.threads)]
        arguments += [f"--requirement={prefix}" for prefix in prefixes]
        return not modules or int(pytest.main(arguments, plugins=[Planted(subject)])) in (0, 1)

    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        model = next(path for path in packs if path.name == fault.model)
        with _quiet(str(folder / "log.txt")):
            subject = replace(port or Subject(), find_pack=known_pack)
            subject = subject if port else fault.plant(subject)
            ended = judge(fault.stage.reach, folder, *([] if whole else ["--exitfirst"]))
            failed = _red(folder / "conformance.json") if ended else set()
            rest = [aim for aim in fault.aims if aim not in failed]
            ended = ended and all(judge([aim], folder / aim, "--exitfirst") for aim in rest)
            status = 0 if ended else 1
    finally:
        os._exit(status)


def _red(path: Path) -> set[str]:
    """The requirements that failed in a report."""
    results = json.loads(path.read_text("utf-8"))["results"].values()
    return {name for own in results for name, entry in own.items() if _is_found(entry)}


def write(path: Path, results: Sequence[Result]) -> None:
    """The matrix as JSON, with its totals."""
    verdicts = [result.verdict for result in results]
    totals = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    entries = [{**asdict(result), "verdict": result.verdict} for result in results]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"totals": totals, "results": entries}, indent=1) + "\n", "utf-8")


def read(path: Path) -> list[Result]:
    """The results of an interrupted run."""
    if not path.is_file():
        return []
    members = {member.name: _KINDS[str(member.type)] for member in fields(Result)} | {
        "verdict": _KINDS["str"]
    }
    result = {"type": "object", "required": [*members], "properties": members}
    form = {
        "properties": {
            "results": {"type": "array", "items": {**result, "additionalProperties": False}}
        }
    }
    entries = read_document(path, {"required": ["results"], **form})["results"]
    return [Result(**{key: e[key] for key in e if key != "verdict"}) for e in entries]


_KINDS = {
    "str": {"type": "string"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "list[str]": {"type": "array", "items": {"type": "string"}},
}
