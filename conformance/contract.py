"""The contract as data: the rows of `README.md`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = Path(__file__).parent / "README.md"
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
