"""The examples pass, and the bug that each of them can plant is found at its stage and named."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDS = {"c": ["cc"], "node": ["npm"], "browser": ["npm", "chromium"], "llama_cpp": ["npm"]}


def judge(port, folder, *requirements, bug=""):
    """The exit status and the report of a port's script on some requirements, or on all."""
    if missing := [command for command in NEEDS[port] if shutil.which(command) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    options = [f"--requirement={name}" for name in requirements]
    command = [str(HERE / port / "run"), "--time-limit=240", "--report-dir", str(folder), *options]
    environment = {**os.environ, "BUG": bug}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    report = json.loads((folder / "conformance.json").read_text(encoding="utf-8"))
    return result.returncode, report


@pytest.mark.parametrize(
    ("port", "requirements"),
    [
        ("c", ()),
        ("node", ("LM-0", "CA-01", "DE-0", "SA", "IS", "SY-22", "AO")),
        ("browser", ("LM-01", "LM-02", "DE-10", "DE-11", "SA-22")),
        ("llama_cpp", ("LM-0", "CA-01")),
    ],
)
def test_an_example_conforms(tmp_path, port, requirements):
    status, report = judge(port, tmp_path, *requirements)
    assert (status, report["first_failure"]) == (0, None)
    assert report["totals"]["pass"] > 1


@pytest.mark.parametrize(
    ("port", "bug", "requirement", "stage", "named"),
    [
        ("c", "crossing-id-dropped", "SA-22", "sampler", "crosses p is dropped"),
        ("c", "no-penalty", "SA-22", "sampler", "penalty"),
        ("c", "symmetric-window", "IS-26", "ISTFT", "symmetric window"),
        ("c", "no-trim", "IS-01", "ISTFT", ""),
        ("c", "scaled-by-32768", "AO-12", "audio file", "scaled by 32768"),
        ("node", "penalty-per-occurrence", "SA-22", "sampler", "penalty"),
        ("node", "sum-of-windows", "IS-26", "ISTFT", "sum of windows"),
        ("node", "truncation", "AO-12", "audio file", "trunc"),
        ("node", "late-states", "SY-14", "synthesis", ""),
        ("node", "cache-not-passed", "LM-02", "language model", ""),
        ("browser", "positions-from-zero", "LM-02", "language model", ""),
        ("browser", "states-not-transposed", "DE-10", "decoder", ""),
        ("llama_cpp", "half-precision-cache", "LM-02", "language model", ""),
        ("llama_cpp", "position-repeated", "LM-02", "language model", ""),
        ("llama_cpp", "first-output", "LM-01", "language model", ""),
    ],
)
def test_a_planted_bug_is_found_and_named(tmp_path, port, bug, requirement, stage, named):
    status, report = judge(port, tmp_path, requirement, bug=bug)
    failure = report["first_failure"]
    assert status == 1
    assert (failure["stage"], failure["requirement"]) == (stage, requirement)
    assert named in failure["convention"]
