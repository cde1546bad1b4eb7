"""Messages of an environment that lacks a library, or where `soprano-tts` is installed too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import conformance
import soprano

OWN, SUITE = (Path(module.__file__).parent for module in (soprano, conformance))
THEIRS = {"__init__.py": "from .tts import SopranoTTS\n", "tts.py": "import lmdeploy\n"}
MISSING = """
import runpy, sys
sys.modules[sys.argv.pop(1)] = None
runpy.run_module("conformance", run_name="__main__")
"""


@pytest.fixture
def site(tmp_path):
    """Site-packages as an installer writes them: the libraries, both packages, their metadata."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        own = path.name.startswith(("soprano", "conformance", "_soprano", "__"))
        if not own and path.suffix != ".pth":
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(OWN, tmp_path / "soprano", ignore=shutil.ignore_patterns("models", "*.pyc"))
    (tmp_path / "conformance").symlink_to(SUITE)
    names = [path.relative_to(tmp_path) for path in (tmp_path / "soprano").rglob("*.py")]
    metadata = write_metadata(tmp_path, "soprano-conformance", "0.1.0", names)
    entry_point = "[pytest11]\nconformance = conformance.entry_point\n"
    (metadata / "entry_points.txt").write_text(entry_point, encoding="utf-8")
    return tmp_path


def write_metadata(site, name, version, files):
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    record = "".join(f"{Path(file).as_posix()},,\n" for file in files)
    (folder / "RECORD").write_text(record, encoding="utf-8")
    return folder


def install_theirs(site, *, last):
    """`soprano-tts`, installed after this distribution or before it."""
    for name, content in THEIRS.items():
        if last or not (site / "soprano" / name).exists():
            (site / "soprano" / name).write_text(content, encoding="utf-8")
    write_metadata(site, "soprano-tts", "0.2.0", [f"soprano/{name}" for name in THEIRS])


def python(site, *arguments):
    """An interpreter that finds nothing but the standard library and the folder."""
    folder = site / "elsewhere"
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def assert_told(site, *parts):
    """The suite's command and pytest end with the message; other runs of pytest are unaffected."""
    result = python(site, "-m", "conformance", "contract")
    lines = result.stderr.splitlines()
    assert (result.returncode, len(lines)) == (2, 1), result.stderr
    asked = python(site, "-m", "pytest", "--pyargs", "conformance", "--collect-only")
    assert asked.returncode == pytest.ExitCode.USAGE_ERROR, asked.stdout + asked.stderr
    assert "Traceback" not in asked.stderr
    for part in parts:
        assert part in lines[0]
        assert part in asked.stderr
    test = site / "elsewhere" / "test_unrelated.py"
    test.write_text("def test_something():\n    assert True\n", encoding="utf-8")
    other = python(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", test.name)
    assert (other.returncode, other.stderr) == (0, ""), other.stdout + other.stderr


@pytest.mark.parametrize("last", [False, True], ids=["theirs first", "theirs last"])
def test_soprano_tts_in_the_same_environment_is_named_with_what_to_do(site, last):
    install_theirs(site, last=last)
    uninstall = "pip uninstall soprano-tts soprano-conformance"
    assert_told(site, uninstall, "separate environments")
    if not last:  # otherwise it is theirs that is imported
        assert uninstall in python(site, "-c", "import soprano").stderr.splitlines()[-1]


def test_files_that_went_with_soprano_tts_are_named_with_what_to_do(site):
    install_theirs(site, last=True)
    for name in THEIRS:
        (site / "soprano" / name).unlink()
    shutil.rmtree(next(site.glob("soprano_tts*")))
    assert_told(site, "soprano/__init__.py is missing", "--force-reinstall")


def test_a_whole_installation_is_no_problem(site):
    result = python(site, "-m", "conformance", "--help")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("library", ["hypothesis", "jsonschema", "pytest", "scipy"])
@pytest.mark.parametrize("words", [("run",), ("contract",), ("--help",)], ids=" ".join)
def test_a_missing_library_of_the_suite_names_the_extra(tmp_path, library, words):
    command = [sys.executable, "-c", MISSING, library, *words]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "pip install 'soprano-conformance[conformance]'" in result.stderr
    assert library in result.stderr
