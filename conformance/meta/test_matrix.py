"""The fault catalogue is complete and uses public names; the kill matrix gives right verdicts."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import conformance.faults
from conformance.contract.reader import requirements
from conformance.faults import FLOW, catalogue
from conformance.faults import cli as command
from conformance.faults import kill_matrix as matrix
from conformance.faults.kill_matrix import Result
from conformance.subject import Subject

FAULTS = catalogue()
PLANTED = [fault for fault in FAULTS.values() if not fault.harmless]

# Private names of `soprano` that the catalogue uses; at most 10, all in network_hooks.py.
PRIVATE: set[str] = set()
NOT_OF_SOPRANO = {"_replace", "_exit"}  # of named tuples and of os


# Requirements that no planted fault is aimed at: the mutants of their comparisons, and the example
# ports of this folder, show that they can fail. A new requirement needs a fault.
BY_MUTANTS_ONLY = """
    AO-04 AO-06 AO-07 AO-08 AO-09 CK-01 CK-04 CK-06 CK-09 CK-10 CK-12 EX-03 EX-04 EX-05 EX-06
    EX-09 EX-10 GE-02 GE-04 GE-06 GE-09 GE-11 GE-12 GE-15 PR-01 PR-02 PR-03 PR-04 PR-05 PR-06
    PR-07 PR-08 PR-09 PR-10 ST-03 ST-06 ST-07 SY-03 SY-05 SY-08 SY-15 SY-16 SY-18 SY-19 SY-20
    SY-22 TK-04 TK-05 TK-06 TK-13 TK-16 TX-23 TX-28 TX-32 TX-33 TX-37 TX-38
"""


def report(**verdicts):
    """The suite's report with these verdicts of requirements."""
    nearest = {"quantity": "samples", "worst": 3.0, "limit": 1.0}
    failures = ["test: fail: x: you follow the convention 'no penalty'; 1 element"]
    entries = {
        name.replace("_", "-"): {
            "verdict": verdict,
            "not_run": 0,
            "nearest": nearest,
            "failures": failures,
        }
        for name, verdict in verdicts.items()
    }
    return {"results": {"onnx_cpu-v11": entries}}


def test_catalogue_has_every_published_fault():
    assert sum(fault.public for fault in PLANTED) == 141
    assert len(PLANTED) == 435
    assert len(FAULTS) - len(PLANTED) == 26


def test_every_requirement_has_a_fault_that_is_aimed_at_it():
    aims = {aim for fault in PLANTED for aim in fault.aims}
    assert sorted(set(requirements()) - aims) == BY_MUTANTS_ONLY.split()


def test_faults_name_requirements_that_exist():
    known = {name[:2] for name in requirements()}
    assert known == set(FLOW)
    for fault in PLANTED:
        assert set(fault.rightly_blamed) <= known, fault
        assert fault.rightly_blamed, fault
        assert set(fault.aims) <= set(requirements()), fault
        # The tests that would blame a right stage are run.
        assert any(prefix.startswith(fault.rightly_blamed) for prefix in fault.stage.reach), fault


def private_names(path):
    """Private names that a file takes from other modules, in code or as a string to patch."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") != "self":
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("soprano"):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            found.add(str(node.args[0].value))
    return {name for name in found if re.fullmatch("_[a-zA-Z]\\w*", name)} - NOT_OF_SOPRANO


def test_catalogue_uses_public_names_of_soprano():
    files = sorted(Path(conformance.faults.__file__).parent.rglob("*.py"))
    assert len(files) > 15
    used = {path.name: private_names(path) for path in files}
    assert {name for name, private in used.items() if private} <= {"network_hooks.py"}
    assert set().union(*used.values()) == PRIVATE
    assert len(PRIVATE) <= 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are planted in forked processes")
def test_every_fault_can_be_planted():
    # A name that a fault changes may have been moved or renamed.
    broken = []
    for fault in FAULTS.values():
        child = os.fork()
        if not child:
            status = 1
            try:
                status = 0 if isinstance(fault.plant(Subject()), Subject) else 1
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            broken.append(fault.id)
    assert not broken


def test_a_story_is_one_sentence():
    for fault in FAULTS.values():
        assert re.fullmatch(r"\S.*\.", fault.story), fault


@pytest.mark.parametrize(
    ("verdicts", "verdict", "blamed"),
    [
        ({"SA_06": "fail", "SA_22": "fail", "SY_03": "fail"}, "caught", "SA"),
        ({"SA_06": "mistrusted", "SA_22": "fail", "SY_03": "pass"}, "caught", "SA"),
        ({"TX_01": "error", "SA_01": "fail"}, "wrong blame", "TX"),
        ({"SA_01": "pass", "SY_03": "tie"}, "missed", ""),
        ({"SY_03": "fail"}, "wrong blame", "SY"),
        ({"SA_19": "fail"}, "aim missed", "SA"),
    ],
)
def test_a_fault_is_caught_if_its_stage_is_blamed_first(verdicts, verdict, blamed):
    result = matrix.judge(FAULTS["sampler/penalty-absent"], "onnx_cpu", [report(**verdicts)])
    assert (result.verdict, result.blamed) == (verdict, blamed)


@pytest.mark.parametrize(("outcome", "verdict"), [("pass", "silent"), ("fail", "false alarm")])
def test_a_harmless_variation_must_pass(outcome, verdict):
    assert (
        matrix.judge(
            FAULTS["harmless/an-ulp-of-noise"], "onnx_cpu", [report(LM_01=outcome)]
        ).verdict
        == verdict
    )


def test_a_run_that_judged_nothing_is_broken():
    assert (
        matrix.judge(FAULTS["harmless/an-ulp-of-noise"], "onnx_cpu", [{"results": {}}]).verdict
        == "broken"
    )


def test_result_names_the_convention_that_is_followed():
    result = matrix.judge(FAULTS["sampler/penalty-absent"], "onnx_cpu", [report(SA_22="fail")])
    assert result.conventions == ["you follow the convention 'no penalty'"]


@pytest.mark.parametrize(
    ("requirements", "blamed", "status"), [(["SA-06"], "SA", 0), ([], "", 1), (["SY-03"], "SY", 1)]
)
def test_exit_status_is_1_unless_every_verdict_is_right(
    monkeypatch, tmp_path, requirements, blamed, status
):
    def run(wanted, jobs, logs, **options):
        for fault, backend in wanted:
            right = blamed in fault.rightly_blamed
            yield Result(
                fault.id, fault.stage.name, list(fault.aims), backend, fault.model, False, False,
                fault.story, requirements, blamed, right=right,
            )  # fmt: skip

    monkeypatch.setattr(matrix, "run", run)
    arguments = ["--only", "sampler/penalty-absent", "-o", str(tmp_path)]
    assert CliRunner().invoke(command.faults, arguments).exit_code == status
    again = CliRunner().invoke(command.faults, [*arguments, "--resume"])
    assert again.exit_code == status
    assert len(matrix.read(tmp_path / "faults.json")) == 1
