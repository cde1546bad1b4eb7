"""What GitHub Actions shows of a run: a summary of the step, and annotations."""

from __future__ import annotations

import ast
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conformance.report.documents import Run, upgrade
from conformance.report.merged import merge
from conformance.report.summary import first_failure_of, markdown

_PACKAGE = Path(__file__).parents[1]
_MOST = 10  # annotations of one kind and step that GitHub shows


def publish(document: dict[str, Any]) -> list[str]:
    """Append the summary to the file that GitHub Actions names; the annotations, to be printed."""
    run = Run("run", upgrade(document, "run"))
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            with open(path, "a", encoding="utf-8") as file:
                file.write(markdown([run]))
        except OSError:
            pass  # the verdict does not depend on what is shown of it
    in_actions = os.environ.get("GITHUB_ACTIONS") == "true"
    return list(_annotations(run))[:_MOST] if in_actions else []


def _annotations(run: Run) -> Iterator[str]:
    """One for each failing requirement and backend, in pipeline order."""
    for requirement, column, verdict in merge([run]).red():
        node, message, command = first_failure_of(column, requirement)
        file, line = _port_place(column.backend) or _test_place(node)
        fields = {"file": file, "line": line, "title": f"{requirement} {verdict}: {column.title}"}
        named = ",".join(f"{key}={_escape(str(value), ':,')}" for key, value in fields.items())
        text = _escape(f"{message}\nrepeat with: {command}")
        yield f"::error {named}::{text}"


def _escape(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def _port_place(backend: str) -> tuple[str, int] | None:
    """File and line of a port's factory, or the file of its command, if found in the workspace."""
    if backend.startswith("exec:"):
        words = shlex.split(backend.removeprefix("exec:"))
        found = [path for path in map(Path, words) if path.suffix and path.is_file()]
        return (_shown(found[0]), 1) if found else None
    module, _, name = backend.partition(":")
    for folder in ["", *sys.path]:
        stem = Path(folder, *module.split("."))
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if name and path.is_file() and _within(path):
                return _shown(path), _line(path, name)
    return None


def _test_place(node: str) -> tuple[str, int]:
    """File and line of a test."""
    file, _, name = node.partition("::")
    places = (Path(file), _PACKAGE / file, _PACKAGE.parent / file)
    path = next((place for place in places if place.is_file()), None)
    return (_shown(path), _line(path, name.partition("[")[0])) if path else (file, 1)


def _line(path: Path, name: str) -> int:
    """The line of a module at which a class or function is defined; the first if it is not."""
    try:
        nodes = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return 1
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return next((n.lineno for n in nodes if isinstance(n, kinds) and n.name == name), 1)


def _workspace() -> Path:
    return Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()


def _within(path: Path) -> bool:
    return path.resolve().is_relative_to(_workspace())


def _shown(path: Path) -> str:
    """A path as GitHub expects it: relative to the workspace."""
    return os.path.relpath(path.resolve(), _workspace()) if _within(path) else str(path)
