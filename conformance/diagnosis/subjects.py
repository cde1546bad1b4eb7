"""What a name on the command line of `check` stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from conformance.golden.packs import fixture_models
from conformance.opening import graphs
from soprano.backends import backend_names, installed_backends
from soprano.checkpoint.folder import locate
from soprano.errors import ModelError

DEFAULT_MODELS = ("v11", "heads")  # the smallest, and one with several query and key heads
_OUTPUTS = ("outputs.safetensors", "outputs.json", "outputs")


class UnknownSubjectError(ValueError):
    """A name stands for nothing that can be judged."""


@dataclass(frozen=True)
class Named:
    """Backends on models."""

    backends: list[str]
    models: list[Path]
    reference: Path | None = None


@dataclass(frozen=True)
class Vectors:
    """Outputs that a port wrote for a vector pack; without a pack, one is made from the model."""

    outputs: Path
    model: Path
    pack: Path | None = field(default=None)


def resolve(
    subject: str, models: list[str], reference: Path | None = None, pack: Path | None = None
) -> Named | Vectors:
    """The subject of a name: a backend, a model folder, an ONNX file or a folder of vectors.

    Raises:
        UnknownSubjectError: it is none of these; the message lists them.
    """
    path = Path(subject)
    if path.is_file() and path.suffix == ".onnx":
        folder = [named_model(name) for name in models] or [_model_around(path)]
        return Named([f"onnx:{path}"], folder, reference)
    if path.is_dir() and (pack or _is_outputs(path)):
        given = path if (path / "manifest.json").is_file() and not pack else pack
        return Vectors(path, named_model((models or ["v11"])[0]), given)
    if path.is_dir() or (subject in _fixtures() and subject not in backend_names()):
        model = named_model(subject)
        return Named(_backends_for(model), [model], reference)
    if ":" not in subject and subject not in backend_names():
        known = ", ".join(backend_names())
        raise UnknownSubjectError(
            f"{subject!r} is no backend ({known}, package:factory or exec:COMMAND), no model "
            "folder, no .onnx file and no folder of vectors"
        )
    found = [named_model(name) for name in models or DEFAULT_MODELS]
    return Named([subject], found, reference)


def _fixtures() -> dict[str, Path]:
    return {path.name: path for path in fixture_models()}


def named_model(name: str) -> Path:
    """A model folder, or a fixture model by its name."""
    folder = Path(name)
    if not folder.is_dir() and name in _fixtures():
        return _fixtures()[name]
    try:
        return locate(name)
    except ModelError as error:
        raise UnknownSubjectError(str(error)) from None


def _is_outputs(folder: Path) -> bool:
    """Whether the folders in a folder hold outputs of cases."""
    return any((case / name).exists() for case in folder.iterdir() for name in _OUTPUTS)


def _backends_for(model: Path) -> list[str]:
    """The backends whose graphs a bundle holds, else the first one installed."""
    kinds = {path.suffix for path in graphs(model)}
    by_kind = {".onnx": "onnx_cpu", ".xml": "openvino_cpu"}
    found = [name for kind, name in by_kind.items() if kind in kinds]
    installed = installed_backends()
    if not installed:
        raise UnknownSubjectError("no backend is installed")
    return [name for name in found if name in installed] or installed[:1]


def _model_around(path: Path) -> Path:
    """The model folder that an ONNX file is in."""
    for folder in (path.resolve().parent, path.resolve().parent.parent):
        if (folder / "config.json").is_file():
            return folder
    raise UnknownSubjectError(f"{path} is in no model folder: name its checkpoint with --model")
