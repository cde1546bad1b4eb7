"""The language model's cache as OpenVINO's own state, and attention as the operator that keeps it.

The plugin joins its attention operator with the state that it reads; such a cache grows in place,
where any other needs new kernels for its new length at every step.
It does so for one query a query head, with a bias for a mask, over rows of the cache that are
gathered first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.backends.openvino_import import ops, ov, passes
from soprano.config import LanguageModelConfig
from soprano.onnx_graphs.names import cache_names

_LOWEST = np.finfo(np.float32).min


def keep_cache(model: ov.Model, config: LanguageModelConfig) -> None:
    """Turns the cache tensors of a standard graph into state, empty at first."""
    ids = model.input("input_ids").get_node()
    batch = ops.gather(ops.shape_of(ids), [0], 0)  # (1,)
    manager = passes.Manager()
    manager.register_pass(_AttentionOperator(model, config, batch))
    manager.register_pass(passes.MakeStateful(dict(cache_names(config.num_hidden_layers))))
    manager.run_passes(model)
    shape = ops.concat([batch, [config.num_key_value_heads, 0, config.head_dim]], 0)
    empty = ops.broadcast(np.float32(0), shape)
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([empty])
    model.validate_nodes_and_infer_types()


class _AttentionOperator(passes.MatcherPass):  # type: ignore[misc]  # the library has no types
    """Grouped products with a softmax between them -> one attention operator.

    A graph that differs in anything is left as it is.
    """

    def __init__(self, model: ov.Model, config: LanguageModelConfig, batch: ov.Node) -> None:
        super().__init__()
        constants = _Constants(model)
        heads, key_heads, width = (
            config.num_attention_heads, config.num_key_value_heads, config.head_dim,
        )  # fmt: skip
        self._groups = heads // key_heads
        self._split = np.array([0, heads, -1, width])
        count = ops.squeeze(ops.convert(batch, "i32"), 0)
        self._rows = ops.range(np.int32(0), count, np.int32(1), "i32")

        self._query, self._allowed = passes.AnyInput(), passes.AnyInput()
        self._factor = constants.scalar()
        self._keys, self._values = (
            _node("Concat", [_node("Parameter"), passes.AnyInput()], axis=2) for _ in range(2)
        )
        grouped = _node("Reshape", [self._query, constants.of([0, key_heads, -1, width])])
        scaled = _node("Multiply", [grouped, self._factor])
        turned = _node("Transpose", [self._keys, constants.of([0, 1, 3, 2])])
        scores = _product(scaled, turned)
        tiled = _node("Tile", [self._allowed, constants.of([1, 1, self._groups, 1])])
        masked = _node("Select", [tiled, scores, constants.of(_LOWEST)])
        mixed = _product(_node("Softmax", [masked], axis=-1), self._values)
        end = _node("Reshape", [mixed, constants.of(self._split)])
        self.register_matcher(passes.Matcher(end, "attention"), self._replace)

    def _replace(self, matcher: passes.Matcher) -> bool:
        found = matcher.get_pattern_value_map()
        bias = ops.select(found[self._allowed], np.float32(0), _LOWEST)
        keys, values = (
            self._gathered(found[part].get_node()) for part in (self._keys, self._values)
        )
        attention = ops.scaled_dot_product_attention(
            found[self._query], keys, values, bias, found[self._factor]
        )
        end = matcher.get_match_root()
        attention.set_friendly_name(end.get_friendly_name())
        end.output(0).replace(attention.output(0))
        return True

    def _gathered(self, cache: ov.Node) -> ov.Node:
        """Keys or values (B, heads, S, D), each repeated for the query heads that share it."""
        past = ops.gather(cache.input_value(0), self._rows, 0)
        cache.input(0).replace_source_output(past.output(0))
        if self._groups == 1:
            return cache
        shape = ops.shape_of(cache)
        repeated = ops.concat(
            [ops.gather(shape, [0, 1], 0), [self._groups], ops.gather(shape, [2, 3], 0)], 0
        )
        wide = ops.broadcast(ops.unsqueeze(cache, 2), repeated, broadcast_spec="BIDIRECTIONAL")
        return ops.reshape(wide, self._split, special_zero=True)


def _node(kind: str, inputs: list[ov.Node] | None = None, **attributes: Any) -> passes.WrapType:
    """A pattern: an operator with these attributes."""

    def fits(output: ov.Output) -> bool:
        own = output.get_node().get_attributes()
        return all(own[name] == value for name, value in attributes.items())

    return passes.WrapType(f"opset13.{kind}", *([inputs] if inputs else []), fits)


class _Constants:
    """Patterns for the constants of a model, whose values the library gives to no pattern."""

    def __init__(self, model: ov.Model) -> None:
        nodes = (node for node in model.get_ops() if node.get_type_name() == "Constant")
        self._values: dict[str, npt.NDArray[Any]] = {node.get_name(): node.data for node in nodes}

    def scalar(self) -> passes.WrapType:
        return passes.WrapType("opset13.Constant", lambda output: self._value(output).size == 1)

    def of(self, values: npt.ArrayLike) -> passes.Or:
        def fits(output: ov.Output) -> bool:
            return np.array_equal(self._value(output), values)

        constant = passes.WrapType("opset13.Constant", fits)
        return passes.Or([constant, passes.WrapType("opset13.Convert", [constant])])

    def _value(self, output: ov.Output) -> npt.NDArray[Any]:
        return self._values[output.get_node().get_name()]


def _product(first: ov.Node, second: ov.Node) -> passes.WrapType:
    return _node("MatMul", [first, second], transpose_a=False, transpose_b=False)
