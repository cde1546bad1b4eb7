"""The ONNX graphs of a model folder: its own files, or written in memory from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from soprano.checkpoint.folder import ModelFolder
from soprano.errors import MissingExtraError, ModelError
from soprano.onnx_graphs.stored_tensors import require_sound

LANGUAGE_MODEL, DECODER = "lm_step", "decoder"
FUSED_LANGUAGE_MODEL = "lm_step_fused"  # only for ONNX Runtime

Network = TypeVar("Network")


@dataclass(frozen=True)
class GraphSource:
    """A graph file, or a graph's bytes; `folder` holds its weights."""

    folder: Path
    path: Path | None
    content: bytes | None


def find_graph(folder: ModelFolder, part: str) -> GraphSource | None:
    """A graph by its file's stem, or written from the weights of a folder without graphs.

    None if there is neither: a folder with one graph holds all graphs that it is meant to have.
    """
    if path := graph_file(folder, part):
        return graph_source(path)
    if not folder.has_weights or _has_graphs(folder):
        return None
    written = _write(folder, part)
    require_sound(folder.path, written.content, written.folder)
    return written


def graph_source(path: Path) -> GraphSource:
    """A graph's file, or its bytes where its folder holds symbolic links.

    Raises:
        ModelError: the graph refers to something else than files beside it, or is not finite.
    """
    require_sound(path)
    linked = any(file.is_symlink() for file in path.parent.iterdir())
    return _resolve_links(path) if linked else GraphSource(path.parent, path, None)


def graph_file(folder: ModelFolder, part: str) -> Path | None:
    """The file of a graph by its stem."""
    paths = (root / f"{part}.onnx" for root in (folder.path / "onnx", folder.path))
    return next((path for path in paths if path.is_file()), None)


def _has_graphs(folder: ModelFolder) -> bool:
    return any(graph_file(folder, part) for part in (LANGUAGE_MODEL, FUSED_LANGUAGE_MODEL, DECODER))


def files_of(folder: ModelFolder, part: str) -> list[Path]:
    """The files that `find_graph` reads: a graph with its external data, or weights."""
    path = graph_file(folder, part)
    if path is None:
        return folder.weight_files() if folder.has_weights and not _has_graphs(folder) else []
    import onnx

    require_sound(path)
    graph = onnx.load(path, load_external_data=False).graph
    return [path, *sorted({path.parent / name for name in _locations(graph)})]


def _locations(graph: Any) -> list[str]:
    """The files of a graph's external data, relative to the graph's folder; with repetitions."""
    entries = (entry for tensor in graph.initializer for entry in tensor.external_data)
    return [entry.value for entry in entries if entry.key == "location"]


def _resolve_links(path: Path) -> GraphSource:
    """A graph in a folder of symbolic links, such as a download cache, that names their targets.

    Runtimes resolve links first, and refuse weights that then lie outside the graph's folder.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    locations = [
        entry
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    ]
    folders = {path.parent}
    if locations:
        files = {entry.value: (path.parent / entry.value).resolve() for entry in locations}
        if outside := [name for name in files if Path(name).name != name]:
            raise ModelError(f"{path} points to {outside[0]}, outside its own folder")
        folders = {file.parent for file in files.values()}
        for entry in locations:
            entry.value = files[entry.value].name
    if len(folders) > 1:
        raise ModelError(f"the weights of {path} are links into different folders")
    return GraphSource(folders.pop(), None, model.SerializeToString())


def require(network: Network | None, part: str, folder: Path) -> Network:
    """The network, or an error if the model folder was exported without it."""
    if network is None:
        raise ModelError(f"{folder} has no graph {part}")
    return network


def _write(folder: ModelFolder, part: str) -> GraphSource:
    try:
        from soprano.onnx_graphs.decoder import decoder_graph
        from soprano.onnx_graphs.fused import fused_language_model_graph
        from soprano.onnx_graphs.language_model import language_model_graph
        from soprano.onnx_graphs.writer import Weights
    except ImportError as error:
        raise MissingExtraError(
            "a checkpoint without graphs needs the onnx package: "
            f"pip install 'soprano-conformance[onnx]' ({error})"
        ) from None
    lm = part != DECODER
    index = folder.language_model_index if lm else folder.decoder_index
    folders = {tensor.path.parent for tensor in index.values()}
    weights: Weights = index
    if len(folders) != 1:  # a graph can only refer to safetensors files in one folder
        weights = folder.language_model_weights() if lm else folder.decoder_weights()
    if lm:
        write = language_model_graph if part == LANGUAGE_MODEL else fused_language_model_graph
        graph = write(folder.config.language_model, weights)
    else:
        graph = decoder_graph(folder.config.decoder, weights)
    home = folders.pop() if len(folders) == 1 else folder.path
    return GraphSource(home, None, bytes(graph.SerializeToString(deterministic=True)))
