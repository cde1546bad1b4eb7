"""Faults of positions: how queries and keys are turned, and which columns they may see."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import LANGUAGE_MODEL, fault
from conformance.faults.language_model import GRAPHS, is_projection
from conformance.faults.plant import Float32, Plant


@fault("KV-05", LANGUAGE_MODEL)
def prefill_sees_the_future(plant: Plant) -> None:
    """The triangular mask is dropped at prefill, where several ids are read at once."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        columns, queries = inputs
        beyond = g.op("Add", queries, "mask.total", name="mask.beyond")
        return kind, (columns, beyond), attributes

    plant.node(lambda kind, name: name == "mask.causal", change)
    from soprano.reference import language_model as lm

    causal = lm.causal
    plant.set(lm, "causal", lambda mask, new: causal(mask, new) | mask.bool()[:, None, None, :])


@fault("KV-14", LANGUAGE_MODEL)
def rotation_of_neighbours(plant: Plant) -> None:
    """RoPE turns the pair (2i, 2i + 1) instead of (i, i + D/2), as other families do."""
    # A converter that permutes the rows of q and k turns one pairing into the other.
    widths: dict[str, int] = {}

    def change(name: str, values: Float32) -> Float32:
        if is_projection(name, "q_norm", "k_norm"):
            widths["head"] = len(values)
            return np.concatenate([values[0::2], values[1::2]])
        if is_projection(name, "q_proj", "k_proj"):
            rows = values.reshape(-1, head_dim(values), values.shape[1])
            return np.concatenate([rows[:, 0::2], rows[:, 1::2]], axis=1).reshape(values.shape)
        return values

    def head_dim(values: Float32) -> int:
        return 6  # of the model it is planted in

    plant.weights(change)


@fault("KV-15", LANGUAGE_MODEL, hard=True)
def positions_in_bfloat16(plant: Plant) -> None:
    """Angles of the rotation come from positions in bfloat16, which has 256 exact integers."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        # What is left of a position p in bfloat16: eight leading bits.
        whole = g.op("Cast", inputs[0], name="rope.whole", to=TensorProto.FLOAT)
        eighths = g.op("Mul", whole, g.constant(1 / 4, np.float32), name="rope.quarter")
        coarse = g.op("Floor", eighths, name="rope.coarse")
        rounded = g.op("Mul", coarse, g.constant(4, np.float32), name="rope.rounded")
        large = g.op("Greater", whole, g.constant(256, np.float32), name="rope.large")
        return "Where", (large, rounded, whole), {}

    plant.node(lambda kind, name: name == "rope.positions", change)
    from soprano.reference import language_model as lm

    rotations = lm.rotations
    plant.set(
        lm, "rotations", lambda config, positions, dtype: rotations(
            config, positions.bfloat16().float(), dtype
        )
    )  # fmt: skip


@fault("RT-14", LANGUAGE_MODEL, hard=True)
def steps_count_from_one(plant: Plant) -> None:
    """Prefill counts positions from 0 and the step graph's table from 1."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: Any) -> Any:
        return advance(backend, ids, positions + (state.mask.shape[1] > ids.shape[1]), state)

    plant.advanced(change)


@fault("LM-57", LANGUAGE_MODEL, hard=True)
def positions_end_at_512(plant: Plant) -> None:
    """Positions are looked up in a table of 512 rows and clamped at its end."""

    def change(advance: Any, backend: Any, ids: Any, positions: Any, state: Any) -> Any:
        return advance(backend, ids, np.minimum(positions, 511), state)

    plant.advanced(change)


@fault("LM-63", LANGUAGE_MODEL, hard=True, backends=GRAPHS)
def attention_looks_back_300_ids(plant: Plant) -> None:
    """A sliding window of 300 ids, a default of the library, hides what came before."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        edge = g.op("Sub", "mask.query_column", g.constant(300), name="mask.edge")
        near = g.op("Greater", "mask.columns", edge, name="mask.near")
        causal = g.op("LessOrEqual", *inputs, name="mask.past")
        return "And", (causal, near), {}

    plant.node(lambda kind, name: name == "mask.causal", change)


@fault("LM-64", LANGUAGE_MODEL, hard=True, backends=GRAPHS)
def rotation_stretched_beyond_512(plant: Plant) -> None:
    """Beyond 512 positions the angles are scaled down, as some engines do for long contexts."""

    def change(g: Any, kind: str, inputs: Any, attributes: Any) -> Any:
        from onnx import TensorProto

        whole = g.op("Cast", inputs[0], name="rope.whole", to=TensorProto.FLOAT)
        edge = g.constant(512, np.float32)
        over = g.op("Sub", whole, g.op("Min", whole, edge, name="rope.in"), name="rope.over")
        half = g.op("Mul", over, g.constant(0.5, np.float32), name="rope.half")
        return "Sub", (whole, half), {}

    plant.node(lambda kind, name: name == "rope.positions", change)
