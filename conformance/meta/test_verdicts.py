"""The truth table of the verdicts, and the schema of the document that reports them."""

from __future__ import annotations

import base64
import json
import os
import pickle
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import conformance
from conformance.judging.compare import Comparison
from conformance.judging.deviations import Deviation
from conformance.judging.records import TestRecord
from conformance.report.evidence import Evidence, Facts, decode, encode
from conformance.report.json_document import document
from conformance.report.verdicts import ORDER, RED, first_failure, summarize

PASSED = Comparison("q", 10, 0.5, 1.0)
CLAIM = Deviation("LM-02", "shared", "an owner", "a reason", date(2999, 1, 1), 3.0)


def record(verdict="pass", **fields):
    return TestRecord("node", ("LM-02",), "shared", [PASSED], verdict=verdict, **fields)


def verdict_of(*records):
    return summarize(list(records))["LM-02"]["verdict"]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (("pass", "pass"), "pass"),
        (("pass", "tie"), "tie"),
        (("tie", "deviation"), "deviation"),
        (("pass", "skipped"), "skipped"),
        (("pass", "not-applicable"), "pass"),
        (("not-applicable",), "not-applicable"),
        (("pass", "fail", "tie"), "fail"),
        (("fail", "mistrusted"), "mistrusted"),
        (("mistrusted", "error"), "error"),
        (("not-applicable", "fail"), "fail"),
        (("skipped", "fail"), "fail"),
    ],
)
def test_the_worst_test_decides_a_requirement(verdicts, expected):
    records = [record(verdict) for verdict in verdicts]
    assert verdict_of(*records) == expected
    assert verdict_of(*reversed(records)) == expected


def test_first_failure_is_the_earliest_stage_of_the_pipeline():
    message = "x: you follow the convention 'no penalty'; 1 element"
    records = [
        TestRecord("a", ("CA-01",), "port-v11", verdict="fail", message="cache"),
        TestRecord("b", ("AT-04",), "port-v11", verdict="fail", message="threads"),
        TestRecord("c", ("LM-02",), "port-v11", verdict="error", message="steps\nx", repeat="r"),
        TestRecord("d", ("SA-22",), "port", verdict="pass", message=message),
    ]
    failure = first_failure(records)
    assert failure["stage"] == "language model"
    assert (failure["requirement"], failure["message"], failure["repeat"]) == (
        "LM-02",
        "steps",
        "r",
    )
    assert failure["convention"] == ""
    records[3].verdict = "fail"
    assert first_failure(records)["convention"] == "no penalty"
    assert first_failure(records[:0]) is None


def test_batches_are_blamed_before_what_selects_and_joins_their_rows():
    failed = {
        name: TestRecord(name, (name,), "port-v11", verdict="fail", message="a row")
        for name in ("CA-05", "CA-06", "BA-01", "CA-04")
    }
    stages = [first_failure([failed[name], failed["CA-05"]])["stage"] for name in failed]
    assert stages == ["KV cache", "KV cache", "batching", "KV cache"]
    assert first_failure(list(failed.values()))["requirement"] == "CA-04"


def test_a_claim_that_is_not_met_is_a_first_failure():
    failure = first_failure([record(claims=(CLAIM,), repeat="again")])
    assert (failure["requirement"], failure["verdict"], failure["repeat"]) == (
        "LM-02",
        "fail",
        "again",
    )
    assert "is not met" in failure["message"]


def test_verdicts_that_fail_a_run_come_first_in_the_order():
    assert set(RED) < set(ORDER)
    assert ORDER[: len(RED)] == RED


@pytest.mark.parametrize(("ties", "fails"), [(0, False), (1, False), (2, True), (20, True)])
def test_more_ties_than_chance_gives_fail(ties, fails):
    records = [record("tie", ties=1, ids=40) for _ in range(ties)] + [record()]
    assert (verdict_of(*records) == "fail") is fails
    many = [record("tie", ties=ties, ids=100_000)]
    assert verdict_of(*many) == "tie"


