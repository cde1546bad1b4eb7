"""The oldest versions that are promised are the ones that the gates are run on."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GATES = ("onnx", "openvino", "conformance")  # extras that the gates on the oldest versions install


@pytest.fixture
def checkout(request: pytest.FixtureRequest) -> Path:
    return Path(request.config.getoption("conformance_checkout") or ROOT)


def test_the_oldest_versions_are_those_that_are_admitted(checkout):
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    admitted = [*project["dependencies"], *(line for name in GATES for line in extras[name])]
    lower = dict(line.split(">=") for line in admitted)
    text = (checkout / "constraints-oldest.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w-]+)==(.+)$", text, re.M))
    assert set(pinned) == set(lower)
    for name, version in lower.items():
        parts = pinned[name].split(".")
        wanted = version.split(".")
        assert parts[: len(wanted)] == wanted, name
