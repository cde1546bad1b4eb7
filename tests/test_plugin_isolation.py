"""The suite's pytest plugin acts in the runs that request the suite, and in no other."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

import conformance
import soprano

OPTIONS = (
    "--backend", "--model", "--only-model", "--reference", "--precision", "--threads",
    "--requirement", "--deviations", "--slowdown", "--report-dir", "--checkout",
)  # fmt: skip
PYTEST = (
    "pytest", "iniconfig", "packaging", "pluggy", "pygments",
    "pytest-xdist", "execnet", "pytest-benchmark", "py-cpuinfo2",
)  # fmt: skip

CONFTEST = f"""
import sys
import pytest

def pytest_addoption(parser):
    for name in {OPTIONS}:
        parser.addoption(name, default="theirs")

@pytest.fixture
def loaded():
    return {{name for name in sys.modules if name.split(".")[0] in ("conformance", "soprano")}}

@pytest.fixture(params=["one", "two"])
def backend(request):
    return request.param
"""
TESTS = """
from importlib.util import find_spec
import pytest

def bench_helper():
    raise AssertionError("not a test")

def test_libraries_of_the_suite_are_missing():
    assert not any(find_spec(name) for name in ("numpy", "scipy", "hypothesis"))

def test_nothing_of_the_suite_is_imported(loaded):
    assert loaded == {"conformance", "conformance.entry_point"}

def test_options_belong_to_the_project(request, backend):
    assert request.config.getoption("--model") == "theirs"
    assert backend in ("one", "two")
"""


def run(python, folder, *arguments, **environment):
    """A run of pytest in a folder; its exit status and output."""
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", *arguments]
    # A worker of pytest-xdist sets variables that would change the run.
    variables = {name: os.environ[name] for name in os.environ if not name.startswith("PYTEST_")}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=variables | environment
    )
    return result.returncode, result.stdout + result.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with pytest and this distribution without its dependencies."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    scheme = sysconfig.get_preferred_scheme("prefix")
    variables = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", scheme, variables))
    entries = {path for name in PYTEST for path in installed_files(name)}
    entries |= {Path(module.__file__).parent for module in (soprano, conformance)}
    metadata = next(
        path for path in installed_files("soprano-conformance") if path.suffix == ".dist-info"
    )
    for path in entries | {metadata}:
        (site / path.name).symlink_to(path)
    return str(Path(sysconfig.get_path("scripts", scheme, variables)) / "python")


def installed_files(name):
    """The files and folders that a distribution put into site-packages."""
    installed = distribution(name)
    names = {file.parts[0] for file in installed.files} - {"..", "__pycache__"}
    return {Path(installed.locate_file(name)) for name in names}


@pytest.fixture
def project(tmp_path):
    """A project that defines options and fixtures of the same names, and helpers `bench_*`."""
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "test_project.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "bench_project.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [(), ("--benchmark-disable", "-n", "2"), ("--benchmark-only",), ("--pyargs", "test_project")],
    ids=" ".join,
)
def test_an_unrelated_project_runs_as_without_the_plugin(python, project, arguments):
    status, output = run(python, project, *arguments, PYTHONPATH=str(project))
    assert status == 0, output
    assert ("4 skipped" if "--benchmark-only" in arguments else "4 passed") in output, output


def test_an_unrelated_project_sees_no_option_of_the_suite(python, tmp_path):
    status, output = run(python, tmp_path, "--help")
    assert status == 0, output
    assert "--benchmark-compare" in output
    assert not any(f"{name} " in output or f"{name}=" in output for name in OPTIONS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pyargs", "conformance"),
        ("--backend", "pytorch", "--pyargs", "conformance.laws.test_text::test_x[a, (b)]"),
        (str(Path(conformance.__file__).parent / "laws" / "test_text.py"),),
        ("-p", "conformance.plugin"),
    ],
    ids=["package", "test", "path", "plugin"],
)
def test_a_run_that_requests_the_suite_has_its_options(tmp_path, arguments):
    status, output = run(sys.executable, tmp_path, *arguments, "--help")
    assert status == 0, output
    assert all(name in output for name in OPTIONS)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_suite_runs_in_one_process_and_in_several(tmp_path, processes):
    arguments = ("--pyargs", "conformance.laws.test_sampler", "--requirement", "SA-02")
    status, output = run(sys.executable, tmp_path, *arguments, "-n", processes)
    assert status == 0, output
    assert "SA-02    pass" in output
