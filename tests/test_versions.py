"""The gates on the oldest versions install the versions that `pyproject.toml` admits."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
GATES = ("onnx", "openvino", "conformance")  # extras that the gates on the oldest versions install


def test_pinned_oldest_versions_are_the_lower_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    admitted = [*project["dependencies"], *(line for name in GATES for line in extras[name])]
    lower = dict(line.split(">=") for line in admitted)
    text = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==(.+)$", text, re.M))
    assert set(pinned) == set(lower)
    for name, version in lower.items():
        parts = version.split(".")
        assert pinned[name].split(".")[: len(parts)] == parts, name
