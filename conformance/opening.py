"""A backend is opened: in which precision, on which files, and whether it is one."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from conformance.golden.packs import fixture_models
from conformance.options import option
from conformance.ports.process import LIMITS
from conformance.report.evidence import Facts
from conformance.subject import Subject
from soprano.backends import Backend, Capabilities, OptionalStages
from soprano.checkpoint.folder import ModelFolder
from soprano.config import ModelConfig

# Files and folders that hold a graph for some runtime.
GRAPHS = {
    ".axmodel", ".bin", ".circle", ".dlc", ".engine", ".ggml", ".gguf", ".hef", ".mlmodel",
    ".mlmodelc", ".mlpackage", ".mnn", ".ncnn", ".om", ".onnx", ".ort", ".param", ".pdmodel",
    ".plan", ".pt2", ".pte", ".ptl", ".rknn", ".rten", ".tflite", ".torchscript", ".trt", ".xml",
}  # fmt: skip
# What training leaves beside a checkpoint.
NO_GRAPHS = ("optimizer", "pytorch_model", "scheduler", "training_args")
OPTIONAL = [name for name in vars(OptionalStages) if name[0] != "_" and name != "files"]


class Misfit(Exception):  # noqa: N818 - a finding about a port, not an error of ours
    """What a backend or a model folder lacks, in one sentence."""


def open_subject(config: pytest.Config, subject: Subject, name: str, model: Path) -> Backend:
    """A backend on a model, in the precision requested, or else that of the model."""
    precision = option(config, "precision") or ModelFolder.open(model).precision
    return subject.open(name, model, precision, option(config, "threads"))


def refusal(config: pytest.Config, name: str, model: Path) -> str:
    """Why a backend cannot open a model in a process of its own, or ""."""
    named = option(config, "precision") or ModelFolder.open(model).precision
    given = [name, str(model), named, option(config, "threads")]
    script = (
        "import json, sys; sys.path[:], given = map(json.loads, sys.argv[1:]); "
        "from conformance.subject import open_any_backend; open_any_backend(*given).close()"
    )
    command = [sys.executable, "-c", script, json.dumps(sys.path), json.dumps(given)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMITS.opening)
    except subprocess.TimeoutExpired:
        return f"no answer within {LIMITS.opening:g} s"
    said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
    return said[-1] if done.returncode else ""


def require_backend(opened: Any) -> None:
    """Raise `Misfit` unless an object has the members of the protocol, of the right kinds."""
    kinds = {"name": str, "config": ModelConfig, "capabilities": Capabilities}
    able = getattr(opened, "capabilities", None)
    declared = [name for name in ("fork", "select", "join") if getattr(able, name, False)]
    if getattr(able, "language_model", True):
        declared += ["prefill", "step"]
    if getattr(able, "decoder", True):
        declared.append("decode" if getattr(able, "spectrum", True) else "decode_audio")
    methods = ["attest", "close", *declared]
    members = (*kinds, *methods)
    if missing := [name for name in members if not hasattr(opened, name)]:
        if len(missing) == len(members):
            raise Misfit(f"is no backend: its factory returned a {type(opened).__name__}")
        raise Misfit(f"lacks {', '.join(missing)} of the protocol")
    for name, kind in kinds.items():
        if not isinstance(value := getattr(opened, name), kind):
            wanted = "str" if kind is str else f"{kind.__module__}.{kind.__name__}"
            raise Misfit(f"{name} must be a {wanted}, not a {type(value).__name__}")
    for name in (*methods, *OPTIONAL):
        if not callable(getattr(opened, name, len)):
            raise Misfit(f"{name} must be a method, not a {type(getattr(opened, name)).__name__}")


def facts_of(opened: Backend, model: Path) -> Facts:
    """What the report states about a backend on a model.

    Raises:
        Misfit: the attestation is of another kind, or a file does not exist.
    """
    attested = opened.attest()
    if not isinstance(attested, dict) or not all(
        isinstance(getattr(entry, part, None), str)
        for entry in attested.values()
        for part in ("value", "how")
    ):
        raise Misfit("attest() must return a dict of soprano.backends.Attested")
    return Facts(
        {name: {"value": entry.value, "how": entry.how} for name, entry in attested.items()},
        [name for name in OPTIONAL if hasattr(opened, name)],
        {name: digest(path) for name, path in sorted(_files(opened, model).items())},
    )


def _files(opened: Backend, model: Path) -> dict[str, Path]:
    """The files that a backend runs, else all files of the model folder, by relative name."""
    inside = {
        path.resolve(): path.relative_to(model).as_posix()
        for path in model.rglob("*")
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(model).parts)
    }
    stated = _stated(opened)
    if stated is None:
        return {name: path for path, name in inside.items()}
    found: dict[str, Path] = {}
    for path in stated:
        members = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        found |= {inside.get(file.resolve(), file.name): file for file in members}
    return found


def _stated(opened: Backend) -> list[Path] | None:
    """The files that a backend states; None if it states none."""
    if not hasattr(opened, "files"):
        return None
    stated = opened.files
    if isinstance(stated, (str, bytes)) or not isinstance(stated, Iterable):
        raise Misfit(f"files must be a sequence of paths, not a {type(stated).__name__}")
    paths = [Path(path) for path in stated]
    if missing := [path for path in paths if not path.exists()]:
        raise Misfit(f"files: there is no {missing[0]}")
    return paths


def require_all_graphs(opened: Backend, model: Path) -> None:
    """Raise `Misfit` if a model folder contains a graph that is not judged.

    A bundle may contain graphs for several runtimes, as its manifest lists them; so may a copy of
    a fixture model.
    """
    stated = _stated(opened)
    if stated is None:
        return
    used = {path.resolve() for path in stated}
    listed = _manifest(model)
    ours = {digest(path) for folder in fixture_models() for path in graphs(folder)}
    unused = []
    for path in graphs(model):
        name, resolved = path.relative_to(model).as_posix(), path.resolve()
        judged = used & {resolved, *resolved.parents} or any(resolved in u.parents for u in used)
        known = path.is_file() and digest(path) in {listed.get(name), *ours}
        if not judged and not known:
            unused.append(name)
    if unused:
        raise Misfit(
            f"does not run {', '.join(unused)} of {model}, which would not be judged: "
            "remove what is not to be judged, or name a backend that runs it"
        )


def graphs(folder: Path) -> list[Path]:
    """Files and folders that hold a graph, anywhere below a folder."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in GRAPHS and not path.name.startswith(NO_GRAPHS)
    )
    return [path for path in found if not set(path.parents) & set(found)]


def _manifest(model: Path) -> dict[str, str]:
    """The SHA-256 of the files that a bundle's manifest lists."""
    try:
        document = json.loads((model / "manifest.json").read_text(encoding="utf-8"))
        return {name: entry["sha256"] for name, entry in document["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
