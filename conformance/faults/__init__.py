"""Bugs that real ports of this family and its neighbours had, and variations that are none.

Each is planted one at a time; `conformance/meta/matrix.py` runs the suite on it.
Numbers below 50 are those of the public catalogue, from 50 on faults found by asking of each
requirement what would break it unnoticed; OK-.. are the harmless variations.
"""

from __future__ import annotations

from importlib import import_module

from conformance.faults.fault import CATALOGUE, FLOW, Fault, Stage

__all__ = ["FLOW", "Fault", "Stage", "catalogue"]

_FILES = (
    "text",
    "tokenizer",
    "sampler",
    "draws",
    "folder",
    "language_model",
    "positions",
    "cache",
    "hidden_states",
    "generation",
    "decoder",
    "istft",
    "streaming",
    "runtime",
    "audio",
    "harmless",
)


def catalogue() -> dict[str, Fault]:
    """Every fault and harmless variation by its number, in the order of the data flow."""
    for name in _FILES:
        import_module(f"{__name__}.{name}")
    return CATALOGUE
