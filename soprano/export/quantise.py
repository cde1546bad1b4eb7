"""Matrices in 8 or 4 bits: which layers take them, how they are rounded, how graphs hold them.

A row of a matrix is cut into blocks of one scale each:
`weight[n, k] = scales[n, k // block] * (levels[n, k] - 2**(bits - 1))`, the form that ONNX
Runtime's MatMulNBits reads
(https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from soprano.onnx_graphs.writer import WIDENED

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

DOMAIN = "com.microsoft"
_PRODUCTS = ("Gemm", "FusedMatMul")  # of the graphs written here, matrices as (out, in)
_SMALLEST = 16  # the shortest block that MatMulNBits takes


@dataclass(frozen=True)
class Scheme:
    """Levels of `bits` bits, one scale for at most `largest` neighbours in a row."""

    bits: int
    largest: int

    def __str__(self) -> str:
        return f"int{self.bits}, blocks of at most {self.largest}"

    def block(self, columns: int) -> int:
        """The largest power of two that fits the rows; odd rows are one block, padded."""
        fitting = math.gcd(columns, self.largest)
        return fitting if fitting >= _SMALLEST else 1 << (columns - 1).bit_length()


# In 8 bits larger blocks cost little accuracy and save scales to read; in 4 bits the error of a
# block is that of its largest weight, so blocks are small.
_INT8, _INT4 = Scheme(8, 128), Scheme(4, 32)

# Every tensor belongs to one class. The rest stays float: norms, scales and depthwise kernels are
# small and touch every value, and what the decoder's head gives goes through exp, cos and sin.
_LAYERS = (
    ("attention", r"\.self_attn\.[a-z]+_proj\.weight$"),
    ("mlp", r"\.mlp\.[a-z]+_proj\.weight$"),
    ("norms", r"norm\.(weight|bias)$"),
    ("embedding", r"^model\.embed_tokens\.weight$"),
    ("output", r"^lm_head\.weight$"),
    ("input convolution", r"^decoder\.embed\.(weight|bias)$"),
    ("depthwise convolutions", r"\.dwconv\.(weight|bias)$"),
    ("pointwise convolutions", r"\.pwconv[12]\.weight$"),
    ("pointwise biases", r"\.pwconv[12]\.bias$"),
    ("layer scales", r"\.gamma$"),
    ("head", r"^head\.out\.(weight|bias)$"),
)
SCHEMES = {
    "int8": dict.fromkeys(("attention", "mlp", "output", "pointwise convolutions"), _INT8),
    # The output matrix decides each token, the decoder's products end in phases: 4 bits are too
    # few for them.
    "int4": {
        **dict.fromkeys(("attention", "mlp"), _INT4),
        **dict.fromkeys(("output", "pointwise convolutions"), _INT8),
    },
}

# What the products of a quantised bundle read beside the weights. ONNX Runtime multiplies 8-bit
# levels many times faster where it may round activations to int8 too; OpenVINO needs no such leave.
ACTIVATIONS = {"onnx": "int8", "openvino": "float32"}
_ACCURACY_LEVEL = {"float32": 1, "int8": 4}  # of MatMulNBits: the least precision it must keep


def layer_class(name: str) -> str:
    """The class of layers that a tensor of a checkpoint belongs to."""
    for layer, pattern in _LAYERS:
        if re.search(pattern, name):
            return layer
    raise LookupError(f"no layer class for the tensor {name}")


@dataclass(frozen=True)
class Blocks:
    """A quantised matrix of `columns` columns: levels (N, blocks, block), scales (N, blocks)."""

    levels: UInt8
    scales: Float32
    columns: int
    bits: int

    def matrix(self) -> Float32:
        """The weights (N, columns) that the levels stand for."""
        middle = np.float32(2 ** (self.bits - 1))
        values: Float32 = (self.levels.astype(np.float32) - middle) * self.scales[..., None]
        return values.reshape(len(values), -1)[:, : self.columns]

    def packed(self) -> UInt8:
        """The levels in whole bytes, the first of two 4-bit levels in the lower half."""
        if self.bits == 8:
            return self.levels
        return self.levels[..., 0::2] | (self.levels[..., 1::2] << np.uint8(4))


def quantise(matrix: Float32, scheme: Scheme) -> Blocks:
    """A matrix (N, K) rounded to the nearest level of each block; short blocks end in zeros."""
    rows, columns = matrix.shape
    block = scheme.block(columns)
    values = np.pad(matrix, ((0, 0), (0, -columns % block))).reshape(rows, -1, block)
    middle = 2 ** (scheme.bits - 1)
    if scheme.bits == 8:
        scales = np.abs(values).max(axis=-1, keepdims=True) / np.float32(middle - 1)
    else:
        # With so few levels none is left idle: the largest weight takes the lowest one, whose
        # side has one level more.
        largest = np.abs(values).argmax(axis=-1, keepdims=True)
        scales = np.take_along_axis(values, largest, axis=-1) / np.float32(-middle)
    levels = np.rint(values / np.where(scales == 0, np.float32(1), scales)) + middle
    levels = np.clip(levels, 0, 2 * middle - 1).astype(np.uint8)
    return Blocks(levels, scales[..., 0].astype(np.float32), columns, scheme.bits)


def _scheme(name: str, precision: str, is_output: bool) -> Scheme | None:
    """How a matrix that a product reads is rounded; a tied embedding is read as output too."""
    layer = layer_class(name)
    return SCHEMES[precision].get("output" if layer == "embedding" and is_output else layer)


def describe(names: list[str], precision: str) -> dict[str, str]:
    """How an export stores each layer class that the tensors belong to."""
    present = {layer_class(name) for name in names} | {"output"}
    rest = {"fp32": "float32", "fp16": "float16"}.get(precision, "float, the source's values")
    return {
        layer: str(SCHEMES.get(precision, {}).get(layer, rest))
        for layer, _ in _LAYERS
        if layer in present
    }


def exact_storage(tensors: Mapping[str, Float32]) -> dict[str, npt.NDArray[np.floating]]:
    """The tensors in half precision where that keeps every value, else in float32."""
    stored: dict[str, npt.NDArray[np.floating]] = {}
    with np.errstate(over="ignore"):
        for name, values in tensors.items():
            half = values.astype(np.float16)
            stored[name] = half if np.array_equal(half.astype(np.float32), values) else values
    return stored


def quantise_onnx(model: onnx.ModelProto, precision: str) -> None:
    """Turn the products of a float graph into MatMulNBits, by the classes of their matrices."""
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    nodes = []
    for node in graph.node:
        names = _stacked(node.input[1], makers) if node.op_type in _PRODUCTS else []
        schemes = {_scheme(name, precision, is_output=True) for name in names}
        if schemes <= {None}:
            nodes.append(node)
            continue
        (scheme,) = schemes  # matrices that one product reads together are of one class
        assert scheme is not None
        parts = []
        for name in names:
            matrix = numpy_helper.to_array(arrays[name]).astype(np.float32)
            parts.append(quantise(matrix, scheme))
            levels, scales = f"{name}.int{scheme.bits}", f"{name}.scales"
            arrays[levels] = numpy_helper.from_array(parts[-1].packed(), levels)
            arrays[scales] = numpy_helper.from_array(parts[-1].scales, scales)
        inputs = [
            _joined(nodes, [f"{n}.{s}" for n in names]) for s in (f"int{scheme.bits}", "scales")
        ]
        nodes.append(_product(node, inputs, parts))
    _replace(graph, nodes, arrays)
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _stacked(name: str, makers: Mapping[str, onnx.NodeProto]) -> list[str]:
    """The tensors that stand one above the other in a product's matrix, widened or not."""
    if name not in makers:
        return [name]
    node = makers[name]
    if node.op_type not in ("Cast", "Concat"):
        raise LookupError(f"{name}: a matrix made by {node.op_type} cannot be quantised")
    return [source for given in node.input for source in _stacked(given, makers)]


