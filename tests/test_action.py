"""`action.yml`: its steps run as GitHub Actions runs them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import soprano

yaml = pytest.importorskip("yaml")
ACTION = Path(__file__).parents[1] / "action.yml"
PORT = """
import numpy as np
import soprano


def open_port(folder, **options):
    backend = soprano.open_backend("onnx_cpu", folder.path, **options)
    decode = backend.decode
    backend.decode = lambda hidden, lengths: decode(hidden, lengths) * np.float32(1.01)
    return backend
"""


def evaluate(text, inputs):
    """The expressions of the file, as far as it uses them."""

    def value(found):
        expression = found[1].strip()
        python = re.sub(r"inputs\.([\w-]+)", lambda name: repr(inputs[name[1]]), expression)
        python = python.replace("github.action_path", repr(str(ACTION.parent)))
        python = python.replace("||", "or").replace("&&", "and")
        names = {"format": lambda form, *values: form.format(*values), "always": lambda: True}
        return str(eval(python, names))  # noqa: S307 - an expression of our action.yml

    return re.sub(r"\$\{\{(.*?)\}\}", value, text)


class Job:
    """A job whose only step uses the action; `statuses` are those of the steps that ran."""

    def __init__(self, folder, **given):
        action = yaml.safe_load(ACTION.read_text("utf-8"))
        self.folder, self.statuses, self.printed = folder, {}, ""
        defaults = {name: field.get("default", "") for name, field in action["inputs"].items()}
        assert set(given) <= set(defaults)
        self.inputs = {**defaults, **given}
        for step in action["runs"]["steps"]:
            if "run" in step and self.is_due(step):
                self.statuses[step["name"]] = self.run(step)

    def is_due(self, step):
        condition = step.get("if", "success()")
        if condition == "always()":
            return True
        chosen = (
            "success()" in condition or evaluate("${{" + condition + "}}", self.inputs) == "True"
        )
        return chosen and not any(self.statuses.values())

    def run(self, step):
        assert step["shell"] == "bash"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CONFORMANCE_")}
        path = [str(Path(sys.executable).parent), environment["PATH"]]
        environment |= {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": os.pathsep.join([str(Path(soprano.__file__).parents[1]), "."]),
            "PIP_NO_INDEX": "1",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(self.folder),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary.md"),
        }
        environment |= {k: evaluate(v, self.inputs) for k, v in step["env"].items()}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        result = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True
        )
        self.printed += result.stdout + result.stderr
        return result.returncode

    def outputs(self):
        return dict(line.split("=", 1) for line in self.text("output").splitlines())

    def text(self, name):
        return (self.folder / name).read_text("utf-8")


# Installed already: without an index, pip only checks it.
INSTALLED = {"package": "soprano-conformance", "arguments": "--only-model"}


def test_a_port_that_fails_has_annotations_a_summary_a_report_and_a_badge(tmp_path):
    (tmp_path / "my_port.py").write_text(PORT, encoding="utf-8")
    job = Job(
        tmp_path, backend="my_port:open_port", models="v11", requirements="DE-01,DE-02", **INSTALLED
    )
    assert job.statuses == {"Install": 0, "Judge": 1, "Report": 0}, job.printed
    errors = re.findall(r"^::error (.*?)::(.*)$", job.printed, re.M)
    line = PORT.splitlines().index("def open_port(folder, **options):") + 1
    assert [where for where, _ in errors] == [
        f"file=my_port.py,line={line},title=DE-01 fail%3A my_port%3Aopen_port"
    ]
    assert "repeat with: python -m pytest" in errors[0][1]
    assert job.text("summary.md").startswith("### Conformance: does not conform\n")
    assert job.outputs() == {
        "verdict": "does not conform", "report": "conformance-report/report.html",
    }  # fmt: skip
    assert "<audio" not in job.text("conformance-report/report.html")
    assert "DE-01 on my_port:open_port" in job.text("conformance-report/report.html")
    badge = json.loads(job.text("conformance-report/badge.json"))
    assert badge["schemaVersion"] == 1
    assert (badge["message"], badge["color"]) == ("does not conform", "red")


def test_exported_models_are_judged(tmp_path):
    job = Job(tmp_path, backend="onnx_cpu", export="onnx", requirements="LM-04", **INSTALLED)
    assert set(job.statuses.values()) == {0}, job.printed
    assert list(job.statuses) == ["Install", "Export models", "Judge", "Report"]
    assert job.outputs()["verdict"] == "conforms"
    assert "::error" not in job.printed
    report = json.loads(job.text("conformance-report/conformance.json"))
    files = {name for own in report["files"].values() for name in own}
    assert any(name.endswith(".onnx") for name in files)


def test_the_expressions_of_the_file_are_evaluated():
    inputs = {"a-b": "", "c": "x"}
    assert evaluate("${{ inputs.a-b || inputs.c }}", inputs) == "x"
    assert evaluate("${{ inputs.a-b && format('{0}/y', inputs.c) }}", inputs) == ""
    assert evaluate("${{ inputs.c && format('{0}/y', inputs.c) }}!", inputs) == "x/y!"
