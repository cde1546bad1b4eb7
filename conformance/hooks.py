"""The pytest hooks that record the evidence of each test and write the reports of the run."""

from __future__ import annotations

import json
import pickle
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from conformance.options import OPTIONS, option
from conformance.report import failures

if TYPE_CHECKING:
    from conformance.judging.deviations import Deviation
    from conformance.judging.records import TestRecord

PACKAGE = Path(__file__).parent
RECORDS = pytest.StashKey[list["TestRecord"]]()
RECORD = pytest.StashKey["TestRecord"]()
ATTESTED = pytest.StashKey[dict[str, Any]]()  # effective configuration by subject
STAGES = pytest.StashKey[dict[str, list[str]]]()  # by subject, the stages of the backend's own
_CLAIMS = pytest.StashKey[list["Deviation"]]()
_LOST = pytest.StashKey[bool]()  # whether a worker ended without sending its evidence
_SHOWN, _WIDTH = 3, 240  # failures per requirement on the terminal, and their characters
_SENT = "conformance"  # the key of the evidence that a worker of pytest-xdist sends at its end


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDS] = []
    config.stash[ATTESTED] = {}
    config.stash[STAGES] = {}
    config.stash[_LOST] = False
    folder = option(config, "report_dir")
    if folder and not getattr(config.option, "xmlpath", None):
        config.option.xmlpath = str(Path(folder) / "junit.xml")


