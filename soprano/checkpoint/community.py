"""Graphs of community exports: a language model with its KV cache, and a decoder that gives audio.

They are recognised by their inputs and outputs, whatever their files are named. A folder may hold
each network in several precision classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soprano.errors import ModelError

if TYPE_CHECKING:
    import onnx

LANGUAGE_MODEL, DECODER = "language model", "decoder"
CLASSES = ("fp32", "bf16", "fp16", "int8", "int4")  # from the most precise
_FEWEST = 0.01  # share of the weights above which a class counts

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
_CLASS_OF = {
    "FLOAT": "fp32", "DOUBLE": "fp32", "BFLOAT16": "bf16", "FLOAT16": "fp16", "INT8": "int8",
    "UINT8": "int8", "INT4": "int4", "UINT4": "int4",
}  # fmt: skip
# Operators that round the inputs of matmuls.
_ROUNDING = {
    "ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger",
    "MatMulIntegerToFloat", "QGemm", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
}  # fmt: skip
# The input that holds the matrix or the kernel.
_MATMULS = {"MatMul": 1, "Gemm": 1, "MatMulInteger": 1, "QLinearMatMul": 3, "QGemm": 3}
# The input that holds the zero points of a matrix, or its scales.
_SCALES = {
    "MatMulInteger": 3, "QLinearMatMul": 4, "QGemm": 4, "DequantizeLinear": 1,
    "DynamicQuantizeMatMul": 2, "MatMulIntegerToFloat": 3,
}  # fmt: skip
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
# Operators between a stored weight and its use.
_PASSED = ("Cast", "DequantizeLinear", "Identity", "Transpose")


@dataclass(frozen=True)
class CommunityGraph:
    """One graph, without its weights."""

    path: Path
    part: str
    precision: str
    activations: str  # "float32" or "int8"
    per_tensor: bool  # quantised matrices have one scale each
    files: tuple[Path, ...]  # its own and those of its external data
    shapes: Mapping[str, tuple[int, ...]]  # of a decoder, by names of the checkpoint


@dataclass(frozen=True)
class CommunityGraphs:
    """The graphs of a folder: at least one for each network."""

    found: tuple[CommunityGraph, ...]

    @property
    def pairs(self) -> dict[str, tuple[CommunityGraph, CommunityGraph]]:
        """Language model and decoder by the precision class that they have together."""
        networks = [self._variants(part) for part in (LANGUAGE_MODEL, DECODER)]
        pairs: dict[str, tuple[CommunityGraph, CommunityGraph]] = {}
        for wanted in CLASSES:
            language_model, decoder = (
                own.get(wanted) or next(own[name] for name in CLASSES if name in own)
                for own in networks
            )
            offered = max(language_model.precision, decoder.precision, key=CLASSES.index)
            if offered == wanted or offered not in pairs:
                pairs[offered] = language_model, decoder
        return pairs

    def _variants(self, part: str) -> dict[str, CommunityGraph]:
        variants: dict[str, CommunityGraph] = {}
        for graph in self.found:
            if graph.part == part:
                other = variants.setdefault(graph.precision, graph)
                if other is not graph:
                    raise ModelError(
                        f"{other.path.name} and {graph.path} are both a {part} in "
                        f"{graph.precision}: remove one"
                    )
        return variants

    @property
    def precision(self) -> str:
        """The most precise class."""
        return next(name for name in CLASSES if name in self.pairs)

    @property
    def decoder_shapes(self) -> Mapping[str, tuple[int, ...]]:
        return self.pairs[self.precision][1].shapes


def find_community_graphs(folder: Path) -> CommunityGraphs | None:
    """The graphs of a folder and of its folder `onnx`, if both networks are among them."""
    paths = [path for root in (folder, folder / "onnx") for path in sorted(root.glob("*.onnx"))]
    read = (read_graph(path, path.stat().st_mtime_ns) for path in paths if path.is_file())
    found = tuple(graph for graph in read if graph)
    both = {graph.part for graph in found} == {LANGUAGE_MODEL, DECODER}
    return CommunityGraphs(found) if both else None


@lru_cache(maxsize=64)
def read_graph(path: Path, changed: int) -> CommunityGraph | None:
    """A graph of either network; None for any other file, or without the package `onnx`."""
    try:
        import onnx
    except ImportError:
        return None
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # of protobuf, which has no base class but this one
        return None
    part = _part(graph)
    if part is None:
        return None
    located = {
        path.parent / entry.value
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    rounds = any(_rounds(node) for node in graph.node)
    return CommunityGraph(
        path,
        part,
        precision_of(graph),
        "int8" if rounds else "float32",
        _per_tensor(graph),
        (path, *sorted(located)),
        _decoder_shapes(graph) if part == DECODER else {},
    )


def _part(graph: onnx.GraphProto) -> str | None:
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    names = {value.name for value in inputs}
    if "input_ids" in names and any(name.startswith("past_key_values.") for name in names):
        return LANGUAGE_MODEL
    values = [*inputs, *graph.output]
    if len(inputs) == len(graph.output) == 1 and all(_type(value) in _FLOATS for value in values):
        ranks = [len(value.type.tensor_type.shape.dim) for value in values]
        return DECODER if ranks[0] == 3 and ranks[1] < 4 else None
    return None


def _type(value: onnx.ValueInfoProto) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(value.type.tensor_type.elem_type))


def _tensors(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Stored values by the names under which nodes read them."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant":
            yield from ((node.output[0], a.t) for a in node.attribute if a.name == "value")


def precision_of(graph: onnx.GraphProto) -> str:
    """The least precise class of a considerable share of the weights."""
    from onnx import TensorProto

    bits = {
        node.input[1]: _attribute(node, "bits", 4)
        for node in graph.node
        if node.op_type == "MatMulNBits"
    }
    count: Counter[str] = Counter()
    for name, tensor in _tensors(graph):
        kind = _CLASS_OF.get(TensorProto.DataType.Name(tensor.data_type))
        if kind and len(tensor.dims) > 1:
            size = prod(tensor.dims)
            four = bits.get(name) == 4
            count["int4" if four else kind] += 2 * size if four else size
    kept = [name for name in CLASSES if count[name] > _FEWEST * count.total()]
    return kept[-1] if kept else "fp32"


def _rounds(node: onnx.NodeProto) -> bool:
    rounds = node.op_type == "MatMulNBits" and _attribute(node, "accuracy_level", 0) == 4
    return rounds or node.op_type in _ROUNDING


def _per_tensor(graph: onnx.GraphProto) -> bool:
    """Whether every stored zero point of matrices, or scale, is one number."""
    stored = {name: prod(tensor.dims) for name, tensor in _tensors(graph)}
    scales = [
        stored[node.input[index]]
        for node in graph.node
        if (index := _SCALES.get(node.op_type, len(node.input))) < len(node.input)
        and node.input[index] in stored
    ]
    return bool(scales) and max(scales) == 1


def _attribute(node: onnx.NodeProto, name: str, otherwise: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), otherwise)


def _decoder_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Shapes that tell the decoders of the family apart; empty for another architecture."""
    stored = {name: tuple(tensor.dims) for name, tensor in _tensors(graph)}
    makers = {output: node for node in graph.node for output in node.output}
    kernels = list(_weights(graph, _CONVOLUTIONS, stored, makers))
    embed = next((kernel for kernel in kernels if len(kernel) == 3 and kernel[1] > 1), None)
    if embed is None:
        return {}
    blocks = [kernel for kernel in kernels if kernel[:2] == (embed[0], 1)]
    widths = [
        next(size for size in (*matrix, embed[0]) if size != embed[0])
        for matrix in _matrices(graph, stored, makers)
        if embed[0] in matrix and len(set(matrix)) == 2
    ]
    # Two matrices for each block, then the head.
    if not blocks or len(widths) <= 2 * len(blocks):
        return {}
    shapes = {
        "decoder.embed.weight": embed,
        "decoder.convnext.0.pwconv1.weight": (widths[0], embed[0]),
        "head.out.weight": (widths[2 * len(blocks)], embed[0]),
    }
    return shapes | {
        f"decoder.convnext.{number}.dwconv.weight": kernel for number, kernel in enumerate(blocks)
    }


def _matrices(
    graph: onnx.GraphProto, stored: Mapping[str, tuple[int, ...]], makers: Mapping[str, Any]
) -> Iterator[tuple[int, ...]]:
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            yield _attribute(node, "N", 0), _attribute(node, "K", 0)
        elif node.op_type in _MATMULS:
            shape = _shape(node.input[_MATMULS[node.op_type]], stored, makers)
            if len(shape) == 2:
                yield shape


def _weights(
    graph: onnx.GraphProto,
    kinds: Mapping[str, int],
    stored: Mapping[str, tuple[int, ...]],
    makers: Mapping[str, Any],
) -> Iterator[tuple[int, ...]]:
    for node in graph.node:
        if node.op_type in kinds:
            yield _shape(node.input[kinds[node.op_type]], stored, makers)


def _shape(
    name: str, stored: Mapping[str, tuple[int, ...]], makers: Mapping[str, Any]
) -> tuple[int, ...]:
    """The shape of a stored weight behind casts and the like; () for a computed value.

    The order of a transposed matrix is left as it is stored.
    """
    while name not in stored and name in makers and makers[name].op_type in _PASSED:
        name = makers[name].input[0]
    return stored.get(name, ())
