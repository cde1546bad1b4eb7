"""A model folder -> a self-contained bundle folder for other runtimes.

It is written to a temporary folder beside the target, checked, then exchanged with it: a bundle
that exists is complete.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.external_data_helper import (
    convert_model_to_external_data,
    write_external_data_tensors,
)
from safetensors.numpy import save_file

from soprano.backends import open_backend
from soprano.checkpoint.config_json import DECODER_KEY
from soprano.checkpoint.contents import read_json
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import NAME as MANIFEST
from soprano.checkpoint.manifest import (
    SCHEMA_VERSION,
    read_manifest,
    require_unchanged,
    write_manifest,
)
from soprano.checkpoint.tensors import Float32, identity, index_file
from soprano.errors import ModelError
from soprano.export.quantise import (
    ACTIVATIONS,
    SCHEMES,
    describe,
    exact_storage,
    quantise_onnx,
    quantise_openvino,
)
from soprano.export.replace import replacing, writing
from soprano.onnx_graphs.decoder import audio_decoder_graph, decoder_graph
from soprano.onnx_graphs.fused import fused_language_model_graph
from soprano.onnx_graphs.language_model import hidden_state_last, language_model_graph
from soprano.onnx_graphs.names import padded_head
from soprano.onnx_graphs.source import DECODER, FUSED_LANGUAGE_MODEL, LANGUAGE_MODEL, GraphSource
from soprano.onnx_graphs.writer import IR_VERSION, OPSET, Weights

RUNTIMES = ("onnx", "openvino")
PRECISIONS = ("fp32", "fp16", "int8", "int4")
PARTS = ("all", "lm", "decoder")
LAYOUTS = ("bundle", "community")

Floats = npt.NDArray[np.floating]

_STORAGE: dict[str, type[np.floating]] = {"fp32": np.float32, "fp16": np.float16}
_COPIED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json")
_TOOLS = ("soprano-conformance", "onnx", "onnxruntime", "openvino", "numpy", "safetensors")


@dataclass(frozen=True)
class _Part:
    graph: str  # stem of the graph's file
    weights: str  # stem of the weights' file


_PARTS = {"lm": _Part(LANGUAGE_MODEL, "model"), "decoder": _Part(DECODER, "decoder")}


def export_bundle(
    model: str | Path,
    out: str | Path,
    *,
    to: str = "onnx",
    precision: str = "fp32",
    part: str = "all",
    layout: str = "bundle",
) -> Path:
    """Write a bundle and return its path.

    Args:
        model: a checkpoint folder or an embedded model's name.
        out: the bundle's folder. The graphs are added to an existing bundle of the same model and
            precision; any other content is an error.
        to: "onnx" or "openvino".
        precision: "fp32" (weights widened exactly), "fp16" (weights stored in half precision,
            arithmetic in float32), "int8" or "int4" (large matrices quantised, by layer class).
        part: "all", "lm" or "decoder".
        layout: "bundle", or "community" for graphs with the names and orders of community exports,
            each in one file with its weights; its decoder gives audio.

    Raises:
        ModelError: the source has no weights, the target is something else, or a written graph
            fails its checker or its trial run.
        MissingExtraError: the bundle's runtime is not installed.
    """
    for name, value, allowed in (
        ("to", to, RUNTIMES),
        ("precision", precision, PRECISIONS),
        ("part", part, PARTS),
        ("layout", layout, LAYOUTS),
        ("to", to, RUNTIMES if layout == "bundle" else ("onnx",)),
        ("part", part, PARTS if layout == "bundle" else ("all",)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    source, target = ModelFolder.open(model), Path(out)
    source.require_unchanged(weights=True)
    parts = list(_PARTS) if part == "all" else [part]
    weights = {"lm": source.language_model_weights(), "decoder": source.decoder_weights()}
    origin = {"identity": identity(_named(weights)), "precision": precision, "layout": layout}
    with replacing(target, lambda: _require_same_model(target, origin)) as folder:
        _write_texts(source, folder)
        for name in parts:
            if layout == "community":
                _write_community(source, folder, name, weights[name], precision)
            elif to == "openvino":
                _write_openvino(source, folder, name, weights[name], precision)
            elif precision in SCHEMES:
                _write_quantised_onnx(source, folder, name, weights[name], precision)
            else:
                _write_onnx(source, folder, name, _narrow(weights[name], precision))
        _write_manifest(folder, origin, [name for own in weights.values() for name in own])
        trial_run(folder, to, precision)
    return target


def _named(weights: Mapping[str, Mapping[str, Float32]]) -> Iterator[tuple[str, Float32]]:
    for part, tensors in weights.items():
        for name, values in tensors.items():
            yield f"{part}:{name}", values


def _require_same_model(target: Path, origin: Mapping[str, str]) -> None:
    """An error unless the target is a bundle of the same model, empty or missing."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / MANIFEST).is_file():
        raise ModelError(f"{target} exists and is not a bundle; choose another folder")
    manifest = read_manifest(target)
    existing = {
        "identity": manifest["model"]["identity"],
        "precision": manifest["precision"]["class"],
        "layout": manifest.get("layout", "bundle"),
    }
    if existing != dict(origin):
        raise ModelError(f"{target} is a bundle of another model, precision or layout")
    require_unchanged(target, manifest, weights=True)