def pytest_sessionstart(session: pytest.Session) -> None:
    from conformance.judging import deviations

    named = option(session.config, "deviations")
    paths = [deviations.DEFAULT, *([Path(named)] if named else [])]
    try:
        claims = [claim for path in paths for claim in deviations.load_deviations(path)]
    except deviations.DeviationError as error:
        raise pytest.UsageError(str(error)) from None
    session.config.stash[_CLAIMS] = claims


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    return tuple(r for mark in item.iter_markers("requirement") for r in mark.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    from conformance.judging.records import TestRecord

    if PACKAGE in item.path.parents or requirements_of(item):
        names, subject = requirements_of(item), _subject(item)
        claims = tuple(c for c in item.config.stash[_CLAIMS] if c.applies(names, subject))
        item.stash[RECORD] = TestRecord(item.nodeid, names, subject, claims=claims)
        item.config.stash[RECORDS].append(item.stash[RECORD])
    return (yield)


def _subject(item: pytest.Item) -> str:
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "backend" in parameters:
        name, model = parameters["backend"]
        return f"{name}-{model.name}"
    stages = [value for name, value in parameters.items() if name.endswith("_stage")]
    return stages[0] if stages else "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    record = item.stash.get(RECORD, None)
    if record is not None and call.excinfo is not None:
        failures.keep_own_notes(call.excinfo.value)
        item.__dict__.pop("_hypothesis_failing_examples", None)  # a patch for the test is no help
    report: pytest.TestReport = yield
    if record is None or not record.requirements:
        return report
    if report.when == "call" and report.passed and not record.comparisons:
        _fail(report, "the test passed without having compared anything")
    if report.skipped:
        _record_skip(record, report, call)
    elif report.failed:
        record.verdict, record.message = _failure(report, call)
    elif report.when == "call":
        record.verdict = "deviation" if record.deviated else "tie" if record.ties else "pass"
    if report.when == "call":
        report.user_properties += _junit_properties(record)
    if report.failed:
        record.repeat = _repeat_command(item)
    if report.failed and report.when == "call":
        report.sections.append(("repeat with", record.repeat))
        attested = item.config.stash[ATTESTED].get(record.subject, {})
        text = ", ".join(f"{name} {field['value']}" for name, field in attested.items())
        report.sections.append(("effective configuration", f"{record.subject}: {text}"))
        if record.golden:
            report.sections.append(("golden values", record.golden))
    return report


def _fail(report: pytest.TestReport, message: str) -> None:
    report.outcome = "failed"
    report.longrepr = message


def _record_skip(
    record: TestRecord, report: pytest.TestReport, call: pytest.CallInfo[None]
) -> None:
    from conformance.judging import skips

    given = str(call.excinfo.value) if call.excinfo else str(report.longrepr)
    listed = skips.reason(record.requirements)
    if call.excinfo is not None and call.excinfo.errisinstance(skips.NotDeclared):
        record.verdict, record.message = "not-applicable", given
    elif listed is not None:
        record.verdict, record.message = "skipped", listed
    else:
        record.verdict, record.message = "error", f"skipped for a reason not listed: {given}"
        _fail(report, record.message)


def _failure(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str]:
    from conformance.judging.judge import MistrustedError

    if call.excinfo is None:
        return "fail" if report.when == "call" else "error", str(report.longrepr)
    error = call.excinfo.value
    if report.when != "call":
        return "error", failures.message(error)
    mistrusted = isinstance(failures.first_cause(error), MistrustedError)
    return "mistrusted" if mistrusted else "fail", failures.message(error)


def _junit_properties(record: TestRecord) -> list[tuple[str, str]]:
    """Properties of the test in junit.xml."""
    nearest = max(record.comparisons, key=lambda comparison: comparison.used(), default=None)
    return [
        ("requirements", " ".join(record.requirements)),
        ("subject", record.subject),
        ("verdict", record.verdict),
        ("elements compared", str(sum(c.elements for c in record.comparisons))),
        ("nearest to its limit", str(nearest) if nearest else "nothing was compared"),
    ]


def _repeat_command(item: pytest.Item) -> str:
    """A shell command that runs one test again, in any folder, with the options of this run."""
    path, name = str(item.path), item.nodeid.partition("::")[2]
    if PACKAGE in item.path.parents:
        path = ".".join(item.path.relative_to(PACKAGE.parent).with_suffix("").parts)
    # `python -m` puts the current folder on the path, where a port may be.
    words = ["python", "-m", "pytest", "--pyargs", f"{path}::{name}"]
    for option_name, settings in OPTIONS.items():
        value = option(item.config, option_name.replace("-", "_"))
        if value is None or option_name in ("requirement", "report-dir"):
            continue
        for each in value if settings.get("action") == "append" else [value]:
            is_path = settings.get("metavar") in ("DIR", "FILE") and Path(each).exists()
            words += [f"--{option_name}", str(Path(each).resolve() if is_path else each)]
    return shlex.join(words)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run whose tests all passed if a verdict is red or the evidence of a worker is lost."""
    from conformance.report.verdicts import RED, by_subject

    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput[_SENT] = pickle.dumps(
            (config.stash[RECORDS], config.stash[ATTESTED], config.stash[STAGES])
        )
        return
    results = by_subject(_judged(config))
    verdicts = [entry["verdict"] for result in results.values() for entry in result.values()]
    red = config.stash[_LOST] or any(verdict in RED for verdict in verdicts)
    if exitstatus == pytest.ExitCode.OK and red:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the evidence of a worker of pytest-xdist."""
    sent = getattr(node, "workeroutput", {}).get(_SENT)
    if sent is None:
        node.config.stash[_LOST] = True
        return
    records, attested, stages = pickle.loads(sent)
    node.config.stash[RECORDS] += records
    node.config.stash[ATTESTED] |= attested
    node.config.stash[STAGES] |= stages


def _judged(config: pytest.Config) -> list[TestRecord]:
    return [record for record in config.stash[RECORDS] if record.requirements]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    from conformance.report import margins
    from conformance.report.verdicts import first_failure, summarize

    records = _judged(config)
    if not records:
        return
    terminalreporter.section("conformance by requirement")
    for name, entry in summarize(records).items():
        terminalreporter.write_line(_line(name, entry))
        for failure in entry["failures"][:_SHOWN]:
            terminalreporter.write_line(f"         {_short(failure)}")
        if more := len(entry["failures"][_SHOWN:]):
            terminalreporter.write_line(f"         and {more} more")
    if table := margins.lines(records):
        terminalreporter.section("errors in noise floors of the reference, and limits used")
        for line in table:
            terminalreporter.write_line(line)
    if failure := first_failure(records):
        terminalreporter.section("first failing stage")
        terminalreporter.write_line(
            f"{failure['stage']}: {failure['requirement']} {failure['verdict']} on "
            f"{failure['subject']}: {failure['message']}"
        )
        if failure["convention"]:
            terminalreporter.write_line(f"you follow the convention: {failure['convention']}")
        terminalreporter.write_line(f"repeat with: {failure['repeat']}")
    _write_document(config, records)


def _short(failure: str) -> str:
    """One line of a failure: its message, then the test, whose path may be long."""
    node, colon, message = failure.splitlines()[0].partition(": ")
    if len(message) > _WIDTH:
        message = f"{message[:_WIDTH]}..."
    return f"{message} ({node})" if colon else node


def _line(name: str, entry: dict[str, Any]) -> str:
    from conformance.judging.compare import of_limit

    nearest = entry["nearest"]
    used = ""
    if nearest and nearest["limit"] and nearest["used"] is not None:
        used = f"{nearest['quantity']}: {of_limit(nearest['used'])}"
    return (
        f"{name:8} {entry['verdict']:14} {entry['tests']:4} tests "
        f"{entry['elements']:>12,} compared  {used}"
    )


def _write_document(config: pytest.Config, records: list[TestRecord]) -> None:
    from conformance.report.json_document import document

    folder = option(config, "report_dir")
    if not folder:
        return
    path = Path(folder) / "conformance.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = document(records, config.stash[ATTESTED], config.stash[STAGES])
    text = json.dumps(content, indent=2, allow_nan=False)
    path.write_text(f"{text}\n", encoding="utf-8")
