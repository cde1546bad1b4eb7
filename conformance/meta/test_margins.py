"""The closing table shows a quantity only where it was judged as widely as its neighbours."""

from __future__ import annotations

import json

import pytest

from conformance.judging.compare import Comparison
from conformance.judging.records import TestRecord
from conformance.report.margins import lines, margins

FLOOR = 1e-7


def compared(quantity, floors=1.0, fault=None):
    error = floors * FLOOR
    sizes = (error, 4 * FLOOR) * 3
    return Comparison(quantity, 10, *sizes, fault=fault, floor=FLOOR)


def record(model, *comparisons, test="a"):
    return TestRecord(f"{test}[{model}]", ("LM-01",), f"port-{model}", list(comparisons))


def rows(*records):
    return {line[:22].strip(): " ".join(line[22:].split()) for line in lines(list(records))[1:]}


LOGITS, HIDDEN = compared("prefill logits"), compared("prefill hidden", 1.29)
WRONG = compared("prefill logits", 11235, "off by 2809 times its limit")
SPECTRUM = compared("spectrum")


def test_every_quantity_is_shown_where_all_were_judged_on_the_same_models():
    records = [record(model, LOGITS, HIDDEN, SPECTRUM) for model in ("v10", "v11")]
    assert rows(*records) == {
        "prefill hidden": "port 1.0e-07 1.29 32% 32%",
        "prefill logits": "port 1.0e-07 1.00 25% 25%",
        "spectrum": "port 1.0e-07 1.00 25% 25%",
    }
    assert set(margins(records)["port"]) == {"prefill hidden", "prefill logits", "spectrum"}


def test_a_quantity_that_was_not_judged_on_a_model_has_no_number():
    records = [record("v10", LOGITS, HIDDEN), record("v11", WRONG, SPECTRUM)]
    assert rows(*records) == {
        "prefill hidden": "port not judged on v11",
        "prefill logits": "port 1.0e-07 1.1e+04 2,809 times 2,809 times",
        "spectrum": "port 1.0e-07 1.00 25% 25% on v11",  # of another call
    }
    assert set(margins(records)["port"]) == {"prefill logits", "spectrum"}


def test_a_quantity_that_a_test_left_out_has_no_number():
    records = [record("v10", LOGITS, HIDDEN), record("v10", WRONG, test="b")]
    assert rows(*records)["prefill hidden"] == "port not judged by every test of prefill logits"
    records[1].comparisons.append(HIDDEN)
    assert rows(*records)["prefill hidden"] == "port 1.0e-07 1.29 32% 32%"


@pytest.mark.parametrize("fault", ["dtype float64, wanted float32", "1 element is not finite"])
def test_an_output_without_a_size_has_no_number(fault):
    unmeasured = compared("prefill logits", 0.0, fault)
    records = [record("v10", unmeasured, HIDDEN), record("v11", LOGITS, HIDDEN)]
    assert rows(*records)["prefill logits"].startswith("port not measured: ")
    table = {name: vars(margin) for name, margin in margins(records)["port"].items()}
    assert "Infinity" not in json.dumps(table, allow_nan=False)
    assert set(table) == {"prefill hidden"}


def test_a_call_that_is_judged_on_some_models_only_names_them():
    long = [compared("long 8-256 logits"), compared("long 8-256 hidden")]
    records = [record("v10", LOGITS, HIDDEN, *long), record("v11", LOGITS, HIDDEN)]
    assert rows(*records)["long 8-256 hidden"] == "port 1.0e-07 1.00 25% 25% on v10"
    assert rows(*records)["prefill hidden"] == "port 1.0e-07 1.29 32% 32%"
    records[1].comparisons.append(long[0])
    assert rows(*records)["long 8-256 hidden"] == "port not judged on v11"


def test_backends_have_rows_of_their_own():
    other = TestRecord("a[v11]", ("LM-01",), "other-v11", [LOGITS])
    records = [record("v10", LOGITS, HIDDEN), other]
    assert set(margins(records)) == {"other", "port"}
    assert set(margins(records)["port"]) == {"prefill hidden", "prefill logits"}
