"""The ONNX graphs of a model folder: its own files, or written in memory from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from soprano.errors import MissingExtraError, ModelError
from soprano.model import ModelFolder

LANGUAGE_MODEL, DECODER = "lm_step", "decoder"


Network = TypeVar("Network")


@dataclass(frozen=True)
class GraphSource:
    """A graph file, or a graph's bytes and the folder in which its weights lie."""

    folder: Path
    path: Path | None
    content: bytes | None


def find_graph(folder: ModelFolder, part: str) -> GraphSource | None:
    """The graph of one network (`LANGUAGE_MODEL` or `DECODER`); None in a bundle without it."""
    for root in (folder.path / "onnx", folder.path):
        path = root / f"{part}.onnx"
        if path.is_file():
            return GraphSource(root, path, None)
    if not folder.has_weights:
        return None
    return GraphSource(folder.path, None, _write(folder, part))


def require(network: Network | None, part: str) -> Network:
    """The network, or an error where the model folder was exported without it."""
    if network is None:
        raise ModelError(f"this model folder has no {part} graph")
    return network


def _write(folder: ModelFolder, part: str) -> bytes:
    try:
        from soprano.export.graph import Weights
        from soprano.export.onnx import decoder_graph, language_model_graph
    except ImportError as error:
        raise MissingExtraError(
            "a checkpoint without graphs needs the onnx package: "
            f"pip install 'soprano-conformance[onnx]' ({error})"
        ) from None
    if part == LANGUAGE_MODEL:
        graph = language_model_graph(folder.config.language_model, folder.language_model_index)
    else:
        weights: Weights = folder.decoder_index or folder.decoder_weights()
        graph = decoder_graph(folder.config.decoder, weights)
    return bytes(graph.SerializeToString(deterministic=True))
