"""Runs whose process ends: each selected requirement has a verdict, and what finished is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from conformance.judging.compare import Comparison
from conformance.judging.records import TestRecord
from conformance.report.evidence import Facts, Journal, replay
from conformance.report.json_document import document

PORTS = """
import os, signal, time
from conformance.meta.example_ports import Port

class Exits(Port):
    def decode_one(self, hidden):
        os._exit(0)

class IsKilled(Port):
    def decode_one(self, hidden):
        os.kill(os.getpid(), signal.SIGKILL)

class ExitsLast(Port):
    '''The last test leaves the process to the functions that run at its end.'''
    def decode_one(self, hidden):
        import atexit
        atexit.register(os._exit, 0)
        return super().decode_one(hidden) * 2

class ExitsEarly(Port):
    def __init__(self, folder, **options):
        os._exit(0)

class Waits(Port):
    def decode_one(self, hidden):
        open("waiting", "w").close()
        time.sleep(60)
"""
REQUIREMENTS = ("AT-01", "DE-04", "LM-04")  # in the order of their tests
RUN = [sys.executable, "-m", "conformance", "run"]
PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--pyargs", "conformance"]


def command(start, folder, port):
    (folder / "dying_ports.py").write_text(PORTS, encoding="utf-8")
    words = [*start, "--in-process", "--backend", f"dying_ports:{port}"]
    words += ["--model", "v11", "--only-model"]
    words += [f"--requirement={name}" for name in REQUIREMENTS]
    return [*words, "--report-dir", str(folder / "report")]


def with_path(folder):
    """The environment, with a folder from which modules are imported also in safe-path mode."""
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def run(start, folder, port):
    words = command(start, folder, port)
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=with_path(folder))


def report(folder):
    written = json.loads((folder / "report" / "conformance.json").read_text(encoding="utf-8"))
    entries = {name: entry for own in written["results"].values() for name, entry in own.items()}
    assert set(entries) == set(REQUIREMENTS)
    assert sum(written["totals"].values()) == len(entries)
    return written, entries


@pytest.mark.parametrize(
    ("start", "port", "reason", "rest"),
    [
        (RUN, "Exits", "exit status 0", "error"),
        (PYTEST, "IsKilled", "SIGKILL", "error"),
        ([*PYTEST, "-n", "1"], "Exits", "a worker of pytest-xdist", "pass"),
    ],
    ids=["exit", "kill", "worker"],
)
def test_a_process_that_ends_leaves_verdicts_and_a_status(tmp_path, start, port, reason, rest):
    result = run(start, tmp_path, port)
    assert result.returncode == 1, result.stdout + result.stderr
    written, entries = report(tmp_path)
    assert entries["AT-01"]["verdict"] == "pass"
    assert entries["AT-01"]["elements"] > 0
    assert (entries["DE-04"]["verdict"], entries["LM-04"]["verdict"]) == ("error", rest)
    failure = written["first_failure"]
    assert failure["message"] == f"process ended during this test: {reason}"
    assert result.stdout.splitlines()[-1] == f"repeat with: {failure['repeat']}"
    assert "AT-01    pass" in result.stdout


def test_a_status_of_0_after_a_failed_run_is_not_believed(tmp_path):
    result = run(RUN, tmp_path, "ExitsLast")
    assert result.returncode == 1, result.stdout
    written, entries = report(tmp_path)
    assert entries["AT-01"]["verdict"] == "pass"
    assert written["first_failure"]["requirement"] == "DE-04"


def test_a_port_that_ends_the_process_when_opened_replaces_an_earlier_report(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "conformance.json").write_text('{"totals": {"pass": 3}}', "utf-8")
    (tmp_path / "report" / "junit.xml").touch()
    result = run(RUN, tmp_path, "ExitsEarly")
    assert result.returncode == 2
    last = "ERROR: the process ended before any test while opening v11 on dying_ports:ExitsEarly"
    assert result.stdout.splitlines()[-1] == f"{last}: exit status 0"
    assert report(tmp_path)[0]["totals"] == {"error": 3}
    assert not (tmp_path / "report" / "junit.xml").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("to_group", [True, False], ids=["terminal", "parent"])
def test_an_interrupted_run_has_a_report(tmp_path, to_group):
    """A terminal sends the signal to both processes; another program only to the parent."""
    words = command(RUN, tmp_path, "Waits")
    started = subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=with_path(tmp_path),
        # A shell lets the jobs that it runs in the background ignore this signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "waiting").exists() and started.poll() is None:
        time.sleep(0.1)
    (os.killpg if to_group else os.kill)(started.pid, signal.SIGINT)
    output, _ = started.communicate(timeout=60)
    assert started.returncode == 130, output
    written, entries = report(tmp_path)
    assert entries["AT-01"]["verdict"] == "pass"
    assert (entries["DE-04"]["verdict"], entries["LM-04"]["verdict"]) == ("error", "error")
    assert "not run: interrupted during" in written["first_failure"]["message"]
    assert output.splitlines()[-1].startswith("repeat with: ")


@pytest.mark.parametrize(("start", "status"), [(RUN, 2), (PYTEST, 4)], ids=["command", "pytest"])
@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_report_folder_that_cannot_be_written_is_one_sentence(tmp_path, start, status, name):
    (tmp_path / "file").touch()
    words = [*start, "--report-dir", name, "--requirement", "SA-02"]
    environment = with_path(tmp_path)
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert result.returncode == status
    assert f"--report-dir {name}: " in result.stderr
    assert len((result.stdout + result.stderr).split("\n")) < 4


def planned(*names):
    return [TestRecord(f"test_{name}", (name,), "port-v11", repeat="again") for name in names]


def test_a_journal_gives_the_evidence_up_to_its_last_whole_line(tmp_path):
    journal = Journal(tmp_path / "journal")
    first, second, third = planned("LM-01", "LM-02", "DE-01")
    facts = Facts({}, ["sample"], {})
    passed = TestRecord(first.node, first.requirements, first.subject, verdict="pass")
    passed.comparisons = [Comparison("logits", 3, 0.1, 1.0)]
    for event in (
        ("begin", str(tmp_path)),
        ("collect", [first, second, third]),
        ("describe", "port-v11", facts),
        ("start", first.node),
        ("finish", passed),
        ("start", second.node),
    ):
        journal.note(*event)
    with (tmp_path / "journal").open("a", encoding="ascii") as file:
        file.write("an event that was being written")
    evidence = replay(tmp_path / "journal")
    assert evidence == journal.evidence
    evidence.process_ended("SIGSEGV")
    written = document(evidence)
    assert written["totals"] == {"error": 2, "pass": 1}
    assert written["own_stages"] == {"port-v11": ["sample"]}
    entries = written["results"]["port-v11"]
    assert [entries[name]["not_run"] for name in ("LM-01", "LM-02", "DE-01")] == [0, 0, 1]
    assert written["first_failure"]["requirement"] == "LM-02"
    assert entries["DE-01"]["failures"] == [
        "test_DE-01: error: process ended: SIGSEGV during test_LM-02"
    ]


def test_tests_that_did_not_run_are_errors_and_not_the_first_failure():
    journal = Journal()
    journal.note("collect", planned("TX-01", "LM-01"))
    failed = TestRecord("test_LM-01", ("LM-01",), "port-v11", verdict="fail", message="wrong")
    journal.note("finish", failed)
    journal.evidence.end("not run: stopped")
    written = document(journal.evidence)
    assert written["totals"] == {"error": 1, "fail": 1}
    assert written["first_failure"]["message"] == "wrong"
