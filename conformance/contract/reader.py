"""The contract as data: the rows of `README.md`."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

PATH = Path(__file__).parent / "port.md"
_ROW = re.compile(r"^\| ([A-Z]{2}-\d\d) \|([^|]*)\|([^|]*)\|([^|]*)\|(.*)\|$", re.M)


@dataclass(frozen=True)
class Requirement:
    id: str
    level: str  # "must" or "should"
    needs: str  # a capability that a backend declares, or ""
    limit: str  # "exact", or the section of the contract's limits that gives number and reason
    law: str


def read() -> list[Requirement]:
    """Every row, in the contract's order."""
    rows = _ROW.findall(PATH.read_text(encoding="utf-8"))
    return [Requirement(*(part.strip() for part in row)) for row in rows]


@cache
def requirements() -> dict[str, Requirement]:
    """The requirements by their numbers."""
    return {row.id: row for row in read()}


class _Lister:
    """A pytest plugin that notes every test with the requirements whose numbers it bears."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            marks = item.iter_markers("requirement")
            self.found[item.nodeid] = [name for mark in marks for name in mark.args]


def collect() -> dict[str, list[str]]:
    """Every test of the suite, as pytest collects them, with its requirements."""
    lister = _Lister()
    arguments = ["--collect-only", "-p", "no:cacheprovider", "--pyargs", "conformance"]
    with redirect_stdout(StringIO()) as said:
        status = pytest.main(arguments, plugins=[lister])
    if status:
        raise RuntimeError(f"the suite cannot be collected: {said.getvalue()}")
    return lister.found
