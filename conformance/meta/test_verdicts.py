"""The truth table of the verdicts, and the document that carries them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

import conformance
from conformance.judging.compare import Comparison
from conformance.judging.deviations import Deviation
from conformance.judging.judge import TestRecord
from conformance.report.json_document import document
from conformance.report.verdicts import ORDER, RED, summarize

HELD = Comparison("q", 10, 0.5, 1.0)
CLAIM = Deviation("LM-02", "shared", "someone", "it is so", date(2999, 1, 1), 3.0)


def record(verdict: str = "pass", **fields: object) -> TestRecord:
    return TestRecord("node", ("LM-02",), "shared", [HELD], verdict=verdict, **fields)


def verdict_of(*records: TestRecord) -> str:
    return str(summarize(list(records))["LM-02"]["verdict"])


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


def test_every_verdict_has_its_place():
    assert set(RED) < set(ORDER)
    assert ORDER[: len(RED)] == RED


@pytest.mark.parametrize(("ties", "red"), [(0, False), (1, False), (2, True), (20, True)])
def test_more_ties_than_luck_brings_are_red(ties, red):
    records = [record("tie", ties=1, decisions=40) for _ in range(ties)] + [record()]
    assert (verdict_of(*records) == "fail") is red
    many = [record("tie", ties=ties, decisions=100_000)]
    assert verdict_of(*many) == "tie"


@pytest.mark.parametrize(
    ("claim", "met", "expected"),
    [
        (CLAIM, True, "deviation"),
        (CLAIM, False, "fail"),
        (Deviation("LM-02", "shared", "s", "r", date(2020, 1, 1), 3.0), True, "fail"),
    ],
)
def test_a_claim_holds_until_it_expires_or_is_not_met(claim, met, expected):
    own = record("deviation" if met else "pass", claims=(claim,), deviated=[claim] if met else [])
    assert verdict_of(own) == expected


def test_a_claim_is_about_its_own_requirement_and_subject():
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
def test_a_claim_covers_what_stays_within_its_bound(comparison, covered):
    assert CLAIM.covers(comparison) is covered


def test_the_document_is_what_its_schema_says():
    import jsonschema

    path = Path(conformance.__file__).parent / "report" / "schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    bad = Comparison("q", 0, float("inf"), 1.0, where=(3, 4), fault="not finite")
    records = [record(), record("tie", ties=1, decisions=40), record("fail", message="no")]
    records[2].comparisons = [bad]
    records[0].comparisons = [Comparison("q", 10, 0.5, 1.0, 0.2, 0.4, 0.3, 0.6, floor=0.1)]
    attested = {"shared": {"version": {"value": "1", "how": "read back"}}}
    content = json.loads(json.dumps(document(records, attested)))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(content)
    for key in list(content):
        lacking = {name: value for name, value in content.items() if name != key}
        assert not validator.is_valid(lacking), key
    unproven = json.loads(json.dumps(content))
    unproven["results"]["shared"]["LM-02"] |= {"verdict": "pass", "comparisons": 0}
    assert not validator.is_valid(unproven)
