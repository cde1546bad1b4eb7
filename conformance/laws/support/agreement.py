"""Judges outputs of one backend that must agree."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from conformance.judging.compare import Limit, bits
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


def judge_same(
    judge: Judge, quantity: str, actual: Any, expected: npt.NDArray[Any], limit: Limit
) -> None:
    """Bits are equal, or else values are within a limit, which may be coarse."""
    __tracebackhide__ = True
    if not expected.size:
        judge.shape(quantity, actual, expected.shape)
    elif bits("", actual, expected).fault is None:
        judge.bits(quantity, actual, expected)
    else:
        judge.close(quantity, actual, expected, limit)
