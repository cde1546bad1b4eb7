"""ONNX Runtime on the CPU: sessions, the decoder, and the attestation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from soprano.backends.base import naming
from soprano.backends.matmul_precision import attested_weights, count_onnx_matmuls
from soprano.backends.protocol import Attestation, Attested, Float32
from soprano.checkpoint.folder import ModelFolder
from soprano.errors import BackendError, ModelError, brief
from soprano.onnx_graphs.source import (
    DECODER,
    LANGUAGE_MODEL,
    GraphSource,
    files_of,
    find_graph,
    require,
)

PROVIDER = "CPUExecutionProvider"


class OnnxNetwork:
    """The sessions of a model folder; subclasses run the language model.

    Args:
        folder: a bundle or a checkpoint; one of the two networks may be missing.
        threads: of each session; None leaves the runtime's default.
    """

    graph: str  # the language model's graph, by the stem of its file
    operators: str  # of that graph, as attested

    def __init__(self, folder: ModelFolder, threads: int | None) -> None:
        self.config, self._path = folder.config.language_model, folder.path
        self.failure = f"ONNX Runtime cannot run the graphs of {folder.path}"
        stems = {LANGUAGE_MODEL: self.graph, DECODER: DECODER}
        graphs = {
            part: graph for part, stem in stems.items() if (graph := find_graph(folder, stem))
        }
        if not graphs:
            raise folder.without_graphs("ONNX graphs")
        try:
            self._sessions = {part: open_session(graph, threads) for part, graph in graphs.items()}
        except ModelError as error:
            raise folder.damage() or error from None
        self._quantised = list(graphs.values()) if folder.quantised else []

    @property
    def language_model(self) -> ort.InferenceSession:
        return require(self._sessions.get(LANGUAGE_MODEL), LANGUAGE_MODEL, self._path)

    def decode(self, hidden: Float32) -> Float32:
        decoder = require(self._sessions.get(DECODER), DECODER, self._path)
        inputs = {"hidden_states": np.ascontiguousarray(hidden)}
        with naming(self.failure):
            spectrum: Float32 = decoder.run(["spectrum"], inputs)[0]
        return spectrum

    def attest(self) -> Attestation:
        attested = attest_session(next(iter(self._sessions.values())), self.operators)
        return attested | self._attest_matmuls() if self._quantised else attested

    def _attest_matmuls(self) -> Attestation:
        """What matmuls of quantised graphs read, according to the graphs as optimised."""
        counts, activations = zip(
            *(count_onnx_matmuls(_readable(g), _options(g, None)) for g in self._quantised),
            strict=True,
        )
        return {
            "weights": attested_weights(counts, "inferred"),
            "activations": Attested(
                " ".join(sorted(set().union(*activations))) or "float32", "inferred"
            ),
        }

    def files(self) -> list[Path]:
        """The graphs and their weights."""
        folder = ModelFolder.open(self._path)
        found = (files_of(folder, stem) for stem in (self.graph, DECODER))
        return list(dict.fromkeys(file for files in found for file in files))

    def close(self) -> None:
        """Sessions are released with the object."""


def attest_session(session: ort.InferenceSession, operators: str) -> Attestation:
    """The configuration of a session whose last input is a tensor of the KV cache."""
    options = session.get_session_options()
    return {
        "version": Attested(ort.__version__, "read back"),
        "device": Attested(" ".join(session.get_providers()), "read back"),
        "threads": Attested(str(options.intra_op_num_threads or "one a core"), "read back"),
        "graph": Attested(operators, "inferred"),
        "precision": Attested(_probe_precision(options), "inferred"),
        "cache precision": Attested(session.get_inputs()[-1].type, "read back"),
        "optimisation": Attested(options.graph_optimization_level.name, "read back"),
        "instruction set": Attested(" ".join(_instruction_sets()), "inferred"),
    }


def _options(graph: GraphSource, threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or 0
    for name, value in (
        ("session.model_external_initializers_file_folder_path", str(graph.folder)),
        # Weights get memory of their own, which is freed once they are packed.
        ("session.use_device_allocator_for_initializers", "1"),
        # Each session has its own threads. They spin during a run, since waking them for each
        # operator takes as long as many operators do, but must stop at its end: the decoder's
        # would occupy the cores that the language model's next step needs, and vice versa.
        ("session.force_spinning_stop", "1"),
    ):
        options.add_session_config_entry(name, value)
    return options


def _readable(graph: GraphSource) -> Any:
    return str(graph.path) if graph.path else graph.content


def open_session(graph: GraphSource, threads: int | None) -> ort.InferenceSession:
    """A session of one graph; an error if the runtime does not grant a setting."""
    options = _options(graph, threads)
    try:
        # Its fallback prints, and tries the same again.
        session = ort.InferenceSession(
            _readable(graph), options, providers=[PROVIDER], enable_fallback=0
        )
    except Exception as error:  # the runtime's errors share no base but Exception
        where = graph.path or graph.folder
        raise ModelError(f"ONNX Runtime cannot load {where}: {brief(error)}") from None
    granted = session.get_session_options()
    if session.get_providers() != [PROVIDER]:
        raise BackendError(f"ONNX Runtime uses {session.get_providers()}, not {PROVIDER}")
    if threads and granted.intra_op_num_threads != threads:
        raise BackendError(
            f"ONNX Runtime uses {granted.intra_op_num_threads} threads, not {threads}"
        )
    return session


def _instruction_sets() -> list[str]:
    """Those that NumPy detects on this CPU; the runtime does not report its own."""
    detected: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return detected or ["baseline"]


def _probe_precision(options: ort.SessionOptions) -> str:
    """The precision of a matmul under these options: 1 + 2**-12 is 1 in bfloat16."""
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
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
    x = np.eye(size, dtype=np.float32) * np.float32(1 + 2**-12)
    product = session.run(None, {"x": x, "w": np.eye(size, dtype=np.float32)})[0]
    return "float32" if np.array_equal(product, x) else "below float32"
