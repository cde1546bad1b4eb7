"""Text -> normalised text -> sentences, the first two stages of the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from soprano.errors import ModelError
from soprano.text import (
    abbreviations,
    characters,
    codes,
    dates,
    hyphens,
    links,
    money,
    numbers,
    symbols,
    units,
    words,
)
from soprano.text.lines import join_lines, join_words, resolve_quotes
from soprano.text.markup import plain
from soprano.text.rules import Rule, rewrite
from soprano.text.sentences import merge_short, split

__all__ = [
    "ENGLISH",
    "NORMALIZERS",
    "RuleSet",
    "merge_short",
    "normalize",
    "sentences",
    "split",
    "split_sentences",
]


class RuleSet(NamedTuple):
    """The rules of a normaliser, in the order in which they are applied."""

    before_folding: tuple[Rule, ...]  # signs that are not in ASCII
    before_brackets: tuple[Rule, ...]  # links, code, numbers, units, initials
    after_brackets: tuple[Rule, ...]  # abbreviations, then the remaining symbols


ENGLISH = RuleSet(
    characters.SIGN_RULES,
    links.RULES
    + symbols.CODE_RULES
    + abbreviations.NUMBERED_RULES
    + dates.RANGE_RULES
    + codes.RULES
    + numbers.GROUPING_RULES
    + symbols.SIGN_RULES
    + hyphens.RULES
    + money.RULES
    + numbers.DECADE_RULES
    + units.RULES
    + units.RATE_RULES
    + numbers.SIZE_RULES
    + dates.TIME_RULES
    + numbers.POWER_RULES
    + numbers.RULES
    + words.INITIAL_RULES
    + links.DOT_RULES,
    abbreviations.RULES
    + words.RULES
    + abbreviations.TITLE_RULES
    + money.LONE_RULES
    + symbols.SYMBOL_RULES,
)


def normalize(
    text: str, rules: RuleSet = ENGLISH, *, keep_markup: bool = False, paragraphs: bool = False
) -> str:
    """Write text in lower-case letters, spaces and `. , ! ? ' -`.

    Every string is accepted. Characters that cannot be read are removed. A line end ends a
    sentence. The published checkpoints were trained with the normaliser of `soprano-tts`; its
    readings are kept where they preserve the meaning, for example "dash" in ISO dates.

    Args:
        text: the text.
        rules: the rules of a language.
        keep_markup: read Markdown, HTML and SSML as text; else it is removed.
        paragraphs: for hard-wrapped text: only a blank line ends a sentence, and other line ends
            are spaces.
    """
    text = join_words(text if keep_markup else plain(text))
    text = resolve_quotes(characters.simplify(text))
    if not text.isascii():
        text = characters.spell(rewrite(text, rules.before_folding))
    text = rewrite(join_lines(text, paragraphs), rules.before_brackets)
    return symbols.finish(rewrite(symbols.unbracket(text), rules.after_brackets))


def unchanged(text: str, *, keep_markup: bool = True, paragraphs: bool = True) -> str:
    """The text as it is written, for models of other alphabets.

    Markup is kept and line ends are spaces, whatever the options are.
    """
    return text


# By the name that a model folder states.
NORMALIZERS: dict[str, Callable[..., str]] = {"english": normalize, "none": unchanged}


def normalizer(name: str) -> Callable[..., str]:
    """The normaliser of a name.

    Raises:
        ModelError: there is none of this name.
    """
    if name not in NORMALIZERS:
        known = " or ".join(map(repr, NORMALIZERS))
        raise ModelError(f"the normaliser of the model must be {known}, got {name!r}")
    return NORMALIZERS[name]


def split_sentences(normalized: str) -> list[str]:
    """Split normalised text into sentences; an empty list if it has no letter or digit.

    A sentence has at most 300 characters before short ones (under 30) are merged with another, and
    at most 390 after that.
    """
    return merge_short(split(normalized))


def sentences(text: str) -> list[str]:
    """Normalise text and split it into sentences."""
    return split_sentences(normalize(text))
