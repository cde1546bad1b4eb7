"""The contract as data: the requirements of `port.md` and `package.md`, and the tests of each."""

from __future__ import annotations

import re
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
# The families of requirements, by the first letters of their ids, in the order of the pipeline.
STAGES = {
    "TX": "text",
    "TK": "tokenizer",
    "SA": "sampler",
    "CK": "checkpoint",
    "EX": "export",
    "AT": "attestation",
    "LM": "language model",
    "CA": "KV cache",
    "GE": "generation loop",
    "DE": "decoder",
    "IS": "ISTFT",
    "SY": "synthesis",
    "PR": "precision class",
    "ST": "streaming",
    "BA": "batching",
    "IN": "interleaving",
    "AO": "audio file",
}
SCOPES = ("port", "package")  # who can fail a requirement; each has a file of this name
_ROW = re.compile(r"^\| ([A-Z]{2}-\d\d) \|([^|]*)\|([^|]*)\|([^|]*)\|(.*)\|$", re.M)


@dataclass(frozen=True)
class Requirement:
    id: str
    level: str  # "must" or "should"
    needs: str  # capabilities that a backend declares, separated by spaces, or ""
    limit: str  # "exact", or an entry of the table of limits in port.md
    law: str
    scope: str  # "port" or "package"


def parse_contract() -> list[Requirement]:
    """All requirements, those of ports first, in the order of the files."""
    found = []
    for scope in SCOPES:
        rows = _ROW.findall((FOLDER / f"{scope}.md").read_text(encoding="utf-8"))
        found += [Requirement(*(cell.strip() for cell in row), scope) for row in rows]
    return found


@cache
def requirements() -> dict[str, Requirement]:
    """The requirements by id."""
    return {requirement.id: requirement for requirement in parse_contract()}


# Requirements that use what later ones judge by itself: AT-04 runs both networks, and CA-05 and
# CA-06 step batches.
LATER = {"AT-04": "DE-99", "CA-05": "BA-01, CA-05", "CA-06": "BA-01, CA-06"}


def pipeline_order(name: str) -> tuple[int, str]:
    """Sorts requirement ids by stage; unknown families come last."""
    place = LATER.get(name, name)
    position = list(STAGES).index(place[:2]) if place[:2] in STAGES else len(STAGES)
    return position, place


def package_tests(checkout: Path | None = None) -> Path | None:
    """The folder with this package's own tests, which only a checkout contains."""
    root = checkout or FOLDER.parents[1]
    return root / "tests" if (root / "pyproject.toml").is_file() else None


class _Collector:
    """A pytest plugin that records the requirement ids of every collected test."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            # pytest's own ids depend on the folder it was started in.
            node = f"{_place(item.path)}::{item.name}"
            marks = item.iter_markers("requirement")
            self.tests[node] = [name for mark in marks for name in mark.args]


def _place(path: Path) -> str:
    """A test file's path from the folder of the laws, or of this package's tests, on."""
    parts = path.parts
    start = max(index for index, part in enumerate(parts) if part in ("laws", "tests"))
    return "/".join(parts[start:])


def collect(checkout: Path | None = None) -> dict[str, list[str]]:
    """The requirement ids of each test: laws and, where a checkout is found, package tests.

    Tests are named "laws/test_file.py::test_name" and "tests/test_file.py::test_name".
    """
    collector = _Collector()
    folder = package_tests(checkout)
    arguments = ["--collect-only", "-p", "no:cacheprovider", "--pyargs", "conformance.laws"]
    with redirect_stdout(StringIO()) as output:
        status = pytest.main(arguments + ([str(folder)] if folder else []), plugins=[collector])
    if status:
        raise RuntimeError(f"the tests cannot be collected: {output.getvalue()}")
    return collector.tests
