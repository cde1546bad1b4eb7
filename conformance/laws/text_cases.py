"""Cases of the text laws: tables of texts and their normalised forms, and random prose."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

WORDS = st.sampled_from([
    "the", "a", "boat", "house", "7", "21st", "1999", "3.5", "$5", "£2.50", "8:05", "3:04:05",
    "Mr.", "Dr.", "NASA", "OpenAI", "e-mail", "don't", "U.S.", "50%", "1/2/2024", "(so)",
])  # fmt: skip
MARKS = st.sampled_from(
    [" ", " ", " ", ", ", ". ", "! ", "? ", "... ", "; ", " - ", "—", "\n", "\t"]
)
PROSE = st.lists(st.tuples(WORDS, MARKS), max_size=120).map(
    lambda pairs: "".join(word + mark for word, mark in pairs)
)


def letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text)


def law_from_table(requirement: str, table: str) -> Callable[..., None]:
    """The test of one requirement from its `text → normalised` pairs.

    Every normalised form was written by hand from how English is read aloud. Where several
    readings are possible, it is the one that the published checkpoints were trained on.
    """
    cells = (" ".join(cell.split()) for cell in re.split(r"\n| \| ", table.strip()))
    pairs = [tuple(cell.split(" → ")) for cell in cells]

    @pytest.mark.requirement(requirement)
    @pytest.mark.parametrize(("text", "normalised"), pairs)
    def law(text_stage, judge, text, normalised):  # type: ignore[no-untyped-def]
        judge.equal("normalised text", text_stage.normalize(text), normalised)

    return law
