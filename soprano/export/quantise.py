"""Quantised weights in 8 or 4 bits: which layers have them, how they are rounded and stored.

Each row of a matrix is divided into blocks with one scale each:
`weight[n, k] = scales[n, k // block] * (codes[n, k] - zero_point)`, zero_point = 2**(bits - 1).
This is the form that ONNX Runtime's MatMulNBits reads
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
_MATMULS = ("Gemm", "FusedMatMul")  # of soprano.onnx_graphs, whose matrices are (out, in)
_SMALLEST = 16  # the smallest block of MatMulNBits


@dataclass(frozen=True)
class Scheme:
    """Codes of `bits` bits, one scale for each block of at most `largest` weights of a row."""

    bits: int
    largest: int

    def __str__(self) -> str:
        return f"int{self.bits}, blocks of at most {self.largest}"

    def block(self, columns: int) -> int:
        """The block size: a power of two that divides `columns`, else one padded block a row."""
        fitting = math.gcd(columns, self.largest)
        return fitting if fitting >= _SMALLEST else 1 << (columns - 1).bit_length()


# With 8 bits large blocks cost little accuracy and need fewer scales. With 4 bits a block's error
# follows from its largest weight, so blocks are small.
_INT8, _INT4 = Scheme(8, 128), Scheme(4, 32)

# Every tensor belongs to one class. Classes without a scheme stay float: norms, layer scales and
# depthwise kernels are small and affect every value, and the decoder's head feeds exp, cos and sin.
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
    # 4 bits are too few for the output matrix, which decides each token, and for the decoder, whose
    # outputs are phases.
    "int4": {
        **dict.fromkeys(("attention", "mlp"), _INT4),
        **dict.fromkeys(("output", "pointwise convolutions"), _INT8),
    },
}

# The activation precision of a quantised bundle. ONNX Runtime's matmuls with 8-bit weights are many
# times faster with int8 activations; OpenVINO's are not.
ACTIVATIONS = {"onnx": "int8", "openvino": "float32"}
_ACCURACY_LEVEL = {"float32": 1, "int8": 4}  # of MatMulNBits: its lowest activation precision


def layer_class(name: str) -> str:
    """The class of layers that a tensor of a checkpoint belongs to."""
    for layer, pattern in _LAYERS:
        if re.search(pattern, name):
            return layer
    raise LookupError(f"no layer class for the tensor {name}")


@dataclass(frozen=True)
class Blocks:
    """A quantised matrix of `columns` columns: codes (N, blocks, block), scales (N, blocks)."""

    codes: UInt8
    scales: Float32
    columns: int
    bits: int

    def matrix(self) -> Float32:
        """The dequantised weights (N, columns)."""
        zero_point = np.float32(2 ** (self.bits - 1))
        values: Float32 = (self.codes.astype(np.float32) - zero_point) * self.scales[..., None]
        return values.reshape(len(values), -1)[:, : self.columns]

    def packed(self) -> UInt8:
        """The codes in whole bytes; of two 4-bit codes the first is in the lower half."""
        if self.bits == 8:
            return self.codes
        return self.codes[..., 0::2] | (self.codes[..., 1::2] << np.uint8(4))


def quantise(matrix: Float32, scheme: Scheme) -> Blocks:
    """A matrix (N, K) rounded to the nearest codes; a padded block ends in zeros."""
    rows, columns = matrix.shape
    block = scheme.block(columns)
    values = np.pad(matrix, ((0, 0), (0, -columns % block))).reshape(rows, -1, block)
    zero_point = 2 ** (scheme.bits - 1)
    if scheme.bits == 8:
        scales = np.abs(values).max(axis=-1, keepdims=True) / np.float32(zero_point - 1)
    else:
        # All 16 codes are used: the largest weight gets code 0, on the side with one code more.
        largest = np.abs(values).argmax(axis=-1, keepdims=True)
        scales = np.take_along_axis(values, largest, axis=-1) / np.float32(-zero_point)
    codes = np.rint(values / np.where(scales == 0, np.float32(1), scales)) + zero_point
    codes = np.clip(codes, 0, 2 * zero_point - 1).astype(np.uint8)
    return Blocks(codes, scales[..., 0].astype(np.float32), columns, scheme.bits)


def _scheme(name: str, precision: str, is_output: bool) -> Scheme | None:
    """The scheme of a matmul's matrix, None for float; a tied embedding is also the output."""
    layer = layer_class(name)
    return SCHEMES[precision].get("output" if layer == "embedding" and is_output else layer)


def describe(names: list[str], precision: str) -> dict[str, str]:
    """How an export of this precision stores each layer class of the tensors."""
    present = {layer_class(name) for name in names} | {"output"}
    rest = {"fp32": "float32", "fp16": "float16"}.get(precision, "float, the source's values")
    return {
        layer: str(SCHEMES.get(precision, {}).get(layer, rest))
        for layer, _ in _LAYERS
        if layer in present
    }


def exact_storage(tensors: Mapping[str, Float32]) -> dict[str, npt.NDArray[np.floating]]:
    """Each tensor in half precision if that represents every value exactly, else in float32."""
    exact: dict[str, npt.NDArray[np.floating]] = {}
    with np.errstate(over="ignore"):
        for name, values in tensors.items():
            half = values.astype(np.float16)
            exact[name] = half if np.array_equal(half.astype(np.float32), values) else values
    return exact


