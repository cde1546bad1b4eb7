"""Laws of normalisation as tables of what is written and what is said.

Every expected value was written by hand from how English is read aloud and, where several readings
are possible, from the reading that published checkpoints were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from conformance.judging.judge import Judge

Stage = Any  # normalize(text) -> str, sentences(text) -> list[str]


def readings(identifier: str, table: str) -> Callable[..., None]:
    """Make the test of one law of normalisation from its `written → spoken` pairs."""
    cells = (" ".join(cell.split()) for cell in re.split(r"\n| \| ", table.strip()))
    pairs = [tuple(cell.split(" → ")) for cell in cells]

    @pytest.mark.requirement(identifier)
    @pytest.mark.parametrize(("written", "spoken"), pairs)
    def law(text_stage: Stage, judge: Judge, written: str, spoken: str) -> None:
        judge.equal("normalised text", text_stage.normalize(written), spoken)

    return law
