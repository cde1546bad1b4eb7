"""Who may import what, seen in fresh interpreters and in the source."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import conformance
import soprano

SOPRANO, CONFORMANCE = (Path(module.__file__).parent for module in (soprano, conformance))
FRAMEWORKS = {"torch", "onnxruntime", "openvino", "onnx", "transformers", "scipy"}
MAY_USE_TORCH = ("reference/", "backends/pytorch", "export/")


def loaded_by(statement: str) -> set[str]:
    """The top-level modules in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def imports_of(path: Path) -> set[str]:
    """The modules that a source file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def sources(root: Path) -> list[Path]:
    found = sorted(root.rglob("*.py"))
    assert len(found) > 10
    return found


def test_importing_soprano_loads_no_framework():
    loaded = loaded_by("import soprano")
    assert "soprano" in loaded
    assert not loaded & FRAMEWORKS


@pytest.mark.parametrize("name", ["istft", "sample", "normalize", "load_tokenizer", "SopranoTTS"])
def test_public_names_load_no_framework(name):
    assert not loaded_by(f"from soprano import {name}") & FRAMEWORKS


def test_the_transform_stays_callable_after_its_module_is_imported():
    loaded_by("import soprano.stft, soprano; assert callable(soprano.stft)")
    loaded_by("import soprano.synthesis, soprano; assert callable(soprano.stft)")


@pytest.mark.parametrize(
    ("runtime", "others"),
    [
        ("onnx_cpu", {"torch", "openvino"}),
        ("openvino_cpu", {"torch", "onnxruntime"}),
        ("pytorch", {"onnxruntime", "openvino"}),
    ],
)
def test_a_backend_loads_its_own_runtime_only(runtime, others):
    from conformance.golden.packs import fixture_models

    module = {"onnx_cpu": "onnxruntime", "openvino_cpu": "openvino", "pytorch": "torch"}[runtime]
    assert importlib.util.find_spec(module), f"{module} belongs into this environment"
    model = str(fixture_models()[0])
    statement = f"import soprano; soprano.open_backend({runtime!r}, {model!r})"
    assert not loaded_by(statement) & others


def test_only_the_reference_side_of_soprano_imports_torch():
    users = {
        path.relative_to(SOPRANO).as_posix()
        for path in sources(SOPRANO)
        if any(name.split(".")[0] == "torch" for name in imports_of(path))
    }
    assert users
    assert all(user.startswith(MAY_USE_TORCH) for user in users), users


def test_soprano_knows_nothing_of_the_suite():
    for path in sources(SOPRANO):
        assert not {n.split(".")[0] for n in imports_of(path)} & {"conformance", "fixtures"}, path


def test_shared_stages_know_no_backend():
    for stage in ("generate", "synthesis", "streaming", "sampling", "istft", "tokenizer", "audio"):
        for name in imports_of(SOPRANO / f"{stage}.py"):
            assert not name.startswith("soprano.backends."), (stage, name)
            assert not name.startswith(("soprano.reference", "soprano.export")), (stage, name)


def test_the_judges_reach_no_backend_but_through_the_protocol():
    for path in sorted(CONFORMANCE.glob("test_*.py")):
        for name in imports_of(path):
            assert not name.startswith(("soprano.backends.", "soprano.reference")), (path, name)


def test_another_distribution_in_the_same_folder_is_one_sentence(tmp_path):
    shutil.copytree(SOPRANO, tmp_path / "soprano", ignore=shutil.ignore_patterns("models"))
    record = tmp_path / "soprano_tts-0.2.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text("soprano/__init__.py,,\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", "import soprano"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert result.returncode == 1
    assert "ImportError: the distributions" in result.stderr.splitlines()[-1]
    assert "soprano-tts" in result.stderr.splitlines()[-1]
