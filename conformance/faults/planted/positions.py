"""Faults of positions: the rotation of queries and keys, and the attention mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.faults.fault import LANGUAGE_MODEL, fault
from conformance.faults.network_hooks import GRAPHS, patch, with_cache, with_nodes, with_weights
from conformance.faults.plant import Float32
from conformance.faults.planted.language_model import is_weight
from conformance.subject import Subject
from soprano.backends import Output
from soprano.backends.dynamic_cache import DynamicCache


def with_positions(subject: Subject, change: Callable[[Any, bool], Any]) -> Subject:
    """`change(positions, stepping)` in place of the positions of new ids."""

    class Moved(DynamicCache):
        def advance(self, network: Any, ids: Any, positions: Any, state: Any) -> Output:
            stepping = state.mask.shape[1] > ids.shape[1]
            return super().advance(network, ids, change(positions, stepping), state)

    return with_cache(subject, Moved)


@fault(LANGUAGE_MODEL, "LM-01", public=True)
def prefill_sees_the_future(subject: Subject) -> Subject:
    """Prefill has no causal mask, and ids attend to later ones."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        columns, queries = inputs
        beyond = g.op("Add", queries, "mask.total", name="mask.beyond")
        return kind, (columns, beyond), attributes

    try:
        from soprano.reference import language_model as reference
    except ImportError:
        pass
    else:
        patch(
            "causal_mask",
            lambda mask, new: mask.bool()[:, None, None, :].expand(-1, 1, new, -1),
            reference,
        )
    return with_nodes(subject, lambda kind, name: name == "mask.causal", change)


@fault(LANGUAGE_MODEL, "LM-01", public=True)
def rotation_of_neighbours(subject: Subject) -> Subject:
    """RoPE rotates the pairs (2i, 2i + 1) instead of (i, i + D/2), as in other families."""
    head_dim = 6  # of the model it is planted in

    # A permutation of the rows of q and k turns one pairing into the other.
    def change(name: str, values: Float32) -> Float32:
        if is_weight(name, "q_norm", "k_norm"):
            return np.concatenate([values[0::2], values[1::2]])
        if is_weight(name, "q_proj", "k_proj"):
            heads = values.reshape(-1, head_dim, values.shape[1])
            return np.concatenate([heads[:, 0::2], heads[:, 1::2]], axis=1).reshape(values.shape)
        return values

    return with_weights(subject, change)


@fault(LANGUAGE_MODEL, "LM-03", hard=True, public=True)
def positions_in_bfloat16(subject: Subject) -> Subject:
    """RoPE computes its angles from positions in bfloat16, which is exact up to 256."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        # bfloat16 keeps eight leading bits: from 256 on, multiples of 2 and then of 4.
        whole = g.op("Cast", inputs[0], name="rope.whole", to=TensorProto.FLOAT)
        quarter = g.op("Mul", whole, g.constant(1 / 4, np.float32), name="rope.quarter")
        coarse = g.op("Floor", quarter, name="rope.coarse")
        rounded = g.op("Mul", coarse, g.constant(4, np.float32), name="rope.rounded")
        large = g.op("Greater", whole, g.constant(256, np.float32), name="rope.large")
        return "Where", (large, rounded, whole), {}

    try:
        from soprano.reference import language_model as reference
    except ImportError:
        pass
    else:
        rotary = reference.rotary_embedding
        patch(
            "rotary_embedding",
            lambda config, positions, dtype: rotary(config, positions.bfloat16().float(), dtype),
            reference,
        )
    return with_nodes(subject, lambda kind, name: name == "rope.positions", change)


@fault(LANGUAGE_MODEL, "LM-02", hard=True, public=True)
def steps_count_from_one(subject: Subject) -> Subject:
    """Prefill counts positions from 0, and the table of the step graph from 1."""
    return with_positions(subject, lambda positions, stepping: positions + stepping)


@fault(LANGUAGE_MODEL, "LM-03", hard=True)
def positions_end_at_512(subject: Subject) -> Subject:
    """Positions index a table of 512 entries and are clamped at its end."""
    return with_positions(subject, lambda positions, stepping: np.minimum(positions, 511))


@fault(LANGUAGE_MODEL, "LM-03", hard=True, backends=GRAPHS)
def attention_looks_back_300_ids(subject: Subject) -> Subject:
    """Attention has a sliding window of 300 ids, a default of the library."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        edge = g.op("Sub", "mask.query_column", g.constant(300), name="mask.edge")
        near = g.op("Greater", "mask.columns", edge, name="mask.near")
        causal = g.op("LessOrEqual", *inputs, name="mask.past")
        return "And", (causal, near), {}

    return with_nodes(subject, lambda kind, name: name == "mask.causal", change)


@fault(LANGUAGE_MODEL, "LM-03", hard=True, backends=GRAPHS)
def rotation_stretched_beyond_512(subject: Subject) -> Subject:
    """Beyond 512 positions the angles of RoPE are scaled down, as engines do for long contexts."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        whole = g.op("Cast", inputs[0], name="rope.whole", to=TensorProto.FLOAT)
        edge = g.constant(512, np.float32)
        over = g.op("Sub", whole, g.op("Min", whole, edge, name="rope.in"), name="rope.over")
        half = g.op("Mul", over, g.constant(0.5, np.float32), name="rope.half")
        return "Sub", (whole, half), {}

    return with_nodes(subject, lambda kind, name: name == "rope.positions", change)
