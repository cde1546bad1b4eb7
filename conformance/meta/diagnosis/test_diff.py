"""`diff` of two reports, and runs in another environment."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from conformance.diagnosis.commands import diff as command
from conformance.diagnosis.environments import UnusableError, command_of
from conformance.report.documents import DocumentError


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a run in the environment of another interpreter: this one's."""
    folder = tmp_path_factory.mktemp("run")
    arguments = [
        "--backend",
        "onnx_cpu",
        "--model",
        "v11",
        "--only-model",
        "--requirement",
        "LM-01",
    ]
    options = ["--report-dir", str(folder), "--python", sys.executable]
    result = subprocess.run(
        [sys.executable, "-m", "conformance", "run", *arguments, *options],
        capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "conformance.json"


@pytest.fixture
def changed(report, tmp_path):
    """A copy of the report, after a change."""

    def change(edit):
        document = json.loads(report.read_text(encoding="utf-8"))
        edit(document)
        path = tmp_path / "other.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return change


def shown(*paths):
    return CliRunner().invoke(command, [*map(str, paths), "--json"])


def test_equal_reports_have_no_differences(report):
    result = shown(report, report.parent)
    assert result.exit_code == 0
    assert not any(json.loads(result.stdout).values())


def test_a_new_failure_is_worse_and_its_repair_is_not(report, changed):
    def fail(document):
        document["results"]["onnx_cpu-v11"]["LM-01"]["verdict"] = "fail"

    result = shown(report, changed(fail))
    assert result.exit_code == 1
    (change,) = json.loads(result.stdout)["verdicts"]
    assert change == {"where": "onnx_cpu-v11 LM-01", "before": "pass", "after": "fail"}
    assert shown(changed(fail), report).exit_code == 0


def test_changed_errors_and_configuration_are_listed(report, changed):
    def other(document):
        document["environment"]["onnxruntime"] = "0.0"
        document["backends"]["onnx_cpu-v11"]["threads"]["value"] = "99"
        document["margins"]["onnx_cpu"]["prefill hidden"]["floors"] *= 3

    result = json.loads(shown(report, changed(other)).stdout)
    assert {c["where"] for c in result["configuration"]} == {
        "environment onnxruntime", "onnx_cpu-v11 threads",
    }  # fmt: skip
    assert [c["where"] for c in result["errors"]] == ["onnx_cpu prefill hidden, noise floors"]


def test_a_file_of_another_kind_is_rejected(report, tmp_path):
    (tmp_path / "no.json").write_text("[]")
    assert shown(report, tmp_path / "no.json").exit_code == 2
    assert issubclass(DocumentError, ValueError)


def test_an_environment_that_lacks_a_library_is_named(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    with pytest.raises(UnusableError, match="lacks pytest"), command_of(tmp_path / "bin/python"):
        pass
    with pytest.raises(UnusableError, match="does not run"), command_of(tmp_path / "no"):
        pass
