"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort

from soprano.backends import Attestation, Attested, Capabilities, Float32, Int64
from soprano.backends.graphs import (
    DECODER,
    LANGUAGE_MODEL,
    GraphSource,
    find_graph,
    require,
)
from soprano.backends.rows import RowBackend, require_precision, widen_cache
from soprano.errors import BackendError, ModelError
from soprano.export.names import cache_names
from soprano.model import ModelFolder

Cache = list[ort.OrtValue]  # keys and values layer by layer, each (B, KV heads, S, head_dim)

_PROVIDER = "CPUExecutionProvider"


class OnnxBackend(RowBackend):
    """The graphs of a bundle or of a checkpoint; the cache stays in the runtime's tensors."""

    name = "onnx_cpu"

    def __init__(
        self, folder: ModelFolder, *, precision: str = "fp32", threads: int | None = None
    ) -> None:
        require_precision(precision, folder.precision, self.name)
        self.config = folder.config
        self.capabilities = Capabilities(precision=precision)
        self._threads = threads
        graphs = {part: find_graph(folder, part) for part in (LANGUAGE_MODEL, DECODER)}
        if not any(graphs.values()):
            raise ModelError(
                f"{folder.path} has neither ONNX graphs nor weights to write them from"
            )
        self._sessions = {part: self._session(g) for part, g in graphs.items() if g}

    @property
    def _language_model(self) -> ort.InferenceSession:
        return require(self._sessions.get(LANGUAGE_MODEL), LANGUAGE_MODEL)

    @property
    def _decoder(self) -> ort.InferenceSession:
        return require(self._sessions.get(DECODER), DECODER)

    def _session(self, graph: GraphSource) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = self._threads or 0
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(graph.folder)
        )
        source: Any = str(graph.path) if graph.path else graph.content
        try:
            session = ort.InferenceSession(source, options, providers=[_PROVIDER])
        except Exception as error:  # the runtime's errors share no base but Exception
            where = graph.path or graph.folder
            raise ModelError(f"ONNX Runtime cannot load {where}: {error}") from None
        granted = session.get_session_options()
        if session.get_providers() != [_PROVIDER]:
            raise BackendError(f"ONNX Runtime uses {session.get_providers()}, not {_PROVIDER}")
        if self._threads and granted.intra_op_num_threads != self._threads:
            raise BackendError(
                f"ONNX Runtime uses {granted.intra_op_num_threads} threads, not {self._threads}"
            )
        return session

    def attest(self) -> Attestation:
        session = next(iter(self._sessions.values()))
        options = session.get_session_options()
        threads = options.intra_op_num_threads
        return {
            "version": Attested(ort.__version__, "read back"),
            "device": Attested(" ".join(session.get_providers()), "read back"),
            "threads": Attested(str(threads or "one a core"), "read back"),
            "precision": Attested(_probe_precision(options), "inferred"),
            "cache precision": Attested(session.get_inputs()[-1].type, "read back"),
            "optimisation": Attested(options.graph_optimization_level.name, "read back"),
            "instruction set": Attested(" ".join(_simd()), "inferred"),
        }

    def _run(
        self, ids: Int64, mask: Int64, positions: Int64, cache: Cache
    ) -> tuple[Float32, Float32, Cache]:
        session = self._language_model
        binding = session.io_binding()
        for name, values in (
            ("input_ids", ids),
            ("attention_mask", mask),
            ("position_ids", positions),
        ):
            binding.bind_cpu_input(name, np.ascontiguousarray(values))
        names = cache_names(self.config.language_model.num_hidden_layers)
        for (name, _), past in zip(names, cache, strict=True):
            binding.bind_ortvalue_input(name, past)
        for name in ("logits", "last_hidden_state", *(present for _, present in names)):
            binding.bind_output(name)  # the runtime allocates: sizes grow with the cache
        session.run_with_iobinding(binding)
        logits, hidden, *present = binding.get_outputs()
        return logits.numpy(), hidden.numpy(), present

    def _spectrum(self, hidden: Float32) -> Float32:
        inputs = {"hidden_states": np.ascontiguousarray(hidden)}
        spectrum: Float32 = self._decoder.run(["spectrum"], inputs)[0]
        return spectrum

    def _empty(self, batch: int) -> Cache:
        model = self.config.language_model
        empty = np.zeros((batch, model.num_key_value_heads, 0, model.head_dim), np.float32)
        return [ort.OrtValue.ortvalue_from_numpy(empty)] * (2 * model.num_hidden_layers)

    def _copy(self, cache: Cache) -> Cache:
        return cache  # tensors of a cache are never written to

    def _take(self, cache: Cache, rows: Int64, columns: Int64) -> Cache:
        return [_value(past.numpy()[rows][:, :, columns]) for past in cache]

    def _merge(self, first: Cache, second: Cache) -> Cache:
        width = max(first[0].shape()[2], second[0].shape()[2])
        return [
            _value(np.concatenate([widen_cache(x.numpy(), width) for x in pair]))
            for pair in zip(first, second, strict=True)
        ]


def _value(array: Float32) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _simd() -> list[str]:
    """The instruction sets that NumPy found on this CPU (the runtime does not tell its own)."""
    found: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return found or ["baseline"]


def _probe_precision(options: ort.SessionOptions) -> str:
    """The precision of a matrix product under these options: 1 + 2**-12 is 1 in bfloat16."""
    from onnx import TensorProto, helper

    size = 64
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "probe",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [size, size])
            for name in ("x", "w")
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[_PROVIDER])
    x = np.eye(size, dtype=np.float32) * np.float32(1 + 2**-12)
    product = session.run(None, {"x": x, "w": np.eye(size, dtype=np.float32)})[0]
    return "float32" if np.array_equal(product, x) else "below float32"