def _write_texts(source: ModelFolder, folder: Path) -> None:
    document = read_json(source.path / "config.json")
    document.pop("decoder", None)  # the older name of the same object
    document[DECODER_KEY] = asdict(source.config.decoder)
    _write_json(folder / "config.json", document)
    for name in _COPIED:
        if (source.path / name).is_file():
            shutil.copyfile(source.path / name, folder / name)
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(f"{source.path} has no tokenizer.json")


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _narrow(tensors: Mapping[str, Float32], precision: str) -> dict[str, Floats]:
    narrow = {name: values.astype(_STORAGE[precision]) for name, values in tensors.items()}
    if overflows := [name for name, values in narrow.items() if not np.isfinite(values).all()]:
        raise ModelError(f"{overflows[0]} has values beyond the range of {precision}")
    return narrow


def _graph(source: ModelFolder, part: str, weights: Weights) -> onnx.ModelProto:
    if part == "lm":
        return language_model_graph(source.config.language_model, weights)
    return decoder_graph(source.config.decoder, weights)


def _write_onnx(
    source: ModelFolder, folder: Path, part: str, tensors: Mapping[str, Floats]
) -> None:
    """The graph and, beside it, its weights.

    Runtimes and the checker read no file outside a graph's folder, and no hard or symbolic link.
    """
    names = _PARTS[part]
    (folder / "onnx").mkdir(exist_ok=True)
    weights = folder / "onnx" / f"{names.weights}.safetensors"
    with writing(weights):
        save_file(dict(tensors), weights)
    path = folder / "onnx" / f"{names.graph}.onnx"
    _save_onnx(_graph(source, part, index_file(weights)), path)
    if part == "lm":
        fused = fused_language_model_graph(source.config.language_model, index_file(weights))
        _save_onnx(fused, path.with_stem(FUSED_LANGUAGE_MODEL))


def _write_community(
    source: ModelFolder, folder: Path, part: str, tensors: Mapping[str, Float32], precision: str
) -> None:
    """The graph under its community name, with its weights inside."""
    weights = exact_storage(tensors) if precision in SCHEMES else _narrow(tensors, precision)
    if part == "lm":
        name = f"soprano_backbone_kv_{precision}"
        graph = hidden_state_last(language_model_graph(source.config.language_model, weights))
    else:
        name = f"soprano_decoder_{precision}"
        graph = audio_decoder_graph(source.config.decoder, weights)
    if precision in SCHEMES:
        quantise_onnx(graph, precision)
    (folder / "onnx").mkdir(exist_ok=True)
    _save_onnx(graph, folder / "onnx" / f"{name}.onnx")


