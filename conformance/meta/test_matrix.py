"""The catalogue of faults is whole, and the matrix tells a catch from a miss."""

from __future__ import annotations

import os
import re

import pytest
from click.testing import CliRunner

from conformance.contract.reader import requirements
from conformance.faults import FLOW, catalogue
from conformance.faults import cli as command
from conformance.faults import kill_matrix as matrix
from conformance.faults.kill_matrix import Result
from conformance.faults.plant import Plant

FAULTS = catalogue()
PLANTED = [fault for fault in FAULTS.values() if not fault.harmless]


def report(**verdicts: str) -> dict:
    """The suite's report with these verdicts of requirements."""
    nearest = {"quantity": "samples", "worst": 3.0, "limit": 1.0}
    said = ["test: fail: x: you follow the convention 'no penalty'; 1 element"]
    entries = {
        name.replace("_", "-"): {"verdict": verdict, "nearest": nearest, "failures": said}
        for name, verdict in verdicts.items()
    }
    return {"results": {"onnx_cpu-v11": entries}}


def test_the_catalogue_is_whole():
    published = [f for f in PLANTED if int(f.number.split("-")[1]) < 50]
    assert len(published) == 88
    assert len(PLANTED) - len(published) >= 20
    assert len(FAULTS) - len(PLANTED) >= 15
    assert len({fault.name for fault in FAULTS.values()}) == len(FAULTS)


def test_faults_name_requirements_that_exist():
    known = {name[:2] for name in requirements()}
    assert known == set(FLOW)
    for fault in PLANTED:
        assert set(fault.rightly_blamed) <= known, fault
        assert fault.rightly_blamed, fault
        # Who is blamed rightly can be blamed at all.
        assert all(
            any(prefix.startswith(stage) for prefix in fault.stage.reach)
            for stage in fault.rightly_blamed
        ), fault


@pytest.mark.skipif(not hasattr(os, "fork"), reason="faults are planted in forked processes")
def test_every_fault_can_still_be_planted():
    # What a fault changes may have been moved or renamed since.
    broken = []
    for fault in FAULTS.values():
        child = os.fork()
        if not child:
            status = 1
            try:
                fault.plant(Plant())
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            broken.append(fault.number)
    assert not broken


def test_a_story_is_one_sentence():
    for fault in FAULTS.values():
        assert re.fullmatch(r"\S.*\.", fault.story), fault


@pytest.mark.parametrize(
    ("verdicts", "verdict", "blamed"),
    [
        ({"SA_01": "fail", "SY_03": "fail"}, "caught", "SA"),
        ({"SA_01": "mistrusted", "SY_03": "pass"}, "caught", "SA"),
        ({"TX_01": "error", "SA_01": "fail"}, "wrong blame", "TX"),
        ({"SA_01": "pass", "SY_03": "tie"}, "missed", ""),
        ({"SY_03": "fail"}, "wrong blame", "SY"),
    ],
)
def test_a_fault_is_caught_where_its_stage_is_blamed_first(verdicts, verdict, blamed):
    result = matrix.judge(FAULTS["SA-12"], "onnx_cpu", report(**verdicts))
    assert (result.verdict, result.blamed) == (verdict, blamed)


@pytest.mark.parametrize(("verdict", "said"), [("pass", "silent"), ("fail", "false alarm")])
def test_a_harmless_variation_must_be_silent(verdict, said):
    assert matrix.judge(FAULTS["OK-07"], "onnx_cpu", report(LM_01=verdict)).verdict == said


def test_a_run_that_judged_nothing_is_broken():
    assert matrix.judge(FAULTS["OK-07"], "onnx_cpu", {"results": {}}).verdict == "broken"


def test_the_convention_that_a_port_follows_is_told():
    result = matrix.judge(FAULTS["SA-12"], "onnx_cpu", report(SA_22="fail"))
    assert result.conventions == ["you follow the convention 'no penalty'"]


@pytest.mark.parametrize(
    ("requirements", "blamed", "status"), [(["SA-06"], "SA", 0), ([], "", 1), (["SY-03"], "SY", 1)]
)
def test_the_command_ends_red_unless_all_is_right(
    monkeypatch, tmp_path, requirements, blamed, status
):
    def run(wanted, jobs, logs, whole):
        if not wanted:
            return
        ((fault, backend),) = wanted
        right = blamed in fault.rightly_blamed
        yield Result(
            fault.number, fault.name, fault.stage.name, backend, fault.model, False, False,
            fault.story, requirements, blamed, right=right,
        )  # fmt: skip

    monkeypatch.setattr(matrix, "run", run)
    arguments = ["--only", "SA-12", "-o", str(tmp_path)]
    assert CliRunner().invoke(command.faults, arguments).exit_code == status
    again = CliRunner().invoke(command.faults, [*arguments, "--resume"])
    assert again.exit_code == status
    assert len(matrix.read(tmp_path / "faults.json")) == 1
