"""`conformance.json`: the machine-readable report, described by `schema.json`."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from conformance.judging.records import TestRecord
from conformance.report.margins import margins
from conformance.report.verdicts import by_subject, first_failure

SCHEMA_VERSION = 3
_LIBRARIES = ("soprano-conformance", "numpy", "scipy", "onnx", "onnxruntime", "openvino", "torch")


def document(
    records: list[TestRecord], backends: dict[str, Any], own_stages: dict[str, list[str]]
) -> dict[str, Any]:
    """One verdict per requirement and subject, with its evidence."""
    results = by_subject(records)
    verdicts = [entry["verdict"] for result in results.values() for entry in result.values()]
    return {
        "schema_version": SCHEMA_VERSION,
        "environment": environment(),
        "backends": backends,
        "own_stages": own_stages,
        "first_failure": first_failure(records),
        "results": results,
        "margins": {
            backend: {quantity: asdict(margin) for quantity, margin in own.items()}
            for backend, own in margins(records).items()
        },
        "totals": {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))},
    }


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
