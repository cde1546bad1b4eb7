"""Runs without tests: records with evidence of the kinds that a report shows."""

from __future__ import annotations

from datetime import date

import numpy as np

from conformance.judging.compare import Limit
from conformance.judging.deviations import Deviation
from conformance.judging.judge import Judge
from conformance.judging.records import TestRecord
from conformance.report.evidence import Evidence, Facts
from soprano.config import DecoderConfig

FLOOR = 1e-6
LIMIT = Limit(4 * FLOOR, 40 * FLOOR, floor=FLOOR)
CLAIM = Deviation("TX-15", "port:Port*", "an owner", "a <reason>", date(2999, 1, 1), "exact")
HOSTILE = '</script><img src=x onerror=alert(1)> | `code` & "quotes"'


def evidence(backend: str, decoder: DecoderConfig, level: float = 1.0) -> Evidence:
    """A run of a backend on the model v11 whose samples are `level` times the expected ones."""
    subject = f"{backend}-v11"
    found = Evidence(collected=True, complete=True)
    random = np.random.default_rng(1)
    expected = np.sin(np.arange(8000) / 7) * np.linspace(0, 1, 8000)
    noise = FLOOR * random.standard_normal(expected.size)
    actual = (level * expected + noise).astype(np.float32)
    for number, name in enumerate(("TX-15", "LM-01", "LM-02", "SY-01")):
        repeat = f"python -m pytest --pyargs 'conformance.laws.test_x::test_{number}'"
        record = TestRecord(f"laws/test_x.py::test_{number}", (name,), subject, repeat=repeat)
        judge = Judge(record, decoder)
        try:
            if name == "SY-01":
                judge.waveform("samples", actual, expected, LIMIT)
            elif name == "TX-15":
                record.claims, record.deviated = (CLAIM,), [CLAIM]
                judge.equal("text", "roughly", "rough" + "ly")
            else:
                logits = (expected + noise).astype(np.float32)
                judge.close(
                    f"{'prefill' if name == 'LM-01' else 'step'} logits", logits, expected, LIMIT
                )
            record.verdict = "deviation" if record.deviated else "pass"
        except AssertionError as error:
            record.verdict, record.message = "fail", f"{error}\n{HOSTILE}"
        found.records[record.node] = record
    attested = {"version": {"value": "1.2", "how": "read back"}}
    found.subjects[subject] = Facts(attested, [], {"model.safetensors": "0" * 64})
    return found
