"""Bugs of real ports, and harmless variations; each is planted alone and judged by the suite.

Ids below 50 are those of the public list of faults. Ids from 50 on were found by asking for each
requirement which bug would break it unnoticed. OK-.. are the harmless variations.
"""

from __future__ import annotations

from importlib import import_module

from conformance.faults.fault import CATALOGUE, FLOW, Fault, Stage

__all__ = ["FLOW", "Fault", "Stage", "catalogue"]

_FILES = (
    "text", "tokenizer", "sampler", "draws", "folder", "language_model", "positions", "cache",
    "hidden_states", "generation", "decoder", "istft", "streaming", "runtime", "audio", "harmless",
)  # fmt: skip


def catalogue() -> dict[str, Fault]:
    """Every fault and harmless variation by its id, in the order of the data flow."""
    for name in _FILES:
        import_module(f"{__name__}.{name}")
    return CATALOGUE
