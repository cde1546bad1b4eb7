"""What a runtime's matrix products really read: levels of few bits, or floats unpacked at load."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from soprano.backends import Attested

QUANTISED = "MatMulNBits"
_FLOAT = ("Gemm", "MatMul", "FusedMatMul", "FusedGemm")


def attested_weights(counts: Iterable[Counter[str]], how: str) -> Attested:
    """The number of products by the type of the constants that they read, as one field."""
    total = sum(counts, Counter[str]())
    return Attested(", ".join(f"{kind} {n}" for kind, n in sorted(total.items())) or "none", how)


def onnx_products(graph: Any, options: Any) -> tuple[Counter[str], set[str]]:
    """Products by type in the graph that ONNX Runtime makes of `graph`, and their activations.

    Args:
        graph: a file's path, or a model's bytes.
        options: `onnxruntime.SessionOptions` as the session itself has them, not used again.
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
            numbers = {a.name: a.i for a in node.attribute}
            count[f"int{numbers['bits']}"] += 1
            kinds.add((numbers["bits"], numbers["block_size"], numbers.get("accuracy_level", 0)))
        elif node.op_type in _FLOAT and node.input[1] in constants:
            count["float32"] += 1
    return count, {_activations(*kind) for kind in kinds}


def _activations(bits: int, block: int, level: int) -> str:
    """The type to which such a product rounds its input, by what it makes of small numbers.

    Beside a 1 in its block, 2**-10 is nothing in 8 bits.
    """
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    middle, rows = 2 ** (bits - 1), 4
    levels = np.full((rows, 1, block), middle, np.uint8)
    levels[1, 0, 1] = middle + 1  # row 1 is the input's second number, the others are zero
    packed = levels if bits == 8 else levels[..., 0::2] | (levels[..., 1::2] << 4)
    node = helper.make_node(
        QUANTISED,
        ["x", "levels", "scales"],
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
            numpy_helper.from_array(packed, "levels"),
            numpy_helper.from_array(np.ones((rows, 1), np.float32), "scales"),
        ],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(probe, opset_imports=opsets, ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.zeros((1, block), np.float32)
    x[0, :2] = 1, 2.0**-10
    kept = float(session.run(None, {"x": x})[0][0, 1])
    return "float32" if kept == 2.0**-10 else "int8" if kept == 0 else "rounded"


def openvino_products(compiled: Any) -> Counter[str]:
    """Products with constants by the type in which an `openvino.CompiledModel` executes them."""
    count: Counter[str] = Counter()
    for kind, precision in _executed(compiled):
        if kind == "FullyConnected":
            count[{"u8": "int8", "u4": "int4", "f32": "float32"}.get(precision, precision)] += 1
    return count


def openvino_attention(compiled: Any) -> int:
    """How many layers of an `openvino.CompiledModel` attend in one operator."""
    return sum(kind == "ScaledDotProductAttention" for kind, _ in _executed(compiled))


def _executed(compiled: Any) -> Iterator[tuple[str, str]]:
    """Kind and precision of everything that OpenVINO executes."""
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        yield info["layerType"].astype(str), info["runtimePrecision"].astype(str)
