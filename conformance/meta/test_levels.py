"""Conformance levels: what they need, and that a failure or a missing stage keeps a port below."""

from __future__ import annotations

import re

import pytest

from conformance.contract.reader import FOLDER, STAGES, requirements
from conformance.judging.records import backend_of
from conformance.report.levels import LEVELS, PARTIAL, level_of, levels, line

PORTS = {name for name, known in requirements().items() if known.scope == "port"}
OWN_STAGES = {
    "text": "TX", "tokenizer": "TK", "sampler": "SA", "language model": "LM", "decoder": "DE",
    "ISTFT": "IS", "synthesis": "SY",
}  # fmt: skip


def verdicts(*families, **changed):
    """Requirements of families pass, others do not apply; changed ones have another verdict."""
    own = {name: {"pass" if name[:2] in families else "not-applicable"} for name in PORTS}
    return own | {name.replace("_", "-"): {verdict} for name, verdict in changed.items()}


EVERY = verdicts(*STAGES)


@pytest.mark.parametrize(
    ("own", "level"),
    [
        (verdicts("SY", "GE"), "L0"),
        (verdicts("IS"), "L1"),
        (verdicts("LM", "CA"), "L1"),
        (verdicts("AO"), None),  # a file is no stage of the models
        (verdicts(*(set(STAGES) - {"ST", "BA", "IN"})), "L2"),
        (EVERY | {"ST-10": {"not-applicable"}}, "L3"),
        (EVERY, "L4"),
    ],
)
def test_the_level_follows_from_what_is_offered(own, level):
    assert level_of(own).level == level


@pytest.mark.parametrize(
    ("failing", "level"),
    [
        ("SY-22", "L1"), ("GE-16", "L1"), ("LM-01", "L0"), ("TX-05", "L0"), ("CA-02", "L0"),
        ("ST-08", "L2"), ("BA-02", "L2"), ("IN-01", "L2"), ("ST-10", "L3"), ("SY-15", "L3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verdict", ["fail", "error", "mistrusted"])
def test_a_failure_lowers_the_level_and_is_named(failing, level, verdict):
    found = level_of(EVERY | {failing: {"pass", verdict}})
    assert found.level == level
    assert failing in found.reason


def test_deviations_ties_and_warnings_hold():
    for verdict in ("tie", "deviation", "warning"):
        assert level_of({name: {verdict} for name in PORTS}).level == "L4"


@pytest.mark.parametrize("stage", OWN_STAGES)
def test_a_stage_that_is_not_offered_is_listed(stage):
    found = level_of(verdicts(*(set(STAGES) - {OWN_STAGES[stage]})))
    ends_in_audio = stage == "ISTFT"  # the decoder's samples were judged
    assert (stage in found.not_offered) != ends_in_audio
    assert found.level == ("L4" if ends_in_audio else "L1")


def test_a_run_of_some_requirements_has_no_level():
    partial = {name: {"pass"} for name in PORTS if name.startswith("LM")}
    found = level_of(partial)
    assert (found.level, found.reason) == (None, PARTIAL)
    assert found.offered == ["language model"]


def test_subjects_of_one_backend_are_taken_together():
    entries = {name: {"verdict": next(iter(found))} for name, found in EVERY.items()}
    worse = entries | {"LM-02": {"verdict": "fail"}}
    found = levels({"exec:my-port-v10": entries, "exec:my-port-v11": worse, "exec:my-port": {}})
    assert list(found) == ["exec:my-port"]
    assert found["exec:my-port"]["level"] == "L0"
    text = "level of exec:my-port: L0 (audio only); failed: LM-02"
    assert line("exec:my-port", found["exec:my-port"]) == text


@pytest.mark.parametrize(
    ("name", "others", "owner"),
    [
        ("onnx_cpu-v11", (), "onnx_cpu"),
        ("shared", ("onnx_cpu-v11",), "shared"),
        ("exec:a --fast", ("exec:a --fast-v11",), "exec:a --fast"),
        ("exec:a --fast-v11", ("exec:a --fast",), "exec:a --fast"),
        ("onnx_cpu-soprano-1.1", ("onnx_cpu", "shared"), "onnx_cpu"),
        ("my-port-v11", ("my", "my-port", "my-v11"), "my-port"),
    ],
)
def test_hyphens_of_a_command_or_a_model_do_not_divide_a_subject(name, others, owner):
    assert backend_of(name, {name, *others}) == owner


def test_shared_loops_count_for_this_package():
    shared = {"SY-03", "SY-04", "ST-01"}
    own = {name: found for name, found in verdicts("LM", "CA", "DE", "BA", "PR").items()}
    own |= {name: {"pass"} for name in shared}
    stages = {name: {"pass"} for name in PORTS if name[:2] in ("TX", "TK", "SA", "IS")}
    assert level_of(own | stages, shared=True).level == "L3"
    assert level_of(own | stages).level == "L1"


def test_the_contract_lists_the_levels():
    text = (FOLDER / "port.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| (L\d) \| ([^|]+) \|", text, re.M)) == LEVELS
