"""Cases of the text laws: tables of texts and their normalised forms, and random prose."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import strategies as st

WORDS = st.sampled_from([
    "the", "a", "boat", "house", "7", "21st", "1999", "3.5", "$5", "£2.50", "8:05", "3:04:05",
    "Mr.", "Dr.", "NASA", "OpenAI", "e-mail", "don't", "U.S.", "50%", "1/2/2024", "(so)", "5 kg",
    "1990s", "1½", "GPT-4", "9am-5pm", "‘so’", "π", "x²", "!=", "https://a.org/b?c=d", "<b>so</b>",
])  # fmt: skip
MARKS = st.sampled_from(
    [" ", " ", " ", ", ", ". ", "! ", "? ", "... ", "; ", " - ", "—", "\n", "\t", "。", " → "]
)
PROSE = st.lists(st.tuples(WORDS, MARKS), max_size=120).map(
    lambda pairs: "".join(word + mark for word, mark in pairs)
)

READINGS: dict[str, dict[str, str]] = {}  # by requirement: what each text of its law must become


def letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text)


def law_from_table(requirement: str, table: str) -> Callable[..., None]:
    """The test of one requirement from its `text → normalised` pairs.

    Pairs are separated by line ends or by ` | `; a line end inside a text is written `\\n`.

    Every normalised form was written by hand from how English is read aloud. Where several
    readings are possible, it is the one that the published checkpoints were trained on.
    """
    cells = (re.sub(" +", " ", cell.strip()) for cell in re.split(r"\n| \| ", table.strip()))
    pairs = (cell.replace("\\n", "\n").split(" → ") for cell in cells)
    return law_from_pairs(requirement, [(text, normalised) for text, normalised in pairs])


def law_from_pairs(requirement: str, pairs: list[tuple[str, str]]) -> Callable[..., None]:
    """The same from a list, for texts that a table cannot hold."""
    READINGS.setdefault(requirement, {}).update(pairs)

    @pytest.mark.requirement(requirement)
    def law(text_stage, judge):  # type: ignore[no-untyped-def]
        with judge.together():
            for text, normalised in pairs:
                text_stage.judge_reading(judge, text, normalised)

    return law
