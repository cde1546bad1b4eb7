"""The pytest hooks that record the evidence of each test and write the reports of the run."""

from __future__ import annotations

import faulthandler
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

from conformance.options import OPTIONS, option
from conformance.ports.process import LIMITS
from conformance.report import failures
from conformance.report.evidence import Journal, decode, encode
from conformance.supervisor import JOURNAL_FILE, STACK, follow_parent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conformance.judging.deviations import Deviation
    from conformance.judging.records import TestRecord
    from conformance.report.terminal import Section

PACKAGE = Path(__file__).parent
RECORD = pytest.StashKey["TestRecord"]()
STACKS = pytest.StashKey[IO[str]]()  # where the stacks of this process go if it hangs
JOURNAL = pytest.StashKey[Journal]()
_CLAIMS = pytest.StashKey[list["Deviation"]]()
_SENT = pytest.StashKey[set[str]]()  # subjects whose facts a worker of pytest-xdist has sent
_PLANS = pytest.StashKey[tempfile.TemporaryDirectory[str]]()
_PLAN = "conformance_plan"  # the file by which such a worker states what it collected


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    from conformance.report.json_document import prepare_folder

    path = os.environ.pop(JOURNAL_FILE, None)  # not for the processes that this one starts
    config.stash[JOURNAL] = Journal(Path(path) if path else None)
    if path:
        follow_parent()
        config.stash[STACKS] = Path(path).with_suffix(STACK).open("w", encoding="utf-8")
        _end_after(config, 2 * LIMITS.test)
    config.stash[_SENT] = set()
    folder = option(config, "report_dir")
    if not folder or config.option.collectonly or is_worker(config):
        return
    if not getattr(config.option, "xmlpath", None):
        config.option.xmlpath = str(Path(folder) / "junit.xml")
    try:
        prepare_folder(Path(folder))
    except OSError as error:
        raise pytest.UsageError(f"--report-dir {folder}: {error.strerror}") from None
    config.stash[JOURNAL].note("begin", os.path.abspath(folder))


def is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker of pytest-xdist, whose evidence the main process collects."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> Any:
    from conformance.judging import deviations

    config = session.config
    named = option(config, "deviations")
    paths = [deviations.DEFAULT, *([Path(named)] if named else [])]
    try:
        claims = [claim for path in paths for claim in deviations.load_deviations(path)]
        config.stash[_CLAIMS] = claims
        return (yield)
    except (deviations.DeviationError, pytest.UsageError) as error:
        write_report(config, str(error))
        config.stash[JOURNAL].close(pytest.ExitCode.USAGE_ERROR)
        raise pytest.UsageError(str(error)) from None


def write_report(config: pytest.Config, reason: str = "process ended") -> None:
    """Write what is known; `reason` is the message of the tests that have not run."""
    from conformance.report.json_document import write

    evidence = config.stash[JOURNAL].evidence
    evidence.end(reason)
    if evidence.folder and evidence.records:
        write(evidence)


def pytest_collection_finish(session: pytest.Session) -> None:
    """State the selected tests before any of them runs."""
    config = session.config
    if config.option.collectonly:
        return
    records = [_record(item) for item in session.items if requirements_of(item)]
    if is_worker(config):
        plan: str = config.workerinput[_PLAN]  # type: ignore[attr-defined]
        Path(plan).write_text(encode(records), encoding="ascii")
    else:
        _plan(config, records)


def _plan(config: pytest.Config, records: list[TestRecord]) -> None:
    config.stash[JOURNAL].note("collect", records)
    write_report(config)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    plans = node.config.stash.setdefault(_PLANS, tempfile.TemporaryDirectory())
    node.workerinput[_PLAN] = str(Path(plans.name) / node.gateway.id)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any) -> None:
    plan = Path(node.workerinput[_PLAN])
    if plan.exists() and not node.config.stash[JOURNAL].evidence.collected:
        _plan(node.config, decode(plan.read_text(encoding="ascii")))


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    return tuple(r for mark in item.iter_markers("requirement") for r in mark.args)


def _record(item: pytest.Item) -> TestRecord:
    from conformance.judging.records import TestRecord

    names, subject = requirements_of(item), _subject(item)
    claims = tuple(c for c in item.config.stash[_CLAIMS] if c.applies(names, subject))
    repeat = _repeat_command(item) if names else ""
    return TestRecord(item.nodeid, names, subject, claims=claims, repeat=repeat)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    if PACKAGE in item.path.parents or requirements_of(item):
        item.stash[RECORD] = _record(item)
        item.config.stash[JOURNAL].note("start", item.nodeid)
        LIMITS.test_ends = time.monotonic() + LIMITS.test
        _end_after(item.config, 2 * LIMITS.test)
    return (yield)


