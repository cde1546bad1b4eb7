"""Measurements in a process of their own, which runs a port."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from conformance.ports.process import LIMITS, PortProcessError


def result_of(module: str, *arguments: str) -> Any:
    """What `python -m module` hands to `hand_over`.

    Raises:
        PortProcessError: it ended without a result, or not in time.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS.test)
        if done.returncode == 0:
            return json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise PortProcessError(f"no answer of {module} within {LIMITS.test:.3g} s") from None
    except ValueError:
        raise PortProcessError(f"{module} ended without a result") from None
    raise PortProcessError(f"{' '.join(command)}: {done.stderr}")


def open_channel() -> int:
    """Take standard output for the result: what a port prints is a diagnostic."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return channel


def hand_over(channel: int, result: Any) -> None:
    """Write the result and end, without the cleanup of a runtime, which is not judged."""
    with os.fdopen(channel, "w", encoding="utf-8") as file:
        file.write(json.dumps(result))
    os._exit(0)
