"""Golden packs for backends of a lower precision class than float32.

A bundle is judged twice. Against the oracle on its source's weights, it may err as much as the
definition of its class does. Against the oracle on the weights that it holds, it may err only as
much as a float32 backend, unless its matmuls round their inputs.
A port that rounds a checkpoint itself is judged by its class only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from conformance.golden.expectations import Networks, expect_decoder, expect_language_model
from conformance.golden.inputs import Arrays
from conformance.golden.packs import (
    Floor,
    Pack,
    find_pack,
    fixture_of,
    floors_of,
    weights_digest,
)
from conformance.golden.quantised_weights import checkpoint, read_quantised
from conformance.oracle.precision_classes import (
    CLASSES,
    PER_TENSOR,
    ROUNDED_INPUTS,
    Precision,
    RoundedDecoder,
    RoundedLanguageModel,
)
from soprano.backends import Backend
from soprano.checkpoint.folder import ModelFolder

_HELD: dict[str, Pack] = {}  # packs of held weights, by the digest of the weights


def is_checkpoint(folder: ModelFolder) -> bool:
    """Whether a folder holds the weights as they were published, not rounded by an export."""
    return folder.precision == "fp32" and folder.has_weights


def find_source(model: Path, reference: Path | None) -> ModelFolder:
    """The checkpoint with the unrounded weights: the reference, the model itself or a fixture.

    Raises:
        LookupError: no reference is given, the model is a bundle, and it was made from none of
            the suite's models.
    """
    if reference:
        return ModelFolder.open(reference)
    folder = ModelFolder.open(model)
    if source := folder if is_checkpoint(folder) else fixture_of(folder):
        return source
    raise LookupError(f"{model} is rounded and its source is unknown: name it with --reference")


def rounded_networks(folder: ModelFolder, precision: Precision) -> Networks:
    """The oracle of a precision class on the weights of a model."""
    config = folder.config
    return Networks(
        RoundedLanguageModel(config.language_model, folder.language_model_weights(), precision),
        RoundedDecoder(config.decoder, folder.decoder_weights(), precision),
    )


def class_floors(
    folder: ModelFolder, arrays: Arrays, precision: Precision, name: str
) -> dict[str, Floor]:
    """The error that the definition of a precision class makes on a model, for every quantity."""
    networks = rounded_networks(folder, precision)
    outputs = expect_language_model(networks.language_model, arrays)
    outputs |= expect_decoder(networks.decoder, folder.config.decoder, arrays)
    return of_class(floors_of(outputs, arrays), name)


def of_class(floors: dict[str, Floor], name: str) -> dict[str, Floor]:
    """Noise floors as those of a precision class."""
    return {quantity: replace(floor, precision=name) for quantity, floor in floors.items()}


def definition_of(model: Path, precision: str) -> Precision:
    """The roundings of a class in the form that a model has: scales of rows, or of tensors."""
    graphs = ModelFolder.open(model).community_graphs
    pair = graphs.pairs.get(precision, ()) if graphs else ()
    per_tensor = precision == "int8" and any(graph.per_tensor for graph in pair)
    return PER_TENSOR if per_tensor else CLASSES[precision]


@cache
def source_pack(source: Path, precision: str, definition: Precision | None = None) -> Pack:
    """The source's expectations, with the error of the class's definition as the noise floor."""
    pack = find_pack(source)
    defined = definition or CLASSES[precision]
    floors = class_floors(ModelFolder.open(source), pack.arrays, defined, precision)
    # However coarse the weights, it is at most the rounding of inputs that depends on the call.
    own = source_pack(source, "int8").floors if precision == "int4" else None
    return replace(
        pack,
        floors=floors,
        source=f"{pack.source}, {precision} by definition",
        same_weights=False,
        own_floors=own,
    )


def runtime_of(backend: Backend, model: Path) -> str:
    """The runtime whose graphs of a bundle a backend runs: its own, or ONNX."""
    own = backend.name.removesuffix("_cpu")
    return own if (model / own).is_dir() else "onnx"


def find_rounded_pack(backend: Backend, model: Path, source: ModelFolder) -> Pack:
    """The pack of the weights that a rounded bundle holds.

    For a model that is not a bundle of a known form, the pack of its source: how a port rounds the
    weights of a checkpoint is not known.
    """
    precision, folder = backend.capabilities.precision, ModelFolder.open(model)
    if is_checkpoint(folder) or folder.community_graphs:
        return source_pack(source.path, precision, definition_of(model, precision))
    language_model, decoder = source.language_model_weights(), source.decoder_weights()
    quantised = read_quantised(model, runtime_of(backend, model))
    if precision == "fp16":
        for weights in (language_model, decoder):
            for name, values in weights.items():
                weights[name] = values.astype(np.float16).astype(np.float32)
    elif not quantised:
        return source_pack(source.path, precision)
    with checkpoint(source, language_model, decoder, quantised) as held:
        digest = weights_digest(held) or ""
        if digest not in _HELD:  # the runtimes hold the same quantised weights
            _HELD[digest] = find_pack(held.path)
            _HELD[digest].networks()  # read while the folder exists
        pack = _HELD[digest]
        if backend.capabilities.activations == "float32":
            return pack
        floors = class_floors(held, pack.arrays, ROUNDED_INPUTS, "int8")
        return replace(pack, floors=floors)
