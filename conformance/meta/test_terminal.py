"""What a run prints: a port that fails everywhere fits on a screen, and nothing is hidden."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from conformance.contract.reader import pipeline_order, requirements
from conformance.judging.compare import Comparison
from conformance.judging.records import TestRecord
from conformance.report.evidence import Evidence
from conformance.report.terminal import sections

NAMES = sorted(requirements(), key=pipeline_order)


def evidence(failing, passing=10):
    """A run in which the first requirements fail, some pass, and the others do not apply."""
    verdicts = ["fail"] * failing + ["pass"] * passing
    verdicts += ["not-applicable"] * (len(NAMES) - len(verdicts))
    found = Evidence()
    for name, verdict in zip(NAMES, verdicts, strict=True):
        message = f"q: off by 3 times its limit; {name}\nq: another fault" * (verdict == "fail")
        fault = message or None
        node = f"laws/test_x.py::{name}"
        compared = [Comparison("q", 5, 0.5, 1.0, fault=fault)]
        found.records[node] = TestRecord(
            node, (name,), "port-v11", compared, verdict=verdict, message=message
        )
    return found


def printed(found, full):
    return [line for _, lines in sections(found, full=full) for line in lines]


@pytest.mark.parametrize("failing", [6, 30, len(NAMES) - 10])
def test_many_failing_requirements_are_the_first_of_each_stage_and_a_line_for_each_verdict(failing):
    lines = printed(evidence(failing), full=False)
    assert len(lines) <= 20
    assert all(len(line) < 120 for line in lines)
    assert lines[0] == f"{NAMES[0]:8} fail       q: off by 3 times its limit; {NAMES[0]}"
    listed = [line[:8].strip() for line in lines if "off by 3 times" in line]
    assert {name[:2] for name in listed} == {name[:2] for name in NAMES[:failing]}
    assert any(line.startswith("pass: 10 requirements of ") for line in lines)
    more = [line for line in lines if line.startswith("and ")]
    assert [line.split(" ")[1] for line in more] == [str(failing - len(listed))] * bool(more)


@pytest.mark.parametrize(("failing", "full"), [(30, True), (5, False), (0, False)])
def test_few_failures_or_a_request_list_every_requirement(failing, full):
    lines = printed(evidence(failing), full)
    assert sum(line[:5] in NAMES for line in lines) == len(NAMES)
    assert sum("off by 3 times" in line for line in lines) == failing


PORT = """
import numpy as np
from soprano.backends import open_backend
from soprano.backends.base import PortBackend


class Port(PortBackend):
    name = "wrong"

    def __init__(self, folder, *, precision="fp32", threads=None):
        super().__init__(folder, precision=precision, threads=threads)
        self.runtime = open_backend("onnx_cpu", folder.path, precision, threads)

    def prefill_one(self, ids):
        output = self.runtime.prefill(ids[None], np.array([len(ids)]))
        return output.logits[0] * np.nan, output.hidden[0], output.state

    def step_one(self, new_id, cache):
        output = self.runtime.step(np.array([new_id]), cache)
        return np.roll(output.logits[0], 1), output.hidden[0] * 1.5, output.state

    def decode_one(self, hidden):
        return np.zeros_like(self.runtime.decode(hidden[None], np.array([len(hidden)]))[0])

    def normalize(self, text):
        return "A" + text
"""


def test_a_port_that_fails_everywhere_fits_on_a_screen(tmp_path):
    (tmp_path / "wrong.py").write_text(PORT, encoding="utf-8")
    command = [sys.executable, "-m", "conformance", "run", "--backend", "wrong:Port"]
    command += ["--model", "v11", "--only-model"]
    for name in ("TX-01", "TX-02", "TX-03", "LM-01", "LM-02", "DE-01", "SY-01"):
        command += ["--requirement", name]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert result.returncode == 1, result.stdout
    assert len(result.stdout.splitlines()) <= 40, result.stdout
    assert "LM-01    fail       prefill logits: " in result.stdout
    assert "frame " in result.stdout
    report = tmp_path / "conformance-report"

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = (report / "conformance.json").read_text(encoding="utf-8")
    results = json.loads(text, parse_constant=refuse)["results"]
    entries = [entry for subject in results.values() for entry in subject.values()]
    ours = [failure for entry in entries for failure in entry["failures"]]
    assert len(ours) > 7
    said = "\n".join([result.stdout, *ours, (report / "junit.xml").read_text(encoding="utf-8")])
    unwanted = r"Falsifying|[Tt]est case:|reproduce this|@given|\binf\b|at \(|[0-9]{4,}%"
    assert not re.findall(unwanted, said)
    assert any("; input: text = ''" in failure for failure in ours)