def quantise_onnx(model: onnx.ModelProto, precision: str) -> None:
    """Replace matmuls of a float graph by MatMulNBits, according to their layer classes."""
    graph = model.graph
    arrays = {tensor.name: tensor for tensor in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    nodes = []
    for node in graph.node:
        names = _joined_weights(node.input[1], makers) if node.op_type in _MATMULS else []
        schemes = {_scheme(name, precision, is_output=True) for name in names}
        if schemes <= {None}:
            nodes.append(node)
            continue
        (scheme,) = schemes  # matrices that one matmul reads together are of one class
        assert scheme is not None
        parts = []
        for name in names:
            matrix = numpy_helper.to_array(arrays[name]).astype(np.float32)
            parts.append(quantise(matrix, scheme))
            codes, scales = f"{name}.int{scheme.bits}", f"{name}.scales"
            arrays[codes] = numpy_helper.from_array(parts[-1].packed(), codes)
            arrays[scales] = numpy_helper.from_array(parts[-1].scales, scales)
        inputs = [
            _concat(nodes, [f"{n}.{s}" for n in names]) for s in (f"int{scheme.bits}", "scales")
        ]
        nodes.append(_quantised_matmul(node, inputs, parts))
    _replace(graph, nodes, arrays)
    if DOMAIN not in {opset.domain for opset in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _joined_weights(name: str, makers: Mapping[str, onnx.NodeProto]) -> list[str]:
    """The tensors that a matmul's matrix is joined from, widened or not."""
    if name not in makers:
        return [name]
    node = makers[name]
    if node.op_type not in ("Cast", "Concat"):
        raise LookupError(f"{name}: a matrix made by {node.op_type} cannot be quantised")
    return [source for part in node.input for source in _joined_weights(part, makers)]


def _concat(nodes: list[onnx.NodeProto], names: list[str]) -> str:
    """Several tensors joined along their rows; the runtime folds this at load."""
    if len(names) == 1:
        return names[0]
    joined = f"{names[0]}.stacked"
    nodes.append(helper.make_node("Concat", names, [joined], name=joined, axis=0))
    return joined


def _quantised_matmul(
    node: onnx.NodeProto, inputs: list[str], parts: list[Blocks]
) -> onnx.NodeProto:
    bias = ["", "", node.input[2]] if len(node.input) > 2 else []
    return helper.make_node(
        "MatMulNBits",
        [node.input[0], *inputs, *bias],
        node.output,
        name=node.name,
        domain=DOMAIN,
        N=sum(len(blocks.codes) for blocks in parts),
        K=parts[0].columns,
        bits=parts[0].bits,
        block_size=parts[0].codes.shape[2],
        accuracy_level=_ACCURACY_LEVEL[ACTIVATIONS["onnx"]],
    )


def _replace(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], arrays: Mapping[str, onnx.TensorProto]
) -> None:
    """Set the graph's nodes and tensors, without casts and tensors that are no longer read."""
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
    """Replace the constants of matmuls of a converted float model (`openvino.Model`).

    The runtime recognises `(codes - zero_point) * scales`, keeps the codes and dequantises them
    during the matmul.
    """
    for matmul, constant in _matmuls(model):
        name = constant.get_friendly_name().removesuffix(WIDENED)
        scheme = _scheme(name, precision, is_output=True)
        if scheme is None:
            continue
        if not matmul.get_attributes()["transpose_b"]:
            raise LookupError(f"{name} is not stored (out, in)")
        dequantised = _dequantise(quantise(np.array(constant.data, np.float32), scheme), name)
        matmul.input(1).replace_source_output(dequantised.output(0))


def _matmuls(model: Any) -> Iterator[tuple[Any, Any]]:
    """Each MatMul whose second input is a constant, widened or not, with that constant."""
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        operand = node.input_value(1).get_node()
        if operand.get_type_name() == "Convert":
            operand = operand.input_value(0).get_node()
        if operand.get_type_name() == "Constant":
            yield node, operand


def _dequantise(blocks: Blocks, name: str) -> Any:
    """The nodes that dequantise a matrix, without the padding columns of a single block."""
    from soprano.onnx_graphs.openvino_import import ops

    rows, count, block = blocks.codes.shape
    block = min(block, blocks.columns)
    shape = (rows, count, block) if count > 1 else (rows, block)
    zero_point = np.full([1] * len(shape), 2 ** (blocks.bits - 1), np.uint8)
    codes = _constant(blocks.codes[..., :block].reshape(shape), blocks.bits, f"{name}.levels")
    zero = ops.convert(_constant(zero_point, blocks.bits, f"{name}.middle"), "f32")
    scales = ops.constant(blocks.scales.reshape(*shape[:-1], 1), name=f"{name}.scales")
    centred = ops.subtract(ops.convert(codes, "f32"), zero)
    matrix = ops.multiply(centred, scales, name=name)
    return ops.reshape(matrix, np.array([rows, -1]), False) if count > 1 else matrix


def _constant(codes: UInt8, bits: int, name: str) -> Any:
    from soprano.onnx_graphs.openvino_import import ops, ov

    if bits == 8:
        return ops.constant(codes, name=name)
    flat = np.append(codes, np.zeros(codes.size % 2, np.uint8))
    tensor = ov.Tensor(ov.Type.u4, ov.Shape(codes.shape))
    tensor.data.reshape(-1)[:] = flat[0::2] | (flat[1::2] << 4)
    return ops.constant(tensor, name=name)
