"""Who may import what: read from the source, and observed in fresh interpreters."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import conformance
import soprano
from conformance.golden.packs import fixture_models

SOPRANO, CONFORMANCE = (Path(module.__file__).parent for module in (soprano, conformance))
FRAMEWORKS = {"torch", "onnxruntime", "openvino", "onnx", "transformers", "scipy"}
TORCH = (
    "soprano/reference/", "soprano/backends/pytorch", "soprano/checkpoint/pickled.py",
    "soprano/export/", "conformance/faults/", "conformance/meta/float32_ports.py",
    "conformance/diagnosis/networks.py",
)  # fmt: skip
FILES = 30

# Modules and folders of a package, each of which imports only from the groups before its own.
SOPRANO_LAYERS = (
    {"errors", "regular_files", "standard_streams"},
    {"forked"},
    {"config"},
    {"audio_files", "checkpoint", "hallucination", "memory_pages", "sampling", "stft", "text"},
    {"audio", "onnx_graphs", "reference", "tokenizer"},
    {"backends"},
    {"stages"},
    {"drafting", "export"},
    {"draft_models", "generate"},
    {"streaming"},
    {"synthesis"},
    {"bench", "command_line"},
    {"cli"},
    {"__main__"},
)
CONFORMANCE_LAYERS = (
    {"contract", "documents", "installation", "options", "oracle", "ports"},
    {"golden"},
    {"judging"},
    {"report", "speed", "subject"},
    {"hypothesis_profiles", "opening", "own_stages", "supervisor", "text_profiles", "vectors"},
    {"selection"},
    {"entry_point", "hooks"},
    {"plugin"},
    {"faults", "laws"},
    {"diagnosis"},
    {"meta"},
    {"cli"},
    {"__main__"},
)
# Shared stages, which a law takes from the fixtures, so that a replaced stage is judged.
STAGES = ("audio_files", "hallucination", "sampling", "stft", "streaming", "text", "tokenizer")


class Import(NamedTuple):
    name: str  # module, or module and imported name
    nested: bool  # inside a function
    typing: bool  # below `if TYPE_CHECKING`


def imports_of(path):
    """The absolute imports of a source file."""
    found = []

    def visit(node, nested, typing):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, nested, typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path} has a relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
                found.extend(Import(name, nested, typing) for name in names)
            checked = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            visit(child, nested or inside, typing or checked)

    visit(ast.parse(path.read_text(encoding="utf-8")), False, False)
    return found


def sources(folder):
    found = {path: imports_of(path) for path in sorted(folder.rglob("*.py"))}
    assert found
    return found


def part(name):
    """The second component of a module's name: the module or folder inside a package."""
    return name.split(".")[1] if "." in name else ""


def violations(package, layers):
    """Imports of a package that do not lead to an earlier layer."""
    rank = {name: index for index, layer in enumerate(layers) for name in layer}
    found = []
    for path, imports in sources(package).items():
        own = path.relative_to(package).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert own in rank, f"{own} has no layer"
        for name, _, typing in imports:
            inside = name.split(".")[0] == package.name and part(name) in rank
            if inside and not typing and part(name) != own and rank[part(name)] >= rank[own]:
                found.append(f"{path.relative_to(package.parent)}: {name}")
    return found


def is_concrete_backend(name):
    """Whether a name is a module of `soprano.backends`, not a part of the protocol."""
    parts = name.split(".")
    return parts[:2] == ["soprano", "backends"] and (
        len(parts) > 2 and (SOPRANO / "backends" / f"{parts[2]}.py").exists()
    )


def test_modules_of_soprano_import_from_lower_layers_only():
    assert violations(SOPRANO, SOPRANO_LAYERS) == []


def test_folders_of_conformance_import_from_lower_layers_only():
    assert violations(CONFORMANCE, CONFORMANCE_LAYERS) == []


def test_packages_import_neither_tests_nor_tools():
    foreign = {SOPRANO: {"conformance"}, CONFORMANCE: set()}
    for package, names in foreign.items():
        for path, imports in sources(package).items():
            tops = {name.split(".")[0] for name, _, _ in imports}
            assert not tops & (names | {"tests", "fixtures", "comparisons"}), path


def test_soprano_contains_no_path_of_the_suite():
    for path in sources(SOPRANO):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = node.value.replace("soprano-conformance", "").replace("soprano_conf", "")
                assert not any(w in words for w in ("conformance", "fixtures", "tests/")), path


def test_torch_is_imported_by_the_reference_and_the_exporter_only():
    users = {
        path.relative_to(package.parent).as_posix()
        for package in (SOPRANO, CONFORMANCE)
        for path, imports in sources(package).items()
        if any(name.split(".")[0] == "torch" for name, _, _ in imports)
    }
    assert users
    assert [user for user in sorted(users) if not user.startswith(TORCH)] == []


def test_shared_stages_import_no_concrete_backend():
    for name in ("stages", "generate", "streaming", "synthesis", "sampling", "stft", "tokenizer"):
        for imported, _, _ in imports_of(SOPRANO / f"{name}.py"):
            assert not is_concrete_backend(imported), (name, imported)
            assert part(imported) not in ("reference", "export"), (name, imported)


def test_backends_and_export_share_the_onnx_graphs_only():
    for path, imports in sources(SOPRANO / "backends").items():
        assert not [name for name, _, _ in imports if name.startswith("soprano.export")], path
    for path, imports in sources(SOPRANO / "export").items():
        assert not [name for name, _, _ in imports if is_concrete_backend(name)], path


def test_laws_reach_backends_through_the_protocol_and_stages_through_fixtures():
    for path, imports in sources(CONFORMANCE / "laws").items():
        for name, _, _ in imports:
            assert not is_concrete_backend(name), (path, name)
            assert name.split(".")[:2] not in [["soprano", stage] for stage in STAGES], (path, name)


@pytest.mark.parametrize("package", [SOPRANO, CONFORMANCE, Path(__file__).parent])
def test_a_folder_holds_few_files(package):
    folders = [package, *(path for path in package.rglob("*") if path.is_dir())]
    for folder in folders:
        if "data" not in folder.parts and folder.name != "__pycache__":
            assert len([path for path in folder.iterdir() if path.is_file()]) <= FILES, folder


def loaded_by(statement):
    """The top-level modules in a fresh interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


@pytest.mark.parametrize(
    "name", ["SopranoTTS", "istft", "load_tokenizer", "normalize", "open_backend", "sample"]
)
def test_importing_a_public_name_loads_no_framework(name):
    loaded = loaded_by(f"from soprano import {name}")
    assert "soprano" in loaded
    assert not loaded & FRAMEWORKS


@pytest.mark.parametrize(
    ("backend", "module", "others"),
    [
        ("onnx_cpu", "onnxruntime", {"torch", "openvino"}),
        ("openvino_cpu", "openvino", {"torch", "onnxruntime"}),
        ("pytorch", "torch", {"onnxruntime", "openvino"}),
    ],
)
def test_opening_a_backend_loads_its_own_runtime_only(backend, module, others):
    assert importlib.util.find_spec(module), f"{module} must be installed for this test"
    model = str(fixture_models()[0])
    loaded = loaded_by(f"import soprano; soprano.open_backend({backend!r}, {model!r})")
    assert module in loaded
    assert not loaded & others


def test_another_distribution_in_the_same_folder_is_named(tmp_path):
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
