"""The installed distribution: its packages, its origin, and the oldest versions it admits."""

from __future__ import annotations

import os
import re
import sysconfig
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

import conformance
import soprano

ROOT = Path(__file__).parents[1]
GATES = ("onnx", "openvino", "conformance")  # extras that the gates on the oldest versions install


def test_the_distribution_installs_no_package_but_its_two():
    names = {file.parts[0] for file in distribution("soprano-conformance").files}
    packages = {name for name in names if not name.endswith((".dist-info", ".pth"))}
    assert packages <= {"soprano", "conformance", ".."}  # ".." holds the scripts


@pytest.mark.skipif("TOX_ENV_DIR" not in os.environ, reason="only tox installs the wheel")
def test_tox_tests_the_installed_wheel():
    site = Path(sysconfig.get_path("purelib"))
    for module in (soprano, conformance):
        assert site in Path(module.__file__).parents


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
