"""The suite's options, each with an environment variable of the same name."""

from __future__ import annotations

import os
from typing import Any

import pytest

OPTIONS: dict[str, dict[str, Any]] = {
    "backend": {"action": "append", "metavar": "NAME", "help": "backend to judge (repeatable)"},
    "model": {"action": "append", "metavar": "DIR", "help": "model, bundle, or folder of them"},
    "reference": {"metavar": "DIR", "help": "checkpoint whose float64 values are expected"},
    "precision": {"default": None, "help": "precision class to open the model in (fp32)"},
    "threads": {"type": int, "help": "threads of the backend's runtime"},
    "requirement": {"action": "append", "metavar": "ID", "help": "only these (prefix allowed)"},
    "deviations": {"metavar": "FILE", "help": "claims of known deviations, beside the suite's own"},
    "slowdown": {"type": float, "help": "times a saved run's time that --benchmark-compare allows"},
    "report-dir": {"metavar": "DIR", "help": "where to write conformance.json and junit.xml"},
    "checkout": {"metavar": "DIR", "help": "for the tests of the tests: the project's checkout"},
}


def option(config: pytest.Config, name: str) -> Any:
    """An option, else its environment variable (several values are separated by commas)."""
    value = config.getoption(f"conformance_{name}")
    if value is not None:
        return value
    text = os.environ.get(f"CONFORMANCE_{name.upper()}")
    if not text:
        return None
    if name in ("backend", "model", "requirement"):
        return text.split(",")
    if name == "slowdown":
        return float(text)
    return int(text) if name == "threads" else text
