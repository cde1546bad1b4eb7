"""The examples pass, and the bugs that they can plant are found at their stage and named.

Each example has one bug that CI plants; `-m ""` selects the others and the public packages too.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NEEDS = {"c": ["cc"], "node": ["npm"], "browser": ["npm", "chromium"], "llama_cpp": ["npm"]}
EXAMPLES = {
    "c": (),
    "node": ("LM-01", "LM-02", "CA-01", "DE-01", "SA-22", "IS-01", "SY-22", "AO-1"),
    "browser": ("LM-01", "LM-02", "DE-10", "SA-22"),
    "llama_cpp": ("LM-01", "LM-02", "CA-01"),
}
# Port, bug, requirement, stage, a part of the name of the convention.
BUGS = [
    ("c", "crossing-id-dropped", "SA-22", "sampler", "crosses p is dropped"),
    ("c", "no-penalty", "SA-22", "sampler", "penalty"),
    ("c", "symmetric-window", "IS-26", "ISTFT", "symmetric window"),
    ("c", "no-trim", "IS-01", "ISTFT", ""),
    ("c", "scaled-by-32768", "AO-12", "audio file", "scaled by 32768"),
    ("node", "sum-of-windows", "IS-26", "ISTFT", "sum of windows"),
    ("node", "penalty-per-occurrence", "SA-22", "sampler", "penalty"),
    ("node", "truncation", "AO-12", "audio file", "trunc"),
    ("node", "late-states", "SY-14", "synthesis", ""),
    ("node", "cache-not-passed", "LM-02", "language model", ""),
    ("browser", "positions-from-zero", "LM-02", "language model", ""),
    ("browser", "states-not-transposed", "DE-10", "decoder", ""),
    ("llama_cpp", "half-precision-cache", "LM-02", "language model", ""),
    ("llama_cpp", "position-repeated", "LM-02", "language model", ""),
    ("llama_cpp", "first-output", "LM-01", "language model", ""),
]
IN_CI = {"crossing-id-dropped", "sum-of-windows", "positions-from-zero", "half-precision-cache"}


def marked(port, bug, *expected):
    """A row of the table; CI leaves out those that are marked."""
    return pytest.param(port, bug, *expected, marks=[] if bug in IN_CI else [pytest.mark.slow])


def judge(port, folder, *requirements, bug=""):
    """The exit status and the report of a port's script on some requirements, or on all."""
    if missing := [command for command in NEEDS.get(port, ()) if shutil.which(command) is None]:
        pytest.skip(f"{missing[0]} is not installed")
    options = [f"--requirement={name}" for name in requirements]
    command = [str(HERE / port / "run"), "--time-limit=240", "--report-dir", str(folder), *options]
    environment = {**os.environ, "BUG": bug}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    report = json.loads((folder / "conformance.json").read_text(encoding="utf-8"))
    return result.returncode, report


@pytest.mark.parametrize("port", EXAMPLES)
def test_an_example_conforms(tmp_path, port):
    status, report = judge(port, tmp_path, *EXAMPLES[port])
    assert (status, report["first_failure"]) == (0, None)
    assert report["totals"]["pass"] > 1


@pytest.mark.parametrize(
    ("port", "bug", "requirement", "stage", "named"), [marked(*bug) for bug in BUGS]
)
def test_a_planted_bug_is_found_and_named(tmp_path, port, bug, requirement, stage, named):
    status, report = judge(port, tmp_path, requirement, bug=bug)
    failure = report["first_failure"]
    assert status == 1
    assert (failure["stage"], failure["requirement"]) == (stage, requirement)
    assert named in failure["convention"]


@pytest.mark.slow
@pytest.mark.parametrize("port", ["mlx_audio", "soprano_tts"])
def test_a_public_package_deviates_as_claimed(tmp_path, port):
    """Its environment is installed by the script; the claims are in its deviations.toml."""
    status, report = judge(port, tmp_path)
    assert (status, report["first_failure"]) == (0, None)
    assert report["totals"]["deviation"] > 1
