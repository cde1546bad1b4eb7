"""OpenVINO on the CPU, with the KV cache as the runtime's own state."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from soprano.backends.base import ComposedBackend, naming, network_files, require_precision
from soprano.backends.dynamic_cache import DynamicCache
from soprano.backends.matmul_precision import (
    attested_weights,
    count_openvino_attention,
    count_openvino_matmuls,
)
from soprano.backends.openvino_ir import require_sound_ir
from soprano.backends.protocol import Attestation, Attested, Capabilities, Float32, Int64
from soprano.checkpoint.folder import ModelFolder
from soprano.checkpoint.manifest import NAME as MANIFEST
from soprano.checkpoint.manifest import sha256
from soprano.errors import BackendError, ModelError, brief
from soprano.forked import Process
from soprano.onnx_graphs.openvino_import import ov
from soprano.onnx_graphs.openvino_passes import convert
from soprano.onnx_graphs.source import (
    DECODER,
    LANGUAGE_MODEL,
    GraphSource,
    files_of,
    find_graph,
    require,
)

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
KEPT = 4  # compiled language models that stay in memory when their backends are closed


class OpenVinoBackend(ComposedBackend):
    """The IR of a bundle, or ONNX graphs that are converted at load."""

    files = network_files

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, "openvino_cpu")
        network = OpenVinoNetwork(folder, threads)
        capabilities = Capabilities(precision, folder.activations("openvino"), verify=True)
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
                " ".join(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")), "read back"
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
        model, idle = require(self._models.get(part), part, self._path), self._idle[part]
        try:
            request = idle.pop()  # one operation: another thread may take the last
        except IndexError:
            request = model.create_infer_request()
        return Request(request, idle, f"OpenVINO cannot run {part} of {self._path}")

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

    def __init__(self, runtime: ov.InferRequest, idle: list[ov.InferRequest], failure: str) -> None:
        self.runtime = runtime
        self._idle, self._failure = idle, failure

    def infer(self, inputs: dict[str, Any]) -> Any:
        """Outputs by name, as copies."""
        with naming(self._failure):
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
    if isinstance(source, Path):
        _require_ir(folder, source)

    def compile_model() -> ov.CompiledModel:
        if isinstance(source, Path):
            model: Any = core().read_model(source)
        else:
            model = convert(source, config)
        return core().compile_model(model, "CPU", {**settings, **LIMITS})

    try:
        if part == DECODER:
            compiled = compile_model()
        else:
            content = _digest(folder, source)
            compiled = _language_models.get((content, config, *settings.items()), compile_model)
    except RuntimeError as error:
        reason = ModelError(f"OpenVINO cannot load {part} of {folder.path}: {brief(error)}")
        raise folder.damage() or reason from None
    for name, requested in settings.items():
        if (granted := _property(compiled, name)) != requested:
            raise BackendError(f"OpenVINO: {name}={requested} was requested, it uses {granted}")
    return compiled


def _require_ir(folder: ModelFolder, path: Path) -> None:
    """An error unless an IR may be given to the runtime, which trusts the numbers in it."""
    if not folder.is_bundle:
        raise ModelError(f"{path} is not listed by a {MANIFEST}: export the model again")
    require_sound_ir(path)


class _LanguageModels:
    """The last compiled language models, for backends that open the same model again.

    The CPU plugin never releases a compiled model that attends to its own state: each one
    that is closed would leave its memory and a thread behind.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], ov.CompiledModel] = OrderedDict()
        self._lock = threading.Lock()
        Process("OpenVINO", self)  # a process that is forked must not release them

    def get(
        self, key: tuple[object, ...], compile_model: Callable[[], ov.CompiledModel]
    ) -> ov.CompiledModel:
        key = (os.getpid(), *key)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = compile_model()
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


_language_models = _LanguageModels()


@cache
def core() -> ov.Core:
    return ov.Core()


def _digest(folder: ModelFolder, source: Path | GraphSource) -> str:
    """The SHA-256 of a language model: of its graph and its weights."""
    if isinstance(source, Path):
        content, files = b"", [source, source.with_suffix(".bin")]
    else:
        content, files = source.content or b"", files_of(folder, LANGUAGE_MODEL)
    parts = [hashlib.sha256(content).hexdigest(), *map(sha256, files)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _property(compiled: ov.CompiledModel, name: str) -> str:
    value = compiled.get_property(name)
    if isinstance(value, ov.Type):
        return str(value.get_type_name())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(getattr(value, "name", value))