def _write_quantised_onnx(
    source: ModelFolder, folder: Path, part: str, tensors: Mapping[str, Float32], precision: str
) -> None:
    """The graphs and, beside them, one file of their weights."""
    exact, config = exact_storage(tensors), source.config.language_model
    graphs = {_PARTS[part].graph: _graph(source, part, exact)}
    # Heads that must be padded for the fused graph leave no matrix that could be quantised.
    if part == "lm" and padded_head(config) == config.head_dim:
        graphs[FUSED_LANGUAGE_MODEL] = fused_language_model_graph(config, exact)
    for graph in graphs.values():
        quantise_onnx(graph, precision)
    out = folder / "onnx"
    out.mkdir(exist_ok=True)
    data = out / f"{_PARTS[part].graph}.data"
    data.unlink(missing_ok=True)  # the library appends to an existing file
    first, *others = graphs.values()
    convert_model_to_external_data(first, location=data.name)
    with writing(data):
        write_external_data_tensors(first, str(out))
    data.chmod(0o644)
    external = {tensor.name: tensor for tensor in first.graph.initializer if tensor.external_data}
    for graph in others:
        for tensor in graph.graph.initializer:
            if tensor.name in external:
                tensor.CopyFrom(external[tensor.name])
    for name, graph in graphs.items():
        _save_onnx(graph, out / f"{name}.onnx")


def _save_onnx(graph: onnx.ModelProto, path: Path) -> None:
    with writing(path):
        path.write_bytes(graph.SerializeToString(deterministic=True))
    if path.stem == FUSED_LANGUAGE_MODEL:
        return  # the checker does not know its operators
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"the written graph {path.name} is not valid ONNX: {error}") from None


def _write_openvino(
    source: ModelFolder, folder: Path, part: str, tensors: Mapping[str, Float32], precision: str
) -> None:
    from soprano.onnx_graphs.openvino_import import ov
    from soprano.onnx_graphs.openvino_passes import convert

    names = _PARTS[part]
    (folder / "openvino").mkdir(exist_ok=True)
    weights = exact_storage(tensors) if precision in SCHEMES else _narrow(tensors, precision)
    graph = _graph(source, part, weights).SerializeToString(deterministic=True)
    config = source.config.language_model if part == "lm" else None
    path = folder / "openvino" / f"{names.graph}.xml"
    model = convert(GraphSource(folder, None, graph), config)
    if precision in SCHEMES:
        quantise_openvino(model, precision)
    with writing(path):  # the default rounds every weight to fp16
        ov.save_model(model, path, compress_to_fp16=False)


def trial_run(folder: Path, to: str, precision: str) -> None:
    """Run every graph in the folder, at the lengths where exports break first."""
    backend = open_backend(f"{to}_cpu", folder, precision=precision)
    config, community = backend.config, not backend.capabilities.spectrum
    decode: Any = getattr(backend, "decode_audio" if community else "decode")
    graphs = {path.stem for path in (folder / to).iterdir()}
    values: list[Float32] = []
    if LANGUAGE_MODEL in graphs or community:
        ids = np.array([[config.language_model.eos_token_id] * 3] * 2, np.int64)
        first = backend.prefill(ids, np.array([3, 1]))
        second = backend.step(ids[:, 0], first.state)
        values += [first.logits, first.hidden, second.logits, second.hidden]
    if DECODER in graphs or community:
        for tokens in (1, 3):
            hidden = np.zeros((2, tokens, config.language_model.hidden_size), np.float32)
            values.append(decode(hidden, np.array([tokens, tokens])))
    backend.close()
    if not all(np.isfinite(value).all() for value in values):
        raise ModelError(f"the written {to} graphs return values that are not finite")


def _write_manifest(folder: Path, origin: Mapping[str, str], tensors: list[str]) -> None:
    precision = origin["precision"]
    rounded = precision in SCHEMES
    document = {
        "schema_version": SCHEMA_VERSION,
        **({"layout": origin["layout"]} if origin["layout"] != "bundle" else {}),
        "model": {"identity": origin["identity"]},
        # Golden packs are found by the identity of their model.
        "golden_pack": origin["identity"],
        "precision": {
            "class": precision,
            "activations": ACTIVATIONS if rounded else dict.fromkeys(RUNTIMES, "float32"),
            "layers": describe(tensors, precision),
        },
        "onnx": {"opset": OPSET, "ir_version": IR_VERSION},
        "tools": {name: _version(name) for name in _TOOLS},
    }
    write_manifest(folder, document)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
