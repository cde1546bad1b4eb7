"""The options of the suite; each has an environment variable `CONFORMANCE_...` of its name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

OPTIONS: dict[str, dict[str, Any]] = {
    "backend": {"action": "append", "metavar": "NAME", "help": "backend to judge (repeatable)"},
    "model": {"action": "append", "metavar": "DIR", "help": "model, bundle, or folder of them"},
    "only-model": {
        "action": "store_const",
        "const": True,
        "help": "not the fixture models in addition to the models named",
    },
    "reference": {"metavar": "DIR", "help": "checkpoint whose float64 values are expected"},
    "precision": {"default": None, "help": "precision class of the model (fp32)"},
    "threads": {"type": int, "help": "threads of the backend's runtime"},
    "requirement": {
        "action": "append",
        "metavar": "ID",
        "help": "requirement id or its beginning (repeatable)",
    },
    "text": {"metavar": "NAME", "help": "judge texts by a profile, such as soprano-tts-0.2.0"},
    "deviations": {"metavar": "FILE", "help": "file with claims of known deviations"},
    "slowdown": {"type": float, "help": "largest ratio to the saved time for --benchmark-compare"},
    "report-dir": {"metavar": "DIR", "help": "where to write conformance.json and junit.xml"},
    "checkout": {"metavar": "DIR", "help": "checkout of the project, for tests of the harness"},
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
    if name == "only_model":
        return text not in ("0", "false", "no")
    if name == "slowdown":
        return float(text)
    return int(text) if name == "threads" else text
