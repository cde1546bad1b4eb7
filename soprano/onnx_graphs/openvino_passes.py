"""ONNX graphs as OpenVINO models: the KV cache is the runtime's state, attention one operator.

The CPU plugin fuses its attention operator with the state that it reads. A fused cache grows in
place; any other cache needs new kernels for its new length at every step.
The plugin's pattern has separate query heads, the mask as an additive bias, and a gather of the
cache's rows (for beam search).
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.config import LanguageModelConfig
from soprano.onnx_graphs.names import cache_names
from soprano.onnx_graphs.openvino_import import ops, ov, passes
from soprano.onnx_graphs.source import GraphSource

_LOWEST = np.finfo(np.float32).min


def convert(graph: GraphSource, config: LanguageModelConfig | None) -> ov.Model:
    """An ONNX graph as an OpenVINO model; a language model's (with its config) keeps its cache."""
    model = ov.Core().read_model(graph.path if graph.path else _inline_weights(graph))
    if config is not None:
        _keep_cache(model, config)
    return model


def _inline_weights(graph: GraphSource) -> BytesIO:
    """A graph in memory with its weights inside: the converter finds files by a graph's path."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    model = onnx.load_from_string(graph.content or b"")
    load_external_data_for_model(model, str(graph.folder))
    return BytesIO(model.SerializeToString())


def _keep_cache(model: ov.Model, config: LanguageModelConfig) -> None:
    """Turn the cache inputs and outputs of a standard graph into state, empty at first."""
    ids = model.input("input_ids").get_node()
    batch = ops.gather(ops.shape_of(ids), [0], 0)  # (1,)
    _AttentionOperator(model, config, batch).apply(model)
    manager = passes.Manager()
    manager.register_pass(passes.MakeStateful(dict(cache_names(config.num_hidden_layers))))
    manager.run_passes(model)
    shape = ops.concat([batch, [config.num_key_value_heads, 0, config.head_dim]], 0)
    empty = ops.broadcast(np.float32(0), shape)
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty])
    model.validate_nodes_and_infer_types()


class _AttentionOperator:
    """Two grouped matmuls with a softmax in between -> one attention operator.

    A graph that differs from the pattern in any detail is not changed.
    No `passes.MatcherPass`: in Python it is part of a reference cycle through the library, so that
    neither it nor a model with its nodes is ever released, nor a thread of each compiled model.
    """

    def __init__(self, model: ov.Model, config: LanguageModelConfig, batch: ov.Node) -> None:
        constants = _ConstantPatterns(model)
        heads, key_heads, width = (
            config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        )  # fmt: skip
        self._groups = heads // key_heads
        self._split = np.array([0, heads, -1, width])
        count = ops.squeeze(ops.convert(batch, "i32"), 0)
        self._rows = ops.range(np.int32(0), count, np.int32(1), "i32")

        self._query, self._mask = passes.AnyInput(), passes.AnyInput()
        self._scale = constants.scalar()
        self._keys, self._values = (
            _node("Concat", [_node("Parameter"), passes.AnyInput()], axis=2) for _ in range(2)
        )
        grouped = _node("Reshape", [self._query, constants.of([0, key_heads, -1, width])])
        scaled = _node("Multiply", [grouped, self._scale])
        transposed = _node("Transpose", [self._keys, constants.of([0, 1, 3, 2])])
        scores = _matmul(scaled, transposed)
        tiled = _node("Tile", [self._mask, constants.of([1, 1, self._groups, 1])])
        masked = _node("Select", [tiled, scores, constants.of(_LOWEST)])
        output = _matmul(_node("Softmax", [masked], axis=-1), self._values)
        end = _node("Reshape", [output, constants.of(self._split)])
        self._matcher = passes.Matcher(end, "attention")

    def apply(self, model: ov.Model) -> None:
        """Replace every match, in the order of computation."""
        for node in model.get_ordered_ops():
            if node.get_type_name() == "Reshape" and self._matcher.match(node):
                self._replace()

    def _replace(self) -> None:
        matched = self._matcher.get_pattern_value_map()
        bias = ops.select(matched[self._mask], np.float32(0), _LOWEST)
        keys, values = (
            self._gather_rows(matched[part].get_node()) for part in (self._keys, self._values)
        )
        attention = ops.scaled_dot_product_attention(
            matched[self._query], keys, values, bias, matched[self._scale]
        )
        end = self._matcher.get_match_root()
        attention.set_friendly_name(end.get_friendly_name())
        end.output(0).replace(attention.output(0))

    def _gather_rows(self, cache: ov.Node) -> ov.Node:
        """Keys or values (B, heads, S, D), repeated for the query heads of each key head."""
        past = ops.gather(cache.input_value(0), self._rows, 0)
        cache.input(0).replace_source_output(past.output(0))
        if self._groups == 1:
            return cache
        shape = ops.shape_of(cache)
        repeated = ops.concat(
            [ops.gather(shape, [0, 1], 0), [self._groups], ops.gather(shape, [2, 3], 0)], 0
        )
        expanded = ops.broadcast(ops.unsqueeze(cache, 2), repeated, broadcast_spec="BIDIRECTIONAL")
        return ops.reshape(expanded, self._split, special_zero=True)


def _node(kind: str, inputs: list[ov.Node] | None = None, **attributes: Any) -> passes.WrapType:
    """The pattern of an operator with these attributes."""

    def matches(output: ov.Output) -> bool:
        actual = output.get_node().get_attributes()
        return all(actual[name] == value for name, value in attributes.items())

    return passes.WrapType(f"opset13.{kind}", *([inputs] if inputs else []), matches)


class _ConstantPatterns:
    """Patterns of a model's constants by value, which the library's own patterns cannot test."""

    def __init__(self, model: ov.Model) -> None:
        nodes = (node for node in model.get_ops() if node.get_type_name() == "Constant")
        self._values: dict[str, npt.NDArray[Any]] = {node.get_name(): node.data for node in nodes}

    def scalar(self) -> passes.WrapType:
        return passes.WrapType("opset13.Constant", lambda output: self._value(output).size == 1)

    def of(self, values: npt.ArrayLike) -> passes.Or:
        def matches(output: ov.Output) -> bool:
            return np.array_equal(self._value(output), values)

        constant = passes.WrapType("opset13.Constant", matches)
        return passes.Or([constant, passes.WrapType("opset13.Convert", [constant])])

    def _value(self, output: ov.Output) -> npt.NDArray[Any]:
        return self._values[output.get_node().get_name()]


def _matmul(first: ov.Node, second: ov.Node) -> passes.WrapType:
    return _node("MatMul", [first, second], transpose_a=False, transpose_b=False)
