"""A writer of ONNX graphs whose weights may stay in the files that hold them.

An initializer may be external data: a file, an offset and a length (onnx.proto, TensorProto).
Runtimes read only files in the graph's own folder, so a graph is written beside its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from soprano.checkpoint.tensors import Tensor

OPSET = 20
IR_VERSION = 10
WIDENED = ".float32"  # suffix of the name of a tensor that a Cast widens

Weights = Mapping[str, Tensor] | Mapping[str, npt.NDArray[np.floating]]

_STORAGE = {
    "F32": TensorProto.FLOAT,
    "F16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "F64": TensorProto.DOUBLE,
}


class Graph:
    """Nodes in the order in which they are computed; values are referred to by name.

    `weights` are the model's tensors by name, of which `initializers` holds those that are used.
    """

    def __init__(self, name: str, weights: Weights) -> None:
        self._name = name
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._used: set[str] = set()

    def input(self, name: str, kind: int, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, kind: int, shape: Sequence[int | str], value: str) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"output.{name}"))
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def rename(self, value: str, name: str, kind: int, shape: Sequence[int | str]) -> None:
        """Make a node's output an output of the graph, under another name."""
        for node in self.nodes:
            node.output[:] = [name if output == value else output for output in node.output]
        self._outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def op(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """One node with one output, whose name is the node's."""
        return self.split(kind, *inputs, name=name, count=1, **attributes)[0]

    def split(self, kind: str, *inputs: str, name: str, count: int, **attributes: Any) -> list[str]:
        """One node with several outputs."""
        name = self._unique(name)
        outputs = [name] if count == 1 else [f"{name}.{i}" for i in range(count)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name, **attributes))
        return outputs

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """A small value inside the graph; equal values share one initializer."""
        array = np.asarray(value, dtype)
        name = f"const.{array.dtype}.{array.shape}.{array.tobytes().hex()}"
        if len(name) > 80:
            name = f"const.{len(self.initializers)}"
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str) -> str:
        """A tensor of the model as float32; runtimes fold the cast of a narrower one at load."""
        narrow = self.stored_weight(name)
        if self.initializers[narrow].data_type == TensorProto.FLOAT:
            return narrow
        wide = f"{name}{WIDENED}"
        if wide not in self._used:
            self._used.add(wide)
            self.nodes.append(
                helper.make_node("Cast", [narrow], [wide], name=wide, to=TensorProto.FLOAT)
            )
        return wide

    def stored_weight(self, name: str) -> str:
        """A tensor of the model in its own type."""
        if name not in self.initializers:
            source = self.weights[name]
            self.initializers[name] = (
                _external(name, source)
                if isinstance(source, Tensor)
                else numpy_helper.from_array(source, name)
            )
        return name

    def _unique(self, name: str) -> str:
        if name in self._used:
            raise ValueError(f"two nodes are named {name}")
        self._used.add(name)
        return name

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, self._name, self._inputs, self._outputs, list(self.initializers.values())
        )
        return helper.make_model(
            graph,
            opset_imports=[
                helper.make_opsetid(domain, OPSET if domain == "" else 1)
                for domain in sorted({"", *(node.domain for node in self.nodes)})
            ],
            ir_version=IR_VERSION,
            producer_name="soprano-conformance",
        )


def linear(g: Graph, x: str, module: str, *, name: str = "", bias: bool = False) -> str:
    """(N, in) -> (N, out); weights are (out, in)."""
    inputs = [x, g.weight(f"{module}.weight"), *([g.weight(f"{module}.bias")] if bias else [])]
    return g.op("Gemm", *inputs, name=name or module, transB=1)


def _external(name: str, source: Tensor) -> onnx.TensorProto:
    tensor = TensorProto(
        name=name,
        dims=source.shape,
        data_type=_STORAGE[source.dtype],
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in (
        ("location", source.path.name),
        ("offset", str(source.offset)),
        ("length", str(source.length)),
    ):
        tensor.external_data.add(key=key, value=value)
    return tensor