@pytest.mark.parametrize(
    ("claim", "occurred", "expected"),
    [
        (CLAIM, True, "deviation"),
        (CLAIM, False, "fail"),
        (Deviation("LM-02", "shared", "s", "r", date(2020, 1, 1), 3.0), True, "fail"),
    ],
)
def test_a_claim_fails_when_it_expires_or_does_not_occur(claim, occurred, expected):
    own = record("deviation" if occurred else "pass", claims=(claim,))
    own.deviated = [claim] if occurred else []
    assert verdict_of(own) == expected


def test_a_claim_applies_to_its_requirement_and_subject_only():
    assert CLAIM.applies(("LM-01", "LM-02"), "shared")
    assert not CLAIM.applies(("LM-01",), "shared")
    assert not CLAIM.applies(("LM-02",), "onnx_cpu-v11")


@pytest.mark.parametrize(
    ("comparison", "covered"),
    [
        (Comparison("q", 1, 2.9, 1.0, fault="too far"), True),
        (Comparison("q", 1, 3.1, 1.0, fault="too far"), False),
        (Comparison("q", 1, float("inf"), 1.0, fault="not finite"), False),
        (Comparison("q", 1, float("nan"), 1.0, fault="nan"), False),
        (Comparison("q", 1, float("inf"), 0, fault="another id"), False),
        (Comparison("q", 1, 0.5, 1.0, fault="another shape"), False),
    ],
)
def test_a_claim_covers_failures_within_its_bound(comparison, covered):
    assert CLAIM.covers(comparison) is covered


def test_the_document_follows_its_schema():
    import jsonschema

    path = Path(conformance.__file__).parent / "report" / "schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    bad = Comparison("q", 0, float("inf"), 1.0, where=(3, 4), fault="not finite")
    records = [record(), record("tie", ties=1, ids=40), record("fail", message="no")]
    records[2].comparisons = [bad]
    records.append(record("fail", message="another shape"))
    records[3].comparisons = [Comparison("q", 0, 0.0, 1.0, fault="another shape")]
    records[0].comparisons = [Comparison("q", 10, 0.5, 1.0, 0.2, 0.4, 0.3, 0.6, floor=0.1)]
    attested = {"version": {"value": "1", "how": "read back"}}
    facts = Facts(attested, ["sample"], {"model.safetensors": "0" * 64})
    evidence = Evidence(
        records={str(number): record for number, record in enumerate(records)},
        subjects={"shared": facts},
        not_covered={"port": {"v11": "ModelError: no graphs"}},
    )
    content = json.loads(json.dumps(document(evidence), allow_nan=False))
    nearest = content["results"]["shared"]["LM-02"]["nearest"]
    assert [nearest[size] for size in ("worst", "rms", "row", "used", "margin")] == [None] * 5
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(content)
    for key in list(content):
        incomplete = {name: value for name, value in content.items() if name != key}
        assert not validator.is_valid(incomplete), key
    without_evidence = json.loads(json.dumps(content))
    without_evidence["results"]["shared"]["LM-02"] |= {"verdict": "pass", "comparisons": 0}
    assert not validator.is_valid(without_evidence)


class Version(str):
    """Text of a foreign type, as `torch.__version__` is."""


def test_a_journal_carries_scalars_as_plain_values():
    Version.__module__ = "torch"
    values = [
        np.float64(2),
        np.int64(3),
        np.bool_(True),
        Version("2.13"),
        {"nested": np.float32(1)},
    ]
    carried = decode(encode(values))
    assert carried == [2.0, 3, True, "2.13", {"nested": 1.0}]
    assert [type(value) for value in carried] == [float, int, bool, str, dict]


class Command:
    def __reduce__(self):
        return os.system, ("exit 1",)


def test_a_journal_carries_no_code():
    with pytest.raises(pickle.UnpicklingError, match="is not a value of a journal"):
        decode(base64.b64encode(pickle.dumps(Command())).decode("ascii"))
