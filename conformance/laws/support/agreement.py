"""Judges outputs of one backend that must agree."""

from __future__ import annotations

from conformance.judging.judge import Judge
from conformance.judging.vectors import Vectors
from soprano.backends import Output


def judge_agreement(
    judge: Judge, vectors: Vectors, name: str, actual: Output, expected: Output
) -> None:
    """Logits and hidden states are within the self-consistency limit."""
    __tracebackhide__ = True
    with judge.together():
        for part in ("logits", "hidden"):
            limit = vectors.own_limit(f"step {part}")
            judge.close(f"{name} {part}", getattr(actual, part), getattr(expected, part), limit)
