"""The contract and the suite name the same requirements."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import conformance

ROOT = Path(conformance.__file__).parent


def written() -> list[str]:
    rows = re.findall(
        r"^\| ([A-Z]{2}-\d\d) \|(.*)\|$", (ROOT / "README.md").read_text("utf-8"), re.M
    )
    return [name for name, _ in rows]


def checked() -> dict[str, list[str]]:
    """The tests that bear each requirement's number."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.glob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test_"):
                continue
            names = [name for mark in node.decorator_list for name in marked(mark)]
            assert names, f"{path.name}: {node.name} checks no requirement"
            for name in names:
                found.setdefault(name, []).append(node.name)
    return found


def marked(decorator: ast.expr) -> list[str]:
    text = ast.unparse(decorator)
    if not text.startswith("pytest.mark.requirement("):
        return []
    return [ast.literal_eval(argument) for argument in decorator.args]  # type: ignore[attr-defined]


def test_each_requirement_is_written_once():
    names = written()
    assert len(names) > 40
    assert sorted(names) == sorted(set(names))


def test_each_requirement_is_checked_and_each_check_is_required():
    assert sorted(checked()) == sorted(written())
