"""Golden packs: a model's inputs, float64 expectations, and the reference's noise floors.

A pack is found by the digest of the model's weights. Without one, the expectations are evaluated
from the model's weights, and the noise floors are measured with the float32 PyTorch reference.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.golden.expectations import Networks, evaluate, stretch
from conformance.golden.inputs import LONG, PREFIXES, STRETCHES, Arrays
from conformance.golden.observations import observe
from soprano.checkpoint.contents import parsing
from soprano.checkpoint.folder import ModelFolder, locate
from soprano.checkpoint.manifest import read_manifest
from soprano.checkpoint.tensors import identity
from soprano.regular_files import open_regular
from soprano.synthesis import DEFAULT_MODEL, shared_stages

_PACKAGE = Path(__file__).parents[1]
LEAST_MAX_LENGTH = 160  # ids that the prompts with their teacher-forced ids need


@dataclass(frozen=True)
class Floor:
    """The float32 reference's error against the float64 expectation.

    Of all elements, of the worst element, and of the worst row (what the last axis holds).
    """

    rms: float
    worst: float
    row: float
    precision: str = "fp32"  # the class whose error it is


@dataclass(frozen=True)
class Pack:
    """Golden inputs and expected outputs of one model, with the reference's noise floors."""

    arrays: Arrays
    floors: dict[str, Floor]
    source: str  # where expectations and noise floors come from; shown in failures and reports
    networks: Callable[[], Networks]  # the oracle, for inputs that have no golden value
    same_weights: bool = True  # whether the backend has the oracle's weights, and no others
    own_floors: dict[str, Floor] | None = None  # of outputs that must agree, where they differ


def fixtures_folder() -> Path:
    """The fixtures in the installed package, else in the checkout."""
    packed = _PACKAGE / "data"
    return packed if packed.is_dir() else _PACKAGE.parent / "fixtures"


def fixture_models() -> list[Path]:
    """The model folders that come with the suite and with the package."""
    from soprano.checkpoint.folder import embedded_models

    found = {
        path.parent.name: path.parent for path in fixtures_folder().glob("micro/*/config.json")
    }
    return [path for _, path in sorted({**embedded_models(), **found}.items())]


def weights_digest(folder: ModelFolder) -> str | None:
    """SHA-256 of the source weights: read from a bundle's manifest, else computed."""
    if manifest := read_manifest(folder.path):
        return str(manifest["model"]["identity"])
    if not folder.has_weights:
        return None
    parts = {"lm": folder.language_model_weights(), "decoder": folder.decoder_weights()}
    return identity(
        (f"{part}:{name}", values) for part, own in parts.items() for name, values in own.items()
    )


def is_trained_voice(folder: ModelFolder) -> bool:
    """Whether a model is the embedded voice, the one whose weights speak words, or made from it."""
    embedded = ModelFolder.open(locate(DEFAULT_MODEL))
    return weights_digest(folder) == weights_digest(embedded)


def read_packs() -> dict[str, Path]:
    """The golden packs at hand by the identity of their models."""
    found = {}
    for path in sorted((fixtures_folder() / "golden").glob("*.safetensors")):
        found[read_metadata(path)["identity"]] = path
    return found


def read_metadata(path: Path) -> dict[str, str]:
    """What a golden pack states about itself.

    Raises:
        ModelError: the file is no golden pack.
    """
    from safetensors import safe_open

    with parsing("a golden pack", path), open_regular(path), safe_open(path, "numpy") as file:
        metadata: dict[str, str] = file.metadata() or {}
        if missing := [name for name in ("identity", "floors") if name not in metadata]:
            raise ValueError(f"its metadata lack {missing[0]}")
        return metadata


def read_pack(path: Path, source: ModelFolder) -> Pack:
    """A golden pack of a model folder, or of the checkpoint that it was made from."""
    from safetensors.numpy import load_file

    metadata = read_metadata(path)
    with parsing("a golden pack", path):
        floors = {name: Floor(**own) for name, own in json.loads(metadata["floors"]).items()}
        arrays = load_file(path)
    return Pack(arrays, floors, f"pack {path.name}", cache(partial(_networks, source)))


