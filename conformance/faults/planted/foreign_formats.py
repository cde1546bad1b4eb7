"""Faults of reading and writing the formats of other tools."""

from __future__ import annotations

from typing import Any

import numpy as np

from conformance.faults.fault import FOLDER, fault
from conformance.faults.network_hooks import patch
from conformance.subject import Subject


@fault(FOLDER, "EX-11", hard=True, blame=("EX",))
def hidden_state_in_second_place(subject: Subject) -> Subject:
    """`last_hidden_state` follows the logits, where runtimes read the KV cache."""
    from soprano.export import bundle

    patch("hidden_state_last", lambda model: model, bundle)
    return subject


@fault(FOLDER, "EX-12", hard=True, blame=("EX",))
def every_export_taken_for_float32(subject: Subject) -> Subject:
    """The class of a community export is always that of float32."""
    from soprano.checkpoint import community

    patch("precision_of", lambda graph: "fp32", community)
    community.read_graph.cache_clear()
    return subject


@fault(FOLDER, "CK-19", hard=True, blame=("CK",))
def mlx_biases_left_out(subject: Subject) -> Subject:
    """Codes of MLX are only scaled."""
    from soprano.checkpoint import mlx

    dequantise = mlx.dequantise

    def scaled(where: str, numbers: Any, codes: Any, scales: Any, biases: Any) -> Any:
        return dequantise(where, numbers, codes, scales, np.zeros_like(biases))

    patch("dequantise", scaled, mlx)
    return subject


@fault(FOLDER, "CK-20", hard=True, blame=("CK",))
def gguf_numbers_not_compared(subject: Subject) -> Subject:
    """A GGUF file of another model is read if its tensors have the right names."""
    from soprano.checkpoint import gguf

    patch("require_config", lambda *arguments: None, gguf)
    return subject
