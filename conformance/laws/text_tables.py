"""Laws of normalisation as tables of texts and their normalised forms.

Every expected form was written by hand from how English is read aloud. Where several readings are
possible, it is the one that the published checkpoints were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest


def law_from_table(requirement: str, table: str) -> Callable[..., None]:
    """The test of one requirement from its `text → normalised` pairs."""
    cells = (" ".join(cell.split()) for cell in re.split(r"\n| \| ", table.strip()))
    pairs = [tuple(cell.split(" → ")) for cell in cells]

    @pytest.mark.requirement(requirement)
    @pytest.mark.parametrize(("text", "normalised"), pairs)
    def law(text_stage, judge, text, normalised):  # type: ignore[no-untyped-def]
        judge.equal("normalised text", text_stage.normalize(text), normalised)

    return law
