"""The compatibility table: its page is that of its data, and its data is that of a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.report.port_table import summary, table

ROOT = Path(__file__).parents[1]
DATA = sorted((ROOT / "docs" / "ports").glob("*.json"))


def test_the_page_shows_the_committed_data():
    assert DATA
    summaries = [json.loads(path.read_text(encoding="utf-8")) for path in DATA]
    assert (ROOT / "docs" / "ports.md").read_text(encoding="utf-8") == table(summaries)


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.stem)
def test_every_example_has_its_data(path):
    assert (ROOT / "examples" / "ports" / path.stem).is_dir()


def entry(verdict, *failures):
    return {"verdict": verdict, "failures": list(failures)}


def test_a_summary_counts_by_family_and_names_faults():
    named = "t::x: fail: you follow the convention 'a symmetric window' (worst 3)"
    document = {
        "results": {
            "exec:port-v10": {"LM-01": entry("pass"), "IS-01": entry("fail", named)},
            "exec:port-v11": {"LM-01": entry("fail", "t::y: fail: off"), "SA-01": entry("pass")},
            "exec:port": {"TX-01": entry("not-applicable"), "AO-11": entry("deviation")},
        },
        "backends": {"exec:port-v10": {"version": {"value": "0.3"}}, "exec:port-v11": {}},
        "levels": {"exec:port": {"level": "L1", "reason": "failed: IS-01", "offered": ["ISTFT"]}},
        "environment": {"soprano-conformance": "0.1.0"},
    }
    kept = summary(document, "a port", "2030-01-31")
    assert kept["families"]["LM"] == {"fail": 1}
    assert (kept["faults"], kept["models"]) == (["a symmetric window"], ["v10", "v11"])
    page = table([kept])
    assert "| a port | 0.3 | L1 | 1 of 1 | 0 of 1 | 0 of 1 | 1 of 1, 1 claimed | v10, v11 |" in page
    assert "- Named fault: a symmetric window." in page
    assert "- To the next level: failed: IS-01." in page
