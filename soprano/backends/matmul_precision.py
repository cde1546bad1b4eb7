"""What a runtime's matmuls read: quantised weights, or floats that were widened at load."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from soprano.backends.protocol import Attested

QUANTISED = "MatMulNBits"
_FLOAT = ("Gemm", "MatMul", "FusedMatMul", "FusedGemm")


def attested_weights(counts: Iterable[Counter[str]], how: str) -> Attested:
    """The number of matmuls by the type of their weights, as one field."""
    total = sum(counts, Counter[str]())
    return Attested(", ".join(f"{kind} {n}" for kind, n in sorted(total.items())) or "none", how)


def count_onnx_matmuls(graph: Any, options: Any) -> tuple[Counter[str], set[str]]:
    """Matmuls by weight type in the graph as ONNX Runtime optimises it, and activation precisions.

    Args:
        graph: a file's path, or a model's bytes.
        options: `onnxruntime.SessionOptions` as the session itself has them; they are changed.
    """
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        model = onnx.load(optimised, load_external_data=False)
    constants = {tensor.name for tensor in model.graph.initializer}
    count: Counter[str] = Counter()
    kinds = set()
    for node in model.graph.node:
        if node.op_type == QUANTISED:
            attributes = {a.name: a.i for a in node.attribute}
            bits, level = attributes["bits"], attributes.get("accuracy_level", 0)
            count[f"int{bits}"] += 1
            kinds.add((bits, attributes["block_size"], level))
        elif node.op_type in _FLOAT and node.input[1] in constants:
            count["float32"] += 1
    return count, {_probe_activations(*kind) for kind in kinds}


def _probe_activations(bits: int, block: int, level: int) -> str:
    """The activation precision of such a matmul, by its result for a small input.

    In a block that also holds a 1, 2**-10 rounds to zero in 8 bits.
    """
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    zero_point, rows = 2 ** (bits - 1), 4
    codes = np.full((rows, 1, block), zero_point, np.uint8)
    codes[1, 0, 1] = zero_point + 1  # output 1 is the input's second element, the others are zero
    packed = codes if bits == 8 else codes[..., 0::2] | (codes[..., 1::2] << 4)
    node = helper.make_node(
        QUANTISED,
        ["x", "codes", "scales"],
        ["y"],
        domain="com.microsoft",
        K=block,
        N=rows,
        bits=bits,
        block_size=block,
        accuracy_level=level,
    )
    probe = helper.make_graph(
        [node],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, block])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, rows])],
        [
            numpy_helper.from_array(packed, "codes"),
            numpy_helper.from_array(np.ones((rows, 1), np.float32), "scales"),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(probe, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.zeros((1, block), np.float32)
    x[0, :2] = 1, 2.0**-10
    result = float(session.run(None, {"x": x})[0][0, 1])
    return "float32" if result == 2.0**-10 else "int8" if result == 0 else "rounded"


def count_openvino_matmuls(compiled: Any) -> Counter[str]:
    """Matmuls by the type in which an `openvino.CompiledModel` executes their weights."""
    count: Counter[str] = Counter()
    for kind, precision in _executed(compiled):
        if kind == "FullyConnected":
            count[{"u8": "int8", "u4": "int4", "f32": "float32"}.get(precision, precision)] += 1
    return count


def count_openvino_attention(compiled: Any) -> int:
    """The number of fused attention operators that an `openvino.CompiledModel` executes."""
    return sum(kind == "ScaledDotProductAttention" for kind, _ in _executed(compiled))


def _executed(compiled: Any) -> Iterator[tuple[str, str]]:
    """Type and precision of every node that OpenVINO executes."""
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        yield info["layerType"].astype(str), info["runtimePrecision"].astype(str)
