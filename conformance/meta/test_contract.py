"""The contract and the suite name the same requirements."""

from __future__ import annotations

import json
import subprocess
import sys

from conformance.contract import reader as contract
from soprano.backends import Capabilities


def listed() -> dict[str, list[str]]:
    """Every requirement with its tests, as the command prints them."""
    command = [sys.executable, "-m", "conformance", "contract"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        if line.startswith("    "):
            found[next(reversed(found))].append(line.strip())
        else:
            found[line.split()[0]] = []
    return found


def test_each_requirement_is_written_once():
    names = [row.id for row in contract.read()]
    assert len(names) > 150
    assert sorted(names) == sorted(set(names))


def test_each_requirement_names_a_level_a_capability_and_a_limit_that_exist():
    text = contract.PATH.read_text(encoding="utf-8")
    section = text.split("\n## Limits\n")[1].split("\n## ")[0]
    limits = {line.split("|")[1].strip() for line in section.splitlines() if line[:1] == "|"}
    for row in contract.read():
        assert row.level in ("must", "should"), row
        assert all(hasattr(Capabilities(), need) for need in row.needs.split()), row
        assert row.limit in limits, row
        assert row.law.endswith("."), row
    assert {row.limit for row in contract.read()} == limits - {"limit", "---"}


def test_each_requirement_is_checked_and_each_check_is_required():
    script = (
        "import json; from conformance.contract.reader import collect; print(json.dumps(collect()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    tests: dict[str, list[str]] = json.loads(result.stdout.splitlines()[-1])
    assert len(tests) > 500
    assert not [node for node, names in tests.items() if not names]
    assert {name for names in tests.values() for name in names} == set(contract.requirements())


def test_the_contract_is_printed_with_its_tests():
    found = listed()
    assert list(found) == [row.id for row in contract.read()]
    assert all(found.values())
    assert found["AO-10"] == ["test_audio.py::test_what_is_no_sound_is_refused"]
