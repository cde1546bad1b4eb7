"""OpenVINO on the CPU, with the cache as the runtime's own state."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from soprano.backends import Attestation, Attested, Capabilities, Float32, Int64
from soprano.backends.base import require_precision
from soprano.backends.dynamic_cache import GrowingCacheBackend, widen_cache
from soprano.backends.matmul_precision import (
    attested_weights,
    openvino_attention,
    openvino_products,
)
from soprano.backends.openvino_import import ov
from soprano.backends.openvino_passes import keep_cache
from soprano.checkpoint.folder import ModelFolder
from soprano.config import LanguageModelConfig
from soprano.errors import BackendError, ModelError
from soprano.onnx_graphs.source import (
    DECODER,
    LANGUAGE_MODEL,
    GraphSource,
    find_graph,
    require,
)

# What the runtime would choose by the CPU (bfloat16, an 8-bit cache, quantised activations) is
# pinned to what a parity check needs.
_SETTINGS = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "EXECUTION_MODE_HINT": "ACCURACY",
    "PERFORMANCE_HINT": "LATENCY",
}
# Kernels kept, each for one shape: by its default of 5000 a long text can fill gigabytes.
# It changes no number, costs no time, and cannot be read back.
_LIMITS = {"CPU_RUNTIME_CACHE_CAPACITY": "16"}


class OpenVinoBackend(GrowingCacheBackend):
    """The IR of a bundle, or ONNX graphs converted at load."""

    name = "openvino_cpu"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        self.config = folder.config
        self.capabilities = Capabilities(precision, folder.activations("openvino"))
        settings = {**_SETTINGS, **({"INFERENCE_NUM_THREADS": str(threads)} if threads else {})}
        models = {part: _compile(folder, part, settings) for part in (LANGUAGE_MODEL, DECODER)}
        self._models = {part: model for part, model in models.items() if model is not None}
        if not self._models:
            raise ModelError(f"{folder.path} has neither graphs nor weights to write them from")
        self._idle: list[ov.InferRequest] = []

    def attest(self) -> Attestation:
        def granted(name: str) -> Attested:
            return Attested(_property(next(iter(self._models.values())), name), "read back")

        return {
            "version": Attested(ov.get_version(), "read back"),
            "device": granted("EXECUTION_DEVICES"),
            "threads": granted("INFERENCE_NUM_THREADS"),
            "precision": granted("INFERENCE_PRECISION_HINT"),
            "cache precision": granted("KV_CACHE_PRECISION"),
            "dynamic quantisation group": granted("DYNAMIC_QUANTIZATION_GROUP_SIZE"),
            "optimisation": granted("EXECUTION_MODE_HINT"),
            "instruction set": Attested(
                " ".join(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")), "read back"
            ),
            "attention operators": Attested(
                str(sum(map(openvino_attention, self._models.values()))), "read back"
            ),
            "weights": attested_weights(map(openvino_products, self._models.values()), "read back"),
            "activations": Attested(
                "float32" if granted("DYNAMIC_QUANTIZATION_GROUP_SIZE").value == "0" else "int8",
                "read back",
            ),
        }

    def _run(
        self, ids: Int64, mask: Int64, positions: Int64, cache: _Slot
    ) -> tuple[Float32, Float32, _Slot]:
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        results = cache.request.infer(inputs, share_inputs=False, share_outputs=False)
        return results["logits"], results["last_hidden_state"], cache

    def _spectrum(self, hidden: Float32) -> Float32:
        decoder = require(self._models.get(DECODER), DECODER)
        spectrum: Float32 = decoder(
            {"hidden_states": np.ascontiguousarray(hidden)}, share_inputs=False, share_outputs=False
        )["spectrum"]
        return spectrum

    def _slot(self) -> _Slot:
        model = require(self._models.get(LANGUAGE_MODEL), LANGUAGE_MODEL)
        return _Slot(self._idle.pop() if self._idle else model.create_infer_request(), self._idle)

    def _empty(self, batch: int) -> _Slot:
        slot = self._slot()
        slot.request.reset_state()
        return slot

    def _copy(self, cache: _Slot) -> _Slot:
        slot = self._slot()
        slot.write(cache.read())
        return slot

    def _take(self, cache: _Slot, rows: Int64, columns: Int64) -> _Slot:
        cache.write({name: past[rows][:, :, columns] for name, past in cache.read().items()})
        return cache

    def _merge(self, first: _Slot, second: _Slot) -> _Slot:
        caches = first.read(), second.read()
        width = max(past.shape[2] for cache in caches for past in cache.values())
        first.write(
            {
                name: np.concatenate([widen_cache(cache[name], width) for cache in caches])
                for name in caches[0]
            }
        )
        return first

    def close(self) -> None:
        self._idle.clear()


class _Slot:
    """An infer request whose variables hold one batch's cache; idle again when it is dropped."""

    def __init__(self, request: ov.InferRequest, idle: list[ov.InferRequest]) -> None:
        self.request = request
        self._idle = idle

    def read(self) -> dict[str, Float32]:
        """Copies of the variables, each (B, KV heads, S, head_dim)."""
        return {state.name: np.array(state.state.data) for state in self.request.query_state()}

    def write(self, cache: dict[str, Float32]) -> None:
        for state in self.request.query_state():
            state.state = ov.Tensor(np.ascontiguousarray(cache[state.name]))

    def __del__(self) -> None:
        self._idle.append(self.request)


def convert(graph: GraphSource, config: LanguageModelConfig | None) -> ov.Model:
    """An ONNX graph as an OpenVINO model; a language model's (with its config) keeps its cache."""
    model = ov.Core().read_model(graph.path if graph.path else _inlined(graph))
    if config is not None:
        keep_cache(model, config)
    return model


def _inlined(graph: GraphSource) -> BytesIO:
    """A graph in memory with its weights inside: the converter finds files by a graph's path."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    model = onnx.load_from_string(graph.content or b"")
    load_external_data_for_model(model, str(graph.folder))
    return BytesIO(model.SerializeToString())


def _compile(folder: ModelFolder, part: str, settings: dict[str, str]) -> ov.CompiledModel | None:
    path = folder.path / "openvino" / f"{part}.xml"
    config = folder.config.language_model if part == LANGUAGE_MODEL else None
    source = path if path.is_file() else find_graph(folder, part)
    if source is None:
        return None
    try:
        model: Any = (
            ov.Core().read_model(source) if isinstance(source, Path) else convert(source, config)
        )
        compiled = ov.Core().compile_model(model, "CPU", {**settings, **_LIMITS})
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot load {part} of {folder.path}: {error}") from None
    for name, wanted in settings.items():
        if (granted := _property(compiled, name)) != wanted:
            raise BackendError(f"OpenVINO: {name}={wanted} was asked for, it uses {granted}")
    return compiled


def _property(compiled: ov.CompiledModel, name: str) -> str:
    value = compiled.get_property(name)
    if isinstance(value, ov.Type):
        return str(value.get_type_name())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(getattr(value, "name", value))
