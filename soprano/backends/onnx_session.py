"""Sessions of ONNX Runtime: how they are opened, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from soprano.backends import Attestation, Attested, Float32
from soprano.backends.matmul_precision import attested_weights, onnx_products
from soprano.errors import BackendError, ModelError
from soprano.onnx_graphs.source import GraphSource

PROVIDER = "CPUExecutionProvider"


def _options(graph: GraphSource, threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads or 0
    for name, value in (
        ("session.model_external_initializers_file_folder_path", str(graph.folder)),
        # Weights lie in memory of their own, which is given back once they are packed.
        ("session.use_device_allocator_for_initializers", "1"),
        # Each session has threads of its own: those of the decoder would go on spinning where the
        # language model's next step needs the cores, and the other way round. Within a run they
        # do spin, since waking them for each operator takes as long as many of these take.
        ("session.force_spinning_stop", "1"),
    ):
        options.add_session_config_entry(name, value)
    return options


def _readable(graph: GraphSource) -> Any:
    return str(graph.path) if graph.path else graph.content


def open_session(graph: GraphSource, threads: int | None) -> ort.InferenceSession:
    """A session of one graph, or an error where the runtime does not grant what is asked for."""
    options = _options(graph, threads)
    try:
        session = ort.InferenceSession(_readable(graph), options, providers=[PROVIDER])
    except Exception as error:  # the runtime's errors share no base but Exception
        where = graph.path or graph.folder
        raise ModelError(f"ONNX Runtime cannot load {where}: {error}") from None
    granted = session.get_session_options()
    if session.get_providers() != [PROVIDER]:
        raise BackendError(f"ONNX Runtime uses {session.get_providers()}, not {PROVIDER}")
    if threads and granted.intra_op_num_threads != threads:
        raise BackendError(
            f"ONNX Runtime uses {granted.intra_op_num_threads} threads, not {threads}"
        )
    return session


def open_sessions(
    graphs: Mapping[str, GraphSource | None], threads: int | None
) -> dict[str, ort.InferenceSession]:
    """The sessions of the networks that the model folder has; an error where it has none."""
    sessions = {part: open_session(graph, threads) for part, graph in graphs.items() if graph}
    if not sessions:
        raise ModelError("the model folder has neither ONNX graphs nor weights to write them from")
    return sessions


def spectrum(decoder: ort.InferenceSession, hidden: Float32) -> Float32:
    """The spectrum (B, F, T', 2) of hidden states (B, T, H)."""
    inputs = {"hidden_states": np.ascontiguousarray(hidden)}
    result: Float32 = decoder.run(["spectrum"], inputs)[0]
    return result


def attest(session: ort.InferenceSession, graph: str) -> Attestation:
    """The configuration of a session; `graph` says which form of the network it runs."""
    options = session.get_session_options()
    threads = options.intra_op_num_threads
    return {
        "version": Attested(ort.__version__, "read back"),
        "device": Attested(" ".join(session.get_providers()), "read back"),
        "threads": Attested(str(threads or "one a core"), "read back"),
        "graph": Attested(graph, "inferred"),
        "precision": Attested(_probe_precision(options), "inferred"),
        "cache precision": Attested(session.get_inputs()[-1].type, "read back"),
        "optimisation": Attested(options.graph_optimization_level.name, "read back"),
        "instruction set": Attested(" ".join(_simd()), "inferred"),
    }


def attest_products(graphs: Iterable[GraphSource | None]) -> Attestation:
    """What the products of a quantised bundle's graphs read, by the graphs as optimised."""
    found = [onnx_products(_readable(graph), _options(graph, None)) for graph in graphs if graph]
    activations = set[str]().union(*(kinds for _, kinds in found)) or {"float32"}
    return {
        "weights": attested_weights([count for count, _ in found], "inferred"),
        "activations": Attested(" ".join(sorted(activations)), "inferred"),
    }


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
    session = ort.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
    x = np.eye(size, dtype=np.float32) * np.float32(1 + 2**-12)
    product = session.run(None, {"x": x, "w": np.eye(size, dtype=np.float32)})[0]
    return "float32" if np.array_equal(product, x) else "below float32"
