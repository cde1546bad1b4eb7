"""Text to normalised sentences, the first stage of synthesis.

The order below is the algorithm: ASCII on one line, signs that need their neighbours, figures,
links and initials, brackets, abbreviations, then whatever symbols are left.
"""

from __future__ import annotations

from soprano.text import numbers, words
from soprano.text.pieces import merge_short, split
from soprano.text.rules import rewrite
from soprano.text.symbols import SIGN_RULES, SYMBOL_RULES, finish, fold, join_lines, unbracket

__all__ = ["merge_short", "normalize", "sentences", "split"]


def normalize(text: str) -> str:
    """Spell text out in the small letters, spaces and `. , ! ? ' -` that a voice was trained on.

    Every string is accepted; what has no sound is left out. Line ends are ends of sentences.
    Where published checkpoints were trained behind an oddity of the reference, it is kept
    (ISO dates are read with "dash"); where the reference loses meaning, it is not.
    """
    text = join_lines(fold(text))
    text = rewrite(text, SIGN_RULES + words.UNIT_RULES + numbers.RULES + words.LINK_RULES)
    return finish(rewrite(unbracket(text), words.ABBREVIATION_RULES + SYMBOL_RULES))


def sentences(text: str) -> list[str]:
    """Normalise text and cut it into the pieces that are spoken, none if there is nothing to say.

    A piece has at most 300 characters before short ones (under 30) are merged with a neighbour,
    which can make it 390 at most.
    """
    return merge_short(split(normalize(text)))
