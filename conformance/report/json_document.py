"""`conformance.json`: the machine-readable report, described by `schema.json`."""

from __future__ import annotations

import errno
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from conformance.report.evidence import Evidence
from conformance.report.margins import margins
from conformance.report.verdicts import by_subject, first_failure

SCHEMA_VERSION = 4
_LIBRARIES = ("soprano-conformance", "numpy", "scipy", "onnx", "onnxruntime", "openvino", "torch")


def document(evidence: Evidence) -> dict[str, Any]:
    """One verdict per requirement and subject, with its evidence."""
    records = evidence.judged()
    results = by_subject(records)
    verdicts = [entry["verdict"] for result in results.values() for entry in result.values()]
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": environment(),
        "backends": {name: facts.attested for name, facts in evidence.subjects.items()},
        "own_stages": {name: facts.stages for name, facts in evidence.subjects.items()},
        "files": {name: facts.files for name, facts in evidence.subjects.items()},
        "not_covered": evidence.not_covered,
        "first_failure": first_failure(records),
        "results": results,
        "margins": {
            backend: {quantity: asdict(margin) for quantity, margin in own.items()}
            for backend, own in margins(records).items()
        },
        "totals": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
    }


def prepare_folder(folder: Path) -> None:
    """Make the folder of a report, without the report of an earlier run.

    Raises:
        OSError: the report cannot be written there.
    """
    if folder.is_file():
        raise NotADirectoryError(errno.ENOTDIR, "it is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("conformance.json", "junit.xml"):
        (folder / name).touch()
        (folder / name).unlink()


def write(evidence: Evidence) -> None:
    """Replace the report in its folder."""
    text = json.dumps(document(evidence), indent=2, allow_nan=False) + "\n"
    partial = Path(evidence.folder) / "conformance.json.part"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, partial.with_suffix(""))


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
