"""Rules for words: initials, Roman numerals and words in mixed case."""

from __future__ import annotations

import re

from soprano.text.abbreviations import final_stop, last_stop
from soprano.text.numbers import LABELS, cardinal, ordinal
from soprano.text.rules import (
    Match,
    before,
    ends_sentence,
    is_starter,
    names,
    needing,
    rule,
    word_before,
)

# Before a letter that is no initial.
_NO_INITIAL = LABELS | names("a an am as is than the was")
_NUMERAL = (
    r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?!\w|'(?!s\b))"
)
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
# A numeral after these words counts; after a ruler's name, or a name after a rank, it is ordinal.
_COUNTED = names(
    "act amendment annex apollo appendix article book bowl canto chapter class division "
    "episode fantasy figure form game gemini grade group level mark mk number page part phase "
    "psalm rambo rocky round saturn scene schedule season section series sonnet stage symphony "
    "table tier title type unit volume war wrestlemania"
)
_RULERS = names(
    "Albert Alexander Alexios Alfonso Baldwin Basil Benedict Boniface Carlos Casimir "
    "Catherine Charles Christian Clement Cleopatra Constantine Darius Edward Elizabeth "
    "Emmanuel Felipe Ferdinand Francis Frederick George Gregory Gustav Haakon Harald Henry "
    "Innocent Isabella Ivan James John Joseph Julius Leo Leopold Louis Ludwig Manuel "
    "Margrethe Mary Matthias Maximilian Mehmed Michael Murad Napoleon Nicholas Olav Otto Paul "
    "Pedro Peter Philip Pius Ptolemy Ramesses Ramses Richard Robert Rudolf Selim Sigismund "
    "Stephen Suleiman Theodosius Thutmose Umberto Urban Victor Wilhelm William Xerxes"
)
_RANKS = names("King Queen Pope Emperor Empress Tsar Czar Kaiser Sultan Shah Prince Pharaoh Saint")


def _initials(match: Match) -> str:
    """Separate letters; a stop remains where a sentence ends."""
    letters = match[0].replace(".", " ").strip()
    if letters.lower() in ("a m", "p m"):
        follows = re.match(r" [A-Z]", match.string[match.end() : match.end() + 2])
        return f"{letters}{'.' if follows or ends_sentence(match) else ''}"
    if letters.lower() in ("e g", "i e"):
        return letters + last_stop(match)
    return letters + final_stop(match)


def _spaced_initials(match: Match) -> str:
    """Initials of a name, such as "J. R. R. Tolkien"; "Plan B. Then ..." ends a sentence."""
    if is_starter(match[2]) or word_before(match).lower() in _NO_INITIAL:
        return match[0]
    return match[1].replace(".", "")


def _value(numeral: str) -> int:
    values = [_VALUES[letter] for letter in numeral]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return sum(-value if value < following else value for value, following in pairs)


def _numeral(match: Match) -> str:
    """A Roman numeral after a word that it counts, or after a ruler's name."""
    numeral = match[0]
    words = before(match, 40).split()
    article = words[-1] == "the" and len(words) > 1
    name = words[-2 if article else -1]
    if name.lower() in _COUNTED:
        unclear = (numeral == "I" and name.islower()) or numeral in ("C", "D", "L", "M")
        return numeral if unclear else cardinal(str(_value(numeral.upper())))
    ruler = name in _RULERS or (name.istitle() and not _RANKS.isdisjoint(words[-3:-1]))
    if not ruler or numeral.islower():
        return numeral
    return f"{'' if article else 'the '}{ordinal(str(_value(numeral)))}"


def _century(match: Match) -> str:
    return ordinal(str(_value(match[1])))


def _mixed_case(match: Match) -> str:
    word = match[0]
    parts = re.findall("[A-Z][a-z]*", word)
    if len(parts) in (1, len(word)):
        return word
    if len(parts) == len(word) - 1 and word[-1] == "s":  # the plural of an acronym
        return f"{word[:-1]}'s"
    return " ".join(parts)


INITIAL_RULES = needing(
    ".",
    rule("doctorate", r"\bPh\.? ?D\b", "P.H.D"),
    rule(
        "initials",
        r"(?<![\w.])(?:(?:[A-Za-z]\.){2,}|(?:[A-Z]\.)+[A-Z])(?!\.?\w)",
        _initials,
    ),
    rule(
        "spaced initials",
        r"(?<![\w.'-])((?:[A-Z]\. )+)(?=([A-Za-z][a-zA-Z']*))",
        _spaced_initials,
    ),
)

RULES = (
    rule("numeral", rf"(?<=[A-Za-z] )(?:{_NUMERAL}|[ivx]{{2,}}(?!\w))", _numeral),
    rule("century", rf"\b({_NUMERAL})(?= [Cc]entur(?:y|ies)\b)", _century),
    rule("mixed case", r"\b[A-Z][A-Za-z]*+\b", _mixed_case),
)
