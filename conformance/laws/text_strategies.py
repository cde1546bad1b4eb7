"""Texts that mix words, numbers and marks in every way."""

from __future__ import annotations

import re

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