def _end_after(config: pytest.Config, seconds: float) -> None:
    """End this process, if a parent reports in its place, unless this is called again in time.

    It needs no lock of the interpreter, which a port in this process may hold for ever.
    """
    if file := config.stash.get(STACKS, None):
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)


def _backend(item: pytest.Item) -> tuple[str, Path] | None:
    """The backend and the model of a test."""
    backend: tuple[str, Path] | None
    backend = getattr(getattr(item, "callspec", None), "params", {}).get("backend")
    return backend


def _subject(item: pytest.Item) -> str:
    from conformance.selection import SELECTION

    if backend := _backend(item):
        return f"{backend[0]}-{item.config.stash[SELECTION].label(backend[1])}"
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    stages = [value for name, value in parameters.items() if name.endswith("_stage")]
    return stages[0] if stages else "shared"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    record = item.stash.get(RECORD, None)
    if record is not None and call.excinfo is not None:
        error = failures.in_own_words(call.excinfo.value)
        if error is not call.excinfo.value:
            call.excinfo = pytest.ExceptionInfo.from_exception(error)
        item.__dict__.pop("_hypothesis_failing_examples", None)  # a patch for the test is no help
    report: pytest.TestReport = yield
    if record is None or not record.requirements:
        return report
    if report.when == "call" and report.passed and not record.comparisons:
        _fail(report, "the test passed without having compared anything")
    if report.skipped:
        _record_skip(record, report, call)
    elif report.failed and report.when == "call" and _is_claimed(record, call):
        record.verdict, report.outcome, report.longrepr = "deviation", "passed", None
    elif report.failed:
        record.verdict, record.message = _failure(report, call)
        if record.verdict == "fail" and _is_advice(record):
            record.verdict, report.outcome = "warning", "skipped"
            report.wasxfail = "a requirement that a port should meet"  # type: ignore[attr-defined]
    elif report.when == "call":
        deviates = record.deviated or record.differences
        record.verdict = "deviation" if deviates else "tie" if record.ties else "pass"
        claimed = [str(each) for each in record.comparisons if each.fault is not None]
        record.message = "; ".join(record.differences + claimed)
    if report.when == "call":
        report.user_properties += _junit_properties(record)
    if report.failed and report.when == "call":
        report.sections.append(("repeat with", record.repeat))
        facts = item.config.stash[JOURNAL].evidence.subjects.get(record.subject)
        attested = facts.attested if facts else {}
        text = ", ".join(f"{name} {field['value']}" for name, field in attested.items())
        report.sections.append(("effective configuration", f"{record.subject}: {text}"))
        if record.golden:
            report.sections.append(("golden values", record.golden))
    if report.when == "teardown":
        _finish(item.config, record, report)
    return report


def _is_claimed(record: TestRecord, call: pytest.CallInfo[None]) -> bool:
    """Whether claims cover the exception of a port that ended a test."""
    error = call.excinfo.value if call.excinfo else None
    claims = [claim for claim in record.claims if error and claim.covers_error(error)]
    record.deviated += claims
    record.message = failures.message(error) if error and claims else ""
    return bool(claims)


def _is_advice(record: TestRecord) -> bool:
    """Whether a port need not meet the requirements of a test."""
    from conformance.contract.reader import requirements
    from conformance.judging.records import is_third_party

    known = [requirements().get(name) for name in record.requirements]
    return is_third_party(record.subject) and all(r and r.level == "should" for r in known)