def _joined(nodes: list[onnx.NodeProto], names: list[str]) -> str:
    """One tensor of several, rows below rows; the runtime folds this at load."""
    if len(names) == 1:
        return names[0]
    joined = f"{names[0]}.stacked"
    nodes.append(helper.make_node("Concat", names, [joined], name=joined, axis=0))
    return joined


def _product(node: onnx.NodeProto, inputs: list[str], parts: list[Blocks]) -> onnx.NodeProto:
    bias = ["", "", node.input[2]] if len(node.input) > 2 else []
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *inputs, *bias],
        node.output,
        name=node.name,
        domain=DOMAIN,
        N=sum(len(blocks.levels) for blocks in parts),
        K=parts[0].columns,
        bits=parts[0].bits,
        block_size=parts[0].levels.shape[2],
        accuracy_level=_ACCURACY_LEVEL[ACTIVATIONS["onnx"]],
    )


def _replace(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], arrays: Mapping[str, onnx.TensorProto]
) -> None:
    """New nodes, without the casts and tensors that nothing reads any more."""
    read = {name for node in nodes for name in node.input}
    while len(kept := [node for node in nodes if _is_read(node, read)]) < len(nodes):
        nodes, read = kept, {name for node in kept for name in node.input}
    read = {name for node in kept for name in node.input}
    tensors = [tensor for name, tensor in arrays.items() if name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)


