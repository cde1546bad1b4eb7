"""What the README tells a reader to type works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import soprano

# The README and the example do not travel in the wheel: tox names the checkout.
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkout(request: pytest.FixtureRequest) -> Path:
    root = Path(request.config.getoption("conformance_checkout") or ROOT).resolve()
    assert (root / "README.md").is_file(), "name the checkout with --checkout"
    return root


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    """A command in another folder, with the package that is under test."""
    words = [str(part) for part in command]
    environment = {**os.environ, "PYTHONPATH": str(Path(soprano.__file__).parents[1])}
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment)


def test_the_ten_lines_of_python_run(checkout, tmp_path):
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(from soprano import.*?)```", readme, re.S)
    assert block
    script = tmp_path / "ten_lines.py"
    script.write_text(block[1], encoding="utf-8")
    result = run(tmp_path, sys.executable, script)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "hello.wav").stat().st_size > 44
    assert len(result.stdout.splitlines()) > 3


def test_the_example_runs(checkout, tmp_path):
    example = checkout / "examples" / "speak.py"
    result = run(tmp_path, sys.executable, example, "Hello there.", "out.wav")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.wav").stat().st_size > 44
    assert "s of sound" in result.stdout


def test_the_files_it_links_to_exist(checkout):
    readme = (checkout / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert links
    for link in links:
        assert (checkout / link).exists(), link
    for name in re.findall(r"`(soprano/[\w/.]+|conformance/[\w/.]+|fixtures/[\w/.]+)`", readme):
        assert (checkout / name).exists(), name


@pytest.mark.parametrize(
    ("statement", "times"),
    [("import soprano", 2), ("import soprano; soprano.normalize('42nd')", 3)],
)
def test_little_is_imported_for_a_first_text(tmp_path, statement, times):
    """Interleaved with NumPy's import, so that a noisy machine slows both; the best of each."""
    code = "import time; s = time.perf_counter(); {}; print(time.perf_counter() - s)"
    seconds: dict[str, list[float]] = {"import numpy": [], statement: []}
    for _ in range(15):
        for each, found in seconds.items():
            found.append(float(run(tmp_path, sys.executable, "-c", code.format(each)).stdout))
    assert min(seconds[statement]) <= times * min(seconds["import numpy"])