def _finish(config: pytest.Config, record: TestRecord, report: pytest.TestReport) -> None:
    """Keep the evidence of a test, or send it with the report of its last phase."""
    journal = config.stash[JOURNAL]
    if not is_worker(config):
        journal.note("finish", record)
        return
    known, sent = journal.evidence.subjects, config.stash[_SENT]
    new = {name: facts for name, facts in known.items() if name not in sent}
    sent.update(new)
    report.conformance = encode((record, new))  # type: ignore[attr-defined]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Take the evidence of a test that a worker of pytest-xdist has run, or was running."""
    node = getattr(report, "node", None)
    if node is None:
        return
    journal = node.config.stash[JOURNAL]
    if str(report.when) == "???":
        journal.note("crash", report.nodeid, "a worker of pytest-xdist")
    elif encoded := getattr(report, "conformance", None):
        record, facts = decode(encoded)
        for subject, each in facts.items():
            journal.note("describe", subject, each)
        journal.note("finish", record)


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """No progress is shown of tests that do not apply, which may be hundreds."""
    if getattr(report, "not_applicable", False) and config.option.verbose <= 0:
        return "skipped", "", ""
    return None


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
        report.not_applicable = True  # type: ignore[attr-defined]
    elif listed is not None:
        record.verdict, record.message = "skipped", listed
    else:
        record.verdict, record.message = "error", f"skipped for a reason not listed: {given}"
        _fail(report, record.message)


def _failure(report: pytest.TestReport, call: pytest.CallInfo[None]) -> tuple[str, str]:
    from conformance.judging.judge import MistrustedError
    from conformance.ports.wire import PortFailureError

    if call.excinfo is None:
        return "fail" if report.when == "call" else "error", str(report.longrepr)
    error = call.excinfo.value
    if report.when != "call" or isinstance(error, PortFailureError):
        return "error", failures.message(error)
    mistrusted = isinstance(error, MistrustedError)
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
    from conformance.selection import SELECTION

    path, name = str(item.path), item.nodeid.partition("::")[2]
    if PACKAGE in item.path.parents:
        path = ".".join(item.path.relative_to(PACKAGE.parent).with_suffix("").parts)
    # `python -m` puts the current folder on the path, where a port may be.
    words = ["python", "-m", "pytest", "--pyargs", f"{path}::{name}"]
    left_out = ["requirement", "report-dir"]
    if backend := _backend(item):
        words += item.config.stash[SELECTION].options(*backend)
        left_out += ["backend", "model", "only-model"]
    for option_name, settings in OPTIONS.items():
        value = option(item.config, option_name.replace("-", "_"))
        if value is None or option_name in left_out:
            continue
        if "const" in settings:
            words.append(f"--{option_name}")
            continue
        for each in value if settings.get("action") == "append" else [value]:
            is_path = settings.get("metavar") in ("DIR", "FILE") and Path(each).exists()
            words += [f"--{option_name}", os.path.abspath(each) if is_path else str(each)]
    return shlex.join(words)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around the terminal's summary
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> Any:
    """Judge and report the run; its last line is the command that repeats the first failure."""
    from conformance.report.terminal import end

    config = session.config
    if is_worker(config) or config.option.collectonly:
        return (yield)
    journal = config.stash[JOURNAL]
    _judge(session, exitstatus)
    result = yield
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if journal.evidence.collected and reporter:
        _write_sections(reporter, end(journal.evidence))
    journal.close(session.exitstatus)
    return result


def _judge(session: pytest.Session, exitstatus: int) -> None:
    """Write the report; a run whose tests all passed fails if a verdict is red."""
    from conformance.judging.records import is_third_party
    from conformance.report.verdicts import RED, UNJUDGED, by_subject

    config = session.config
    evidence = config.stash[JOURNAL].evidence
    why = "interrupted" if exitstatus == pytest.ExitCode.INTERRUPTED else "the run ended"
    why = str(session.shouldfail or session.shouldstop or why) + evidence.during()
    evidence.complete = evidence.collected
    write_report(config, f"not run: {why if evidence.collected else 'no test was collected'}")
    results = by_subject(evidence.judged()).values() if evidence.collected else ()
    verdicts = [entry["verdict"] for result in results for entry in result.values()]
    if exitstatus == pytest.ExitCode.OK and any(verdict in RED for verdict in verdicts):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    judged_ports = any(is_third_party(record.subject) for record in evidence.judged())
    if exitstatus == pytest.ExitCode.OK and judged_ports and not {*verdicts} - {*UNJUDGED}:
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    from conformance.report.ci import publish
    from conformance.report.json_document import document
    from conformance.report.terminal import sections

    evidence = config.stash[JOURNAL].evidence
    if evidence.collected:
        _write_sections(terminalreporter, sections(evidence, full=config.option.verbose >= 0))
        for line in publish(document(evidence)):
            terminalreporter.write_line(line)


def _write_sections(reporter: Any, found: Iterable[Section]) -> None:
    for title, lines in found:
        reporter.section(title)
        for line in lines:
            reporter.write_line(line)
