"""`conformance.json`: the machine-readable report, described by `schema.json`."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import tempfile
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from conformance.report.details import details
from conformance.report.evidence import Evidence
from conformance.report.levels import levels
from conformance.report.margins import margins
from conformance.report.verdicts import RED, UNJUDGED, by_subject, first_failure

SCHEMA_VERSION = 5
CONFORMS, FAILS, NO_VERDICT = "conforms", "does not conform", "no verdict"
BADGE = "badge.json"
_FILES = ("conformance.json", "junit.xml")
_LIBRARIES = ("soprano-conformance", "numpy", "scipy", "onnx", "onnxruntime", "openvino", "torch")


def document(evidence: Evidence) -> dict[str, Any]:
    """One verdict per requirement and subject, with its evidence."""
    records = evidence.judged()
    results = by_subject(records)
    verdicts = [entry["verdict"] for result in results.values() for entry in result.values()]
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": _verdict(evidence, verdicts),
        "environment": environment(),
        "backends": {name: facts.attested for name, facts in evidence.subjects.items()},
        "own_stages": {name: facts.stages for name, facts in evidence.subjects.items()},
        "files": {name: facts.files for name, facts in evidence.subjects.items()},
        "not_covered": evidence.not_covered,
        "first_failure": first_failure(records),
        "levels": levels(results, evidence.subjects),
        "results": results,
        "margins": {
            backend: {quantity: asdict(margin) for quantity, margin in own.items()}
            for backend, own in margins(records).items()
        },
        **details(records),
        "totals": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
    }


def _verdict(evidence: Evidence, verdicts: list[str]) -> str:
    """The verdict of the whole run."""
    if not evidence.complete:
        return NO_VERDICT
    if any(verdict in RED for verdict in verdicts):
        return FAILS
    return CONFORMS if set(verdicts) - set(UNJUDGED) else "nothing was judged"


def prepare_folder(folder: Path) -> None:
    """Make the folder of a report, with a report that has no verdict.

    Raises:
        OSError: the report cannot be written there.
    """
    if folder.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        _remove(folder / name)
        (folder / name).touch()
        (folder / name).unlink()
    write(Evidence(str(folder)))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def write(evidence: Evidence) -> None:
    """Replace the report in its folder, and its badge."""
    found = document(evidence)
    _replace(Path(evidence.folder) / BADGE, badge(found))
    _replace(Path(evidence.folder) / _FILES[0], found)


def _replace(target: Path, content: dict[str, Any]) -> None:
    """Write JSON to a file, which is never incomplete."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    number, partial = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(partial, 0o644)
        if target.is_dir():
            _remove(target)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)


def badge(document: dict[str, Any]) -> dict[str, Any]:
    """The document of an endpoint badge (https://shields.io/badges/endpoint-badge)."""
    verdict, passed = document["verdict"], document["totals"].get("pass", 0)
    reached = [found["level"] for found in document["levels"].values()]
    level = f" ({min(reached)})" if reached and all(reached) else ""  # the lowest of all backends
    message = f"{verdict}{level}, {passed} passed" if verdict == CONFORMS else f"{verdict}{level}"
    colour = {CONFORMS: "brightgreen", FAILS: "red"}.get(verdict, "lightgrey")
    return {"schemaVersion": 1, "label": "conformance", "message": message, "color": colour}


def verdict_of(folder: Path) -> str:
    """The verdict of the report in a folder; "" if there is no valid report."""
    try:
        return str(json.loads((folder / _FILES[0]).read_text("utf-8"))["verdict"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def environment() -> dict[str, str]:
    """The versions of the run's system and libraries."""
    versions = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
    }
    for name in _LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
