"""Reads what a report merges: runs of any schema version, saved benchmarks, kill matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from conformance.contract.reader import requirements
from conformance.documents import DocumentError, read_document, require_form
from conformance.report.json_document import SCHEMA_VERSION
from conformance.report.verdicts import RED
from soprano.errors import shown

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
_FAILURE = dict.fromkeys(
    ("stage", "requirement", "subject", "verdict", "message", "convention", "repeat"), ""
)
_DOCUMENT: Json = {
    "own_stages": {}, "files": {}, "not_covered": {}, "first_failure": None, "levels": {},
    "margins": {}, "errors": {}, "audio": {}, "deviations": [],
}  # fmt: skip


_COUNT, _SIZE, _TEXT = {"type": "integer"}, {"type": "number"}, {"type": "string"}


def _object(*required: str, **properties: Json) -> Json:
    return {"type": "object", "required": [*required, *properties], "properties": properties}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_STATISTICS = {name: {**_SIZE, "minimum": 0} for name in ("min", "median", "q1", "q3")}
_TIMES = _object(**_STATISTICS, rounds={**_COUNT, "minimum": 1})
_BENCHMARK = _object(name=_TEXT, stats=_TIMES)
_BENCHMARK["properties"]["extra_info"] = {
    "type": "object",
    "properties": {"rtf": _SIZE, "audio_seconds": {**_SIZE, "minimum": 1e-6}, "backend": _TEXT},
}
_BENCHMARKS: Json = _object(benchmarks=_list(_BENCHMARK))
_BENCHMARKS["properties"]["commit_info"] = {"type": "object"}
_MATRIX = _object(
    results=_list(
        _object(
            **{name: _TEXT for name in ("id", "backend", "verdict", "blamed", "story")},
            requirements=_list(_TEXT),
        )
    )
)
_NODE = _object(node=_TEXT, ratio={"type": "float"})
_NETWORK = _object(trace=_list(_NODE), rows=_list(_NODE), first={"type": ["string", "null"]})
# What every version states, and is read to make the current form of it.
_SIZE_OR_NULL = {"type": ["number", "null"]}
_COMPARED = {
    "type": ["object", "null"],
    "properties": {name: _SIZE_OR_NULL for pair in _SIZES for name in pair},
}
_ENTRIES = {"type": "object", "additionalProperties": _object(verdict=_TEXT, nearest=_COMPARED)}
_EARLIER = _object(
    "backends",
    environment={"type": "object"},
    results={"type": "object", "additionalProperties": _ENTRIES},
)
_BISECTION = _object(networks=_list(_NETWORK))


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
        content = read_document(path)
        if "results" in content and "schema_version" in content:
            inputs.runs.append(Run(name, _run(content, str(path))))
        elif "benchmarks" in content:
            require_form(content, _BENCHMARKS, str(path))
            inputs.benchmarks.append(content)
        elif "results" in content:
            require_form(content, _MATRIX, str(path))
            inputs.matrices.append(content)
        elif "networks" in content:
            require_form(content, _BISECTION, str(path))
            inputs.bisections.append(content)
        else:
            known = "a conformance.json, a saved benchmark, a faults.json or a bisection"
            raise DocumentError(f"{path}: not {known}")
    if not inputs.runs:
        raise DocumentError("no conformance.json is given: there is no run to report")
    return inputs


def short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Files with their own names, or with the parts of their paths that tell them apart."""
    unique = list(dict.fromkeys(path.absolute() for path in paths))
    names = {path: path.parent.name if path.stem == "conformance" else path.stem for path in unique}
    alike = [path for path in unique if list(names.values()).count(names[path]) > 1]
    parts = [path.with_suffix("").parts for path in alike]
    start, end = _common(parts), _common([own[::-1] for own in parts])
    return names | {
        path: "/".join(own[start : len(own) - end]) or names[path]
        for path, own in zip(alike, parts, strict=True)
    }


def _common(paths: Sequence[Sequence[str]]) -> int:
    """The number of first parts that all paths share."""
    return next((n for n, own in enumerate(zip(*paths)) if len(set(own)) > 1), 0)  # noqa: B905


def upgrade(content: Json, name: str) -> Json:
    """A document of an earlier schema version in the form of the current one.

    What earlier versions do not state is empty.

    Raises:
        DocumentError: the version is later than the current one.
    """
    version = content["schema_version"]
    if type(version) is not int or version not in range(1, SCHEMA_VERSION + 1):
        raise DocumentError(
            f"{name}: schema version {shown(version)}; this version reads 1 to {SCHEMA_VERSION}"
        )
    results = {
        subject: {requirement: _entry(requirement, entry) for requirement, entry in own.items()}
        for subject, own in content["results"].items()
    }
    red = any(entry["verdict"] in RED for own in results.values() for entry in own.values())
    verdict = {"verdict": "does not conform" if red else "conforms"}
    first = content.get("first_failure")
    failure = {"first_failure": {**_FAILURE, **first} if isinstance(first, dict) else None}
    return {**_DOCUMENT, **verdict, **content, **failure, "results": results}


def _run(content: Json, name: str) -> Json:
    """A document of a run, of the form that its version states."""
    require_form(content, _EARLIER, name)
    document = upgrade(content, name)
    # What an earlier version does not state may be missing, and its numbers had other ranges.
    strict = content["schema_version"] == SCHEMA_VERSION
    own = {**document, "schema_version": SCHEMA_VERSION}
    require_form(own, _schema(), name, strict)
    return document


@cache
def _schema() -> Json:
    return read_document(Path(__file__).with_name("schema.json"))


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
    pairs = [(nearest.get(name), nearest[limit]) for name, limit in _SIZES if nearest.get(limit)]
    used = max((size / limit for size, limit in pairs if size is not None), default=None)
    return {**_NEAREST, "used": nearest.get("share", used), **nearest}
