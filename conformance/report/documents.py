"""Reads what a report merges: runs of any schema version, saved benchmarks, kill matrices."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.contract.reader import requirements
from conformance.report.json_document import SCHEMA_VERSION
from conformance.report.verdicts import RED

Json = dict[str, Any]

_ENTRY: Json = {
    "not_run": 0,
    "nodes": [],
    "comparisons": 0,
    "decisions": 0,
    "notes": [],
    "commands": {},
}
_NEAREST: Json = {"row": 0.0, "row_limit": 0.0, "floor": 0.0, "place": ""}
_SIZES = (("worst", "limit"), ("rms", "rms_limit"))
_DOCUMENT: Json = {
    "own_stages": {}, "files": {}, "not_covered": {}, "first_failure": None, "levels": {},
    "margins": {}, "errors": {}, "audio": {}, "deviations": [],
}  # fmt: skip


class DocumentError(ValueError):
    """A file is not a document that a report can show."""


@dataclass(frozen=True)
class Run:
    """A document of the current schema version, and the name of its file."""

    name: str
    document: Json


@dataclass
class Inputs:
    """The files of a report by kind."""

    runs: list[Run] = field(default_factory=list)
    benchmarks: list[Json] = field(default_factory=list)  # of pytest-benchmark
    matrices: list[Json] = field(default_factory=list)  # kill matrices
    bisections: list[Json] = field(default_factory=list)


def read_inputs(paths: Sequence[Path]) -> Inputs:
    """Read files in any order; a folder stands for its `conformance.json`.

    Raises:
        DocumentError: a file cannot be read, or is of no known kind.
    """
    inputs = Inputs()
    names = short_names([p / "conformance.json" if p.is_dir() else p for p in paths])
    for path, name in names.items():
        content = _load(path)
        if "results" in content and "schema_version" in content:
            inputs.runs.append(Run(name, upgrade(content, str(path))))
        elif "benchmarks" in content:
            inputs.benchmarks.append(content)
        elif "results" in content:
            inputs.matrices.append(content)
        elif "networks" in content:
            inputs.bisections.append(content)
        else:
            known = "a conformance.json, a saved benchmark, a faults.json or a bisection"
            raise DocumentError(f"{path}: not {known}")
    if not inputs.runs:
        raise DocumentError("no conformance.json is given: there is no run to report")
    return inputs


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Files with the shortest endings of their paths that tell them apart."""
    unique = list(dict.fromkeys(path.absolute() for path in paths))
    names = {path: path.parent.name if path.stem == "conformance" else path.stem for path in unique}
    alike = [path for path in unique if list(names.values()).count(names[path]) > 1]
    return names | {path: "/".join(path.with_suffix("").parts[-3:]) for path in alike}


def _load(path: Path) -> Json:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DocumentError(f"{path}: {error}") from None
    if not isinstance(content, dict):
        raise DocumentError(f"{path}: not a JSON object")
    return content


def upgrade(content: Json, name: str) -> Json:
    """A document of an earlier schema version in the form of the current one.

    What earlier versions do not state is empty.

    Raises:
        DocumentError: the version is later than the current one.
    """
    version = content["schema_version"]
    if version not in range(1, SCHEMA_VERSION + 1):
        raise DocumentError(
            f"{name}: schema version {version!r}; this version reads 1 to {SCHEMA_VERSION}"
        )
    results = {
        subject: {requirement: _entry(requirement, entry) for requirement, entry in own.items()}
        for subject, own in content["results"].items()
    }
    red = any(entry["verdict"] in RED for own in results.values() for entry in own.values())
    verdict = {"verdict": "does not conform" if red else "conforms"}
    return {**_DOCUMENT, **verdict, **content, "results": results}


def _entry(name: str, entry: Json) -> Json:
    known = requirements().get(name)
    contract = {"level": known.level if known else "must", "law": known.law if known else ""}
    return {
        **_ENTRY,
        **contract,
        **entry,
        "nearest": entry["nearest"] and _nearest(entry["nearest"]),
    }


def _nearest(nearest: Json) -> Json:
    pairs = [(nearest[name], nearest[limit]) for name, limit in _SIZES if nearest.get(limit)]
    used = max((size / limit for size, limit in pairs if size is not None), default=None)
    return {**_NEAREST, "used": nearest.get("share", used), **nearest}