def _is_read(node: onnx.NodeProto, read: set[str]) -> bool:
    return node.op_type not in ("Cast", "Concat") or node.output[0] in read


def quantise_openvino(model: Any, precision: str) -> None:
    """Give the products of a converted float model (`openvino.Model`) quantised constants.

    The runtime keeps the levels and widens them as it multiplies: `(levels - middle) * scales` is
    the form that it recognises.
    """
    for product, constant in _products(model):
        name = constant.get_friendly_name().removesuffix(WIDENED)
        scheme = _scheme(name, precision, is_output=True)
        if scheme is None:
            continue
        if not product.get_attributes()["transpose_b"]:
            raise LookupError(f"{name} is not read by rows")
        widened = _constants(quantise(np.array(constant.data, np.float32), scheme), name)
        product.input(1).replace_source_output(widened.output(0))


def _products(model: Any) -> Iterator[tuple[Any, Any]]:
    """Each MatMul whose second operand is a constant, widened or not, with that constant."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        operand = node.input_value(1).get_node()
        if operand.get_type_name() == "Convert":
            operand = operand.input_value(0).get_node()
        if operand.get_type_name() == "Constant":
            yield node, operand


def _constants(blocks: Blocks, name: str) -> Any:
    """The nodes that widen a matrix, without the columns that pad a lone block."""
    from soprano.backends.openvino_import import ops

    rows, count, block = blocks.levels.shape
    block = min(block, blocks.columns)
    shape = (rows, count, block) if count > 1 else (rows, block)
    middle = np.full([1] * len(shape), 2 ** (blocks.bits - 1), np.uint8)
    levels = _constant(blocks.levels[..., :block].reshape(shape), blocks.bits, f"{name}.levels")
    zero = ops.convert(_constant(middle, blocks.bits, f"{name}.middle"), "f32")
    scales = ops.constant(blocks.scales.reshape(*shape[:-1], 1), name=f"{name}.scales")
    widened = ops.multiply(ops.subtract(ops.convert(levels, "f32"), zero), scales, name=name)
    return ops.reshape(widened, np.array([rows, -1]), False) if count > 1 else widened


def _constant(levels: UInt8, bits: int, name: str) -> Any:
    from soprano.backends.openvino_import import ops, ov

    if bits == 8:
        return ops.constant(levels, name=name)
    flat = np.append(levels, np.zeros(levels.size % 2, np.uint8))
    tensor = ov.Tensor(ov.Type.u4, ov.Shape(levels.shape))
    tensor.data.reshape(-1)[:] = flat[0::2] | (flat[1::2] << 4)
    return ops.constant(tensor, name=name)
