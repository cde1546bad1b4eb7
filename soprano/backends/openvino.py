"""OpenVINO on the CPU, with the KV cache as the runtime's own state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from soprano.backends.base import ComposedBackend, network_files, require_precision
from soprano.backends.dynamic_cache import DynamicCache
from soprano.backends.matmul_precision import (
    attested_weights,
    count_openvino_attention,
    count_openvino_matmuls,
)
from soprano.backends.protocol import Attestation, Attested, Capabilities, Float32, Int64
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError, ModelError
from soprano.onnx_graphs.openvino_import import ov
from soprano.onnx_graphs.openvino_passes import convert
from soprano.onnx_graphs.source import DECODER, LANGUAGE_MODEL, files_of, find_graph, require

PARTS = (LANGUAGE_MODEL, DECODER)
# The runtime's choice depends on the CPU: bfloat16, an 8-bit cache, quantised activations.
# Parity checks need these pinned.
SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "EXECUTION_MODE_HINT": "ACCURACY",
    "PERFORMANCE_HINT": "LATENCY",
}
# Compiled kernels kept, each for one shape: with the default of 5000 a long text can fill
# gigabytes. It changes no result, costs no time, and cannot be read back.
LIMITS = {"CPU_RUNTIME_CACHE_CAPACITY": "16"}


class OpenVinoBackend(ComposedBackend):
    """The IR of a bundle, or ONNX graphs that are converted at load."""

    files = network_files

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, "openvino_cpu")
        network = OpenVinoNetwork(folder, threads)
        capabilities = Capabilities(precision, folder.activations("openvino"))
        super().__init__("openvino_cpu", network, DynamicCache(), folder.config, capabilities)


class OpenVinoNetwork:
    """A `DynamicCacheNetwork` whose caches are the variables of infer requests."""

    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        settings = {**SETTINGS, **({"INFERENCE_NUM_THREADS": str(threads)} if threads else {})}
        compiled = {part: _compile(folder, part, settings) for part in PARTS}
        self._path = folder.path
        self._models = {part: model for part, model in compiled.items() if model is not None}
        if not self._models:
            raise folder.without_graphs("graphs")
        self._idle: dict[str, list[ov.InferRequest]] = {part: [] for part in self._models}

    def attest(self) -> Attestation:
        models = self._models.values()

        def granted(name: str) -> Attested:
            return Attested(_property(next(iter(models)), name), "read back")

        group = granted("DYNAMIC_QUANTIZATION_GROUP_SIZE")
        return {
            "version": Attested(ov.get_version(), "read back"),
            "device": granted("EXECUTION_DEVICES"),
            "threads": granted("INFERENCE_NUM_THREADS"),
            "precision": granted("INFERENCE_PRECISION_HINT"),
            "cache precision": granted("KV_CACHE_PRECISION"),
            "dynamic quantisation group": group,
            "optimisation": granted("EXECUTION_MODE_HINT"),
            "instruction set": Attested(
                " ".join(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")), "read back"
            ),
            "attention operators": Attested(
                str(sum(map(count_openvino_attention, models))), "read back"
            ),
            "weights": attested_weights(map(count_openvino_matmuls, models), "read back"),
            "activations": Attested("float32" if group.value == "0" else "int8", "read back"),
        }

    def run(
        self, ids: Int64, attention_mask: Int64, positions: Int64, cache: Request
    ) -> tuple[Float32, Float32, Request]:
        results = cache.infer(
            {"input_ids": ids, "attention_mask": attention_mask, "position_ids": positions}
        )
        return results["logits"], results["last_hidden_state"], cache

    def decode(self, hidden: Float32) -> Float32:
        request = self._request(DECODER)
        spectrum: Float32 = request.infer({"hidden_states": np.ascontiguousarray(hidden)})[
            "spectrum"
        ]
        return spectrum

    def empty_cache(self, batch: int) -> Request:
        cache = self._request(LANGUAGE_MODEL)
        cache.runtime.reset_state()
        return cache

    def read_cache(self, cache: Request) -> list[Float32]:
        return [np.array(variable.state.data) for variable in cache.variables()]

    def write_cache(self, arrays: list[Float32]) -> Request:
        cache = self._request(LANGUAGE_MODEL)
        for variable, array in zip(cache.variables(), arrays, strict=True):
            variable.state = ov.Tensor(np.ascontiguousarray(array))
        return cache

    def _request(self, part: str) -> Request:
        model, idle = require(self._models.get(part), part), self._idle[part]
        try:
            return Request(idle.pop(), idle)  # one operation: another thread may take the last
        except IndexError:
            return Request(model.create_infer_request(), idle)

    def files(self) -> list[Path]:
        """The IR with its weights, or ONNX graphs with theirs."""
        folder = ModelFolder.open(self._path)
        if paths := _ir_files(folder).values():
            return [file for path in paths for file in (path, path.with_suffix(".bin"))]
        found = (files_of(folder, part) for part in PARTS)
        return list(dict.fromkeys(file for files in found for file in files))

    def close(self) -> None:
        for requests in self._idle.values():
            requests.clear()


class Request:
    """An infer request in use by one call or by one KV cache; idle again when this is dropped.

    A compiled model's own request is shared by all threads, whose inputs and outputs would mix.
    """

    def __init__(self, runtime: ov.InferRequest, idle: list[ov.InferRequest]) -> None:
        self.runtime = runtime
        self._idle = idle

    def infer(self, inputs: dict[str, Any]) -> Any:
        """Outputs by name, as copies."""
        return self.runtime.infer(inputs, share_inputs=False, share_outputs=False)

    def variables(self) -> list[Any]:
        """The variables of a language model, each (B, KV heads, S, head_dim), in a fixed order."""
        return sorted(self.runtime.query_state(), key=lambda variable: variable.name)

    def __del__(self) -> None:
        self._idle.append(self.runtime)


def _ir_files(folder: ModelFolder) -> dict[str, Path]:
    """The IR of each part that a bundle has."""
    paths = {part: folder.path / "openvino" / f"{part}.xml" for part in PARTS}
    return {part: path for part, path in paths.items() if path.is_file()}


def _compile(folder: ModelFolder, part: str, settings: dict[str, str]) -> ov.CompiledModel | None:
    config = folder.config.language_model if part == LANGUAGE_MODEL else None
    ir = _ir_files(folder)
    source = ir.get(part) if ir else find_graph(folder, part)
    if source is None:
        return None
    try:
        model: Any = (
            ov.Core().read_model(source) if isinstance(source, Path) else convert(source, config)
        )
        compiled = ov.Core().compile_model(model, "CPU", {**settings, **LIMITS})
    except RuntimeError as error:
        reason = ModelError(f"OpenVINO cannot load {part} of {folder.path}: {error}")
        raise folder.damage() or reason from None
    for name, requested in settings.items():
        if (granted := _property(compiled, name)) != requested:
            raise BackendError(f"OpenVINO: {name}={requested} was requested, it uses {granted}")
    return compiled


def _property(compiled: ov.CompiledModel, name: str) -> str:
    value = compiled.get_property(name)
    if isinstance(value, ov.Type):
        return str(value.get_type_name())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(getattr(value, "name", value))
