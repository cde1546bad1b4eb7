"""The contract and the tests name the same requirements, each in its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.contract import reader
from soprano.backends import Capabilities

MOST_WORDS = 40  # a longer law holds two requirements


@pytest.fixture(scope="module")
def checkout(request):
    named = request.config.getoption("conformance_checkout")
    return Path(named).resolve() if named else reader.FOLDER.parents[1]


@pytest.fixture(scope="module")
def tests(checkout):
    """The requirement ids of each test, collected in a process of its own."""
    script = (
        "import json, pathlib, sys; from conformance.contract.reader import collect; "
        "print(json.dumps(collect(pathlib.Path(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", script, str(checkout)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_every_id_is_unique():
    ids = [requirement.id for requirement in reader.parse_contract()]
    assert len(ids) > 200
    assert sorted(ids) == sorted(set(ids))


def test_every_row_of_the_files_is_parsed():
    for scope in reader.SCOPES:
        text = (reader.FOLDER / f"{scope}.md").read_text(encoding="utf-8")
        rows = [line for line in text.splitlines() if line[:2] == "| " and line[4:5] == "-"]
        parsed = [r for r in reader.parse_contract() if r.scope == scope]
        assert len(parsed) == len(rows)


def test_levels_capabilities_and_limits_exist():
    text = (reader.FOLDER / "port.md").read_text(encoding="utf-8")
    section = text.split("\n## Limits\n")[1].split("\n## ")[0]
    limits = {line.split("|")[1].strip() for line in section.splitlines() if line[:1] == "|"}
    for requirement in reader.parse_contract():
        assert requirement.level in ("must", "should"), requirement
        for need in requirement.needs.split():
            assert isinstance(getattr(Capabilities(), need), bool), requirement
        assert requirement.limit in limits, requirement
    assert {r.limit for r in reader.parse_contract()} == limits - {"limit", "---"}


def test_every_law_is_one_sentence():
    for requirement in reader.parse_contract():
        assert requirement.law.endswith("."), requirement
        assert ". " not in requirement.law.replace("`. , ! ? ' -`", ""), requirement
        assert len(requirement.law.split()) <= MOST_WORDS, requirement


def test_a_test_of_a_port_is_a_law_and_a_test_of_the_package_is_not(tests):
    contract = reader.requirements()
    for node, ids in tests.items():
        scope = "port" if node.startswith("laws/") else "package"
        assert {contract[name].scope for name in ids} <= {scope}, node
        assert ids or scope == "package", f"{node} checks no requirement"


def test_every_requirement_has_a_test(tests):
    assert {name for ids in tests.values() for name in ids} == set(reader.requirements())


def test_the_command_prints_every_requirement_with_its_tests(checkout):
    command = [sys.executable, "-m", "conformance", "contract", "--checkout", str(checkout)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    printed: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        if line.startswith("    "):
            printed[next(reversed(printed))].append(line.strip())
        else:
            printed[line.split()[0]] = []
    assert list(printed) == list(reader.requirements())
    assert all(printed.values())
    assert any(test.startswith("test_audio_files.py::") for test in printed["AO-10"])
