"""Claims of known deviations, each with an owner, a reason, a bound and an expiry date.

A claim is strict: the run fails if it has expired or if no failure needs it any more.
"""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from conformance.contract.reader import requirements
from conformance.judging.compare import Comparison
from conformance.ports.process import PortError
from soprano.errors import one_line
from soprano.regular_files import read_regular, reason

DEFAULT = Path(__file__).parent / "deviations.toml"
EXACT = "exact"
_MOST = 1 << 20  # bytes of a file of claims


class DeviationError(ValueError):
    """A file of claims cannot be read, or a claim is incomplete; one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


@dataclass(frozen=True)
class Deviation:
    """One claim; `subject` is a pattern of "backend-model", such as "onnx_cpu-*"."""

    requirement: str
    subject: str
    owner: str
    reason: str
    expires: date
    bound: float | str  # how many times its limit an error may be, or "exact" if it has no limit

    def applies(self, requirements: tuple[str, ...], subject: str) -> bool:
        return self.requirement in requirements and fnmatchcase(subject, self.subject)

    def covers(self, comparison: Comparison) -> bool:
        """Whether a failed comparison stays within the bound."""
        if isinstance(self.bound, str):
            return comparison.limit == 0 or comparison.worst == 0  # a failure without a size
        return comparison.used() <= self.bound

    def covers_error(self, error: BaseException) -> bool:
        """Whether the claim covers an exception that the port has raised."""
        return self.bound == EXACT and isinstance(error, PortError)

    def __str__(self) -> str:
        return f"{self.requirement} on {self.subject} ({self.owner}: {self.reason})"


def load_deviations(path: Path) -> list[Deviation]:
    """The claims of a file.

    Raises:
        DeviationError: the file cannot be read, or a claim has a missing or unknown field.
    """
    try:
        document = tomllib.loads(read_regular(path, _MOST).decode())
    except OSError as error:
        raise DeviationError(f"{path}: {reason(error)}") from None
    except (ValueError, RecursionError) as error:
        raise DeviationError(f"{path} is not TOML in UTF-8: {error}") from None
    if unknown := set(document) - {"deviation"}:
        raise DeviationError(f"{path}: only [[deviation]] is known, not {sorted(unknown)}")
    entries = document.get("deviation", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DeviationError(f"{path}: deviation must be a table of its own for each claim")
    return [
        _parse(path, {**entry, "requirement": requirement})
        for entry in entries
        for requirement in _each(entry.get("requirement"))
    ]


def _each(stated: Any) -> list[Any]:
    """The requirements of a claim: one, or a list of them with the same reason."""
    return stated if isinstance(stated, list) and stated else [stated]


def _parse(path: Path, entry: dict[str, Any]) -> Deviation:
    kinds: dict[str, Any] = dict.fromkeys(("requirement", "subject", "owner", "reason"), str)
    kinds |= {"expires": date, "bound": (int, float, str)}
    entry = {key: value for key, value in entry.items() if value is not None}
    if set(entry) != set(kinds):
        raise DeviationError(f"{path}: a claim needs exactly {', '.join(kinds)}, got {entry}")
    for name, kind in kinds.items():
        wrong = not isinstance(entry[name], kind) or isinstance(entry[name], datetime)
        if wrong or entry[name] == "":
            raise DeviationError(f"{path}: {name} of a claim is {entry[name]!r}")
    bound = entry["bound"]
    if bound != EXACT and not (isinstance(bound, (int, float)) and 1 < bound < math.inf):
        raise DeviationError(f"{path}: bound is a number over 1 or {EXACT!r}, got {bound!r}")
    if entry["requirement"] not in requirements():
        raise DeviationError(f"{path}: the contract has no requirement {entry['requirement']!r}")
    return Deviation(**entry)
