"""The options of the suite; each has an environment variable `CONFORMANCE_...` of its name."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

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
    "in-process": {
        "action": "store_const",
        "const": True,
        "help": "Python ports in the process of the suite, for a debugger",
    },
    "time-limit": {
        "type": float,
        "metavar": "S",
        "help": "seconds for one request of a port (60); twice for opening, ten times for a test",
    },
    "memory-limit": {"type": float, "metavar": "MIB", "help": "resident memory of a port"},
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


_FROZEN: WeakKeyDictionary[pytest.Config, dict[str, Any]] = WeakKeyDictionary()


class OptionError(ValueError):
    """An environment variable or an option has a value of a wrong kind."""


def freeze(config: pytest.Config) -> None:
    """Read all options: what a port does to the environment later has no effect.

    Raises:
        OptionError: a value is of a wrong kind.
    """
    names = [name.replace("-", "_") for name in OPTIONS]
    _FROZEN[config] = {name: _read(config, name) for name in names}


def option(config: pytest.Config, name: str) -> Any:
    """An option, else its environment variable (several values are separated by commas)."""
    if config not in _FROZEN:
        freeze(config)
    return _FROZEN[config][name]


def _read(config: pytest.Config, name: str) -> Any:
    value, source = config.getoption(f"conformance_{name}"), f"--{name.replace('_', '-')}"
    if value is None:
        source = f"CONFORMANCE_{name.upper()}"
        value = _parsed(name, source, os.environ.get(source))
    if name in _NUMBERS and value is not None and not 0 < value < math.inf:
        raise OptionError(f"{source} must be a positive number, got {value}")
    return value


_NUMBERS = ("memory_limit", "slowdown", "threads", "time_limit")


def _parsed(name: str, source: str, text: str | None) -> Any:
    """The value of an environment variable."""
    if not text:
        return None
    if name in ("backend", "model", "requirement"):
        return text.split(",")
    if name in ("only_model", "in_process"):
        return text not in ("0", "false", "no")
    if name not in _NUMBERS:
        return text
    try:
        return int(text) if name == "threads" else float(text)
    except ValueError:
        raise OptionError(f"{source} must be a number, got {text!r}") from None
