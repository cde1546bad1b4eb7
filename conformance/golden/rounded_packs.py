"""What a backend in another precision class than float32 is judged by.

By its source: the class's own rounding on the source's weights sets the budget.
By what it holds: a quantised graph is a float model of other weights, and where activations stay
float it must be that model as exactly as any float32 backend.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from conformance.golden.expectations import expect_decoder, expect_language_model
from conformance.golden.inputs import Arrays
from conformance.golden.packs import (
    Floor,
    Pack,
    find_pack,
    fixture_models,
    floors_of,
    weights_digest,
)
from conformance.golden.quantised_weights import checkpoint, read_stored
from conformance.oracle.precision_classes import (
    CLASSES,
    ROUNDED_INPUTS,
    Precision,
    RoundedDecoder,
    RoundedLanguageModel,
)
from soprano.backends import Backend
from soprano.checkpoint.folder import ModelFolder

_HELD: dict[str, Pack] = {}  # by the identity of the weights


def find_source(model: Path, reference: Path | None) -> ModelFolder:
    """The checkpoint that a bundle was made from: named, or one that comes with the suite.

    Raises:
        LookupError: it is neither.
    """
    if reference:
        return ModelFolder.open(reference)
    identity = weights_digest(ModelFolder.open(model))
    for path in fixture_models():
        if weights_digest(ModelFolder.open(path)) == identity:
            return ModelFolder.open(path)
    raise LookupError(f"{model} is rounded and its source is unknown: name it with --reference")


def class_floors(
    folder: ModelFolder, arrays: Arrays, precision: Precision, name: str
) -> dict[str, Floor]:
    """The error of a precision class on every quantity, by its definition on a model's weights."""
    config = folder.config
    language_model = RoundedLanguageModel(
        config.language_model, folder.language_model_weights(), precision
    )
    decoder = RoundedDecoder(config.decoder, folder.decoder_weights(), precision)
    rounded = expect_language_model(language_model, arrays)
    rounded |= expect_decoder(decoder, config.decoder, arrays)
    return {
        quantity: replace(floor, precision=name)
        for quantity, floor in floors_of(rounded, arrays).items()
    }


def source_pack(source: Path, precision: str) -> Pack:
    """The source's expectations, with the class's own error as the floor."""
    pack = find_pack(source)
    floors = class_floors(ModelFolder.open(source), pack.arrays, CLASSES[precision], precision)
    return replace(pack, floors=floors, source=f"{pack.source}, {precision} by definition")


def runtime_of(backend: Backend, model: Path) -> str:
    """Which of a bundle's graphs a backend runs: its own runtime's, else ONNX."""
    own = backend.name.removesuffix("_cpu")
    return own if (model / own).is_dir() else "onnx"


def find_rounded_pack(backend: Backend, model: Path, source: ModelFolder) -> Pack:
    """The expectations of the weights that a rounded bundle holds.

    A model that is not a bundle of known form is judged by its source.
    """
    precision = backend.capabilities.precision
    language_model, decoder = source.language_model_weights(), source.decoder_weights()
    stored = read_stored(model, runtime_of(backend, model))
    if precision == "fp16":
        for weights in (language_model, decoder):
            for name, values in weights.items():
                weights[name] = values.astype(np.float16).astype(np.float32)
    elif not stored:
        return source_pack(source.path, precision)
    with checkpoint(source, language_model, decoder, stored) as held:
        identity = weights_digest(held) or ""
        if identity not in _HELD:  # both runtimes hold the same levels
            _HELD[identity] = find_pack(held.path)
        pack = _HELD[identity]
        if backend.capabilities.activations == "float32":
            return pack
        floors = class_floors(held, pack.arrays, ROUNDED_INPUTS, "int8")
        return replace(pack, floors=floors)
