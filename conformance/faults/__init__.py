"""Bugs of real ports, and harmless variations; each is planted alone and judged by the suite.

A fault's id is its stage and its name. Those marked `public` were found in public ports; the others
by asking for each requirement which bug would break it unnoticed.
"""

from __future__ import annotations

from importlib import import_module

from conformance.faults.fault import CATALOGUE, FLOW, Fault, Stage

__all__ = ["FLOW", "Fault", "Stage", "catalogue"]

_FILES = (
    "text", "text_kinds", "tokenizer", "sampler", "sampler_edges", "draws", "folder",
    "foreign_formats", "language_model", "positions", "cache", "hidden_states", "generation",
    "decoder", "istft", "istft_inputs", "streaming", "own_loops", "own_stages", "sizes",
    "interleaving", "own_calls",
    "runtime", "audio", "whole_parts", "harmless",
)  # fmt: skip


def catalogue() -> dict[str, Fault]:
    """Every fault and harmless variation by its id, in the order of the data flow."""
    for name in _FILES:
        import_module(f"{__name__}.planted.{name}")
    return CATALOGUE
