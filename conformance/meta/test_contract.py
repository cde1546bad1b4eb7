"""The contract and the suite name the same requirements."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import conformance

CONTRACT = Path(conformance.__file__).parent / "README.md"

LISTING = """
import json, pytest

class Lister:
    def pytest_collection_finish(self, session):
        marks = {
            item.nodeid: [name for mark in item.iter_markers("requirement") for name in mark.args]
            for item in session.items
        }
        print("\\nMARKS " + json.dumps(marks))

pytest.main(["--collect-only", "-q", "--pyargs", "conformance"], plugins=[Lister()])
"""


def written() -> list[str]:
    return re.findall(r"^\| ([A-Z]{2}-\d\d) \|", CONTRACT.read_text("utf-8"), re.M)


def checked() -> dict[str, list[str]]:
    """Every test with the requirements whose numbers it bears, as pytest collects them."""
    result = subprocess.run([sys.executable, "-c", LISTING], capture_output=True, text=True)
    found: dict[str, list[str]] = json.loads(result.stdout.split("\nMARKS ")[1].splitlines()[0])
    return found


def test_each_requirement_is_written_once():
    names = written()
    assert len(names) > 150
    assert sorted(names) == sorted(set(names))


def test_each_requirement_is_checked_and_each_check_is_required():
    tests = checked()
    assert len(tests) > 500
    assert not [node for node, names in tests.items() if not names]
    assert {name for names in tests.values() for name in names} == set(written())
