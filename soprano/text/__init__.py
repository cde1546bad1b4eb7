"""Text -> normalised text -> sentences, the first two stages of the pipeline."""

from __future__ import annotations

from typing import NamedTuple

from soprano.text import numbers, words
from soprano.text.rules import Rule, rewrite
from soprano.text.sentences import merge_short, split
from soprano.text.symbols import SIGN_RULES, SYMBOL_RULES, finish, fold, join_lines, unbracket

__all__ = [
    "ENGLISH",
    "RuleSet",
    "merge_short",
    "normalize",
    "sentences",
    "split",
    "split_sentences",
]


class RuleSet(NamedTuple):
    """The rules of a normaliser, in the order in which they are applied."""

    before_brackets: tuple[Rule, ...]  # signs, units, numbers, links
    after_brackets: tuple[Rule, ...]  # abbreviations, then the remaining symbols


ENGLISH = RuleSet(
    SIGN_RULES + words.UNIT_RULES + numbers.RULES + words.LINK_RULES,
    words.ABBREVIATION_RULES + SYMBOL_RULES,
)


def normalize(text: str, rules: RuleSet = ENGLISH) -> str:
    """Write text in lower-case letters, spaces and `. , ! ? ' -`.

    Every string is accepted. Characters that cannot be read are removed. A line end ends a
    sentence. The published checkpoints were trained with the normaliser of `soprano-tts`; its
    readings are kept where they preserve the meaning, for example "dash" in ISO dates.
    """
    text = rewrite(join_lines(fold(text)), rules.before_brackets)
    return finish(rewrite(unbracket(text), rules.after_brackets))


def split_sentences(normalized: str) -> list[str]:
    """Split normalised text into sentences; an empty list if it has no letter or digit.

    A sentence has at most 300 characters before short ones (under 30) are merged with another, and
    at most 390 after that.
    """
    return merge_short(split(normalized))


def sentences(text: str) -> list[str]:
    """Normalise text and split it into sentences."""
    return split_sentences(normalize(text))