def find_pack(model: Path, reference: Path | None = None) -> Pack:
    """The pack that a model is judged by: of its own weights, or of the reference's.

    Raises:
        LookupError: there is neither a pack nor weights, or no noise floor can be had.
    """
    folder = ModelFolder.open(model)
    source = ModelFolder.open(reference) if reference else folder
    # Rounded weights are another model: they are judged by what they are, not by their source.
    rounded = folder.precision != "fp32" and source.has_weights
    pack = None if reference or rounded else read_packs().get(weights_digest(folder) or "")
    if pack is None and not source.has_weights:
        raise LookupError(
            f"{model} carries no weights and no golden pack is of its model: "
            "name its checkpoint with --reference"
        )
    if pack:
        return read_pack(pack, source)
    arrays = evaluate(source)
    try:
        floors = measure_floors(source, arrays)
    except ImportError:
        raise LookupError("the noise floor needs PyTorch: install the extra [torch]") from None
    name = f"oracle on {source.path.name}, floors measured with PyTorch"
    return Pack(arrays, floors, name, cache(partial(_networks, source)))


def fitted(pack: Pack, max_length: int | None) -> Pack:
    """The pack without the sequences that are longer than a backend's declared maximum.

    Raises:
        LookupError: the maximum is too small for the shorter sequences too.
    """
    if max_length is None or max_length >= LONG:
        return pack
    if max_length < LEAST_MAX_LENGTH:
        raise LookupError(f"max_length must be at least {LEAST_MAX_LENGTH}, got {max_length}")
    arrays = pack.arrays | {"long ids": pack.arrays["long ids"][:max_length]}
    for kind in ("logits", "hidden"):
        kept = {f"prefix {kind}": sum(length <= max_length for length in PREFIXES)}
        for start, stop in STRETCHES:
            positions = stretch(start, stop, kind)
            kept[f"long {start}-{stop} {kind}"] = sum(place < max_length for place in positions)
        arrays |= {name: arrays[name][:count] for name, count in kept.items()}
    return replace(pack, arrays=arrays)


def fixture_of(folder: ModelFolder) -> ModelFolder | None:
    """The model of the suite whose weights a folder holds or was made from."""
    digest = weights_digest(folder)
    models = map(ModelFolder.open, fixture_models())
    return next((model for model in models if weights_digest(model) == digest), None)


def _networks(folder: ModelFolder) -> Networks:
    owner = folder if folder.has_weights else fixture_of(folder)
    if owner is None:
        raise LookupError(f"{folder.path} carries no weights and no model of the suite is its own")
    return Networks.of(owner)


def measure_floors(
    folder: ModelFolder, arrays: Arrays, threads: int | None = None
) -> dict[str, Floor]:
    """The error of the plain PyTorch reference on every quantity that has an expectation."""
    from soprano.backends.pytorch_reference import PyTorchReferenceBackend

    reference = PyTorchReferenceBackend(folder, precision=folder.precision, threads=threads)
    return floors_of(observe(shared_stages(reference, folder.path), arrays), arrays)


def floors_of(observed: Arrays, arrays: Arrays) -> dict[str, Floor]:
    """The errors of observed outputs against their expectations."""
    floors = {name: noise_floor(values, arrays[name]) for name, values in observed.items()}
    expected = arrays["spectrum"]
    floors["relative spectrum"] = noise_floor(
        relative(observed["spectrum"], expected), relative(expected, expected)
    )
    return floors


def noise_floor(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Floor:
    """The error of an output, in the three measures of `Floor`."""
    error = np.abs(actual.astype(np.float64) - expected)
    rows = np.sqrt(np.mean(error**2, axis=-1))
    return Floor(float(np.sqrt(np.mean(error**2))), float(error.max()), float(rows.max()))


def relative(spectrum: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Complex values, flat, in units of the expected magnitude; silent bins are left out.

    Quiet bins count as much as loud ones here, whose errors hide theirs in absolute terms.
    """
    kept, pairs = heard(expected), expected.reshape(-1, 2).astype(np.float64)
    magnitude = np.hypot(*pairs[kept].T)[:, None]
    scaled = spectrum.reshape(-1, 2)[kept].astype(np.float64) / magnitude
    return scaled.ravel().astype(np.float32)


def heard(expected: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which complex values of a spectrum, flat, are not 0."""
    kept: npt.NDArray[np.bool_] = expected.reshape(-1, 2).any(axis=1)
    return kept
