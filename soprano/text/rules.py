"""Rules of normalisation: a named pattern and its replacement.

The order of rules is part of their meaning, so they are kept in tuples.
Each pattern takes time linear in the text: a pattern that begins with a run of characters matches
only at the head of that run, and its quantifiers are possessive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

Match = re.Match[str]
DIGITS = "0123456789"


class Rule(NamedTuple):
    """The replacement (a template or a function of the match) of a pattern."""

    name: str
    pattern: re.Pattern[str]
    spoken: str | Callable[[Match], str]
    needs: str = ""  # the pattern matches only in a text with one of these characters


def rule(
    name: str,
    pattern: str,
    spoken: str | Callable[[Match], str],
    *,
    any_case: bool = False,
) -> Rule:
    """Compile one rule. Classes such as `\\w` are ASCII; `^` and `$` match at line ends."""
    flags = re.ASCII | re.MULTILINE | (re.IGNORECASE if any_case else 0)
    return Rule(name, re.compile(pattern, flags), spoken)


def needing(characters: str, *rules: Rule) -> tuple[Rule, ...]:
    """Rules that are skipped, for speed, where a text has none of these characters."""
    return tuple(each._replace(needs=characters) for each in rules)


def any_of(names: Iterable[str]) -> str:
    """A pattern that matches any of the names, the longest that fits."""
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


def table(text: str) -> dict[str, str]:
    """A table written as `key = value` pairs, separated by `|` or line ends."""
    pairs = (pair.split("=") for pair in re.split(r"[|\n]", text.strip()))
    return {key.strip(): value.strip() for key, value in pairs}


def names(text: str) -> frozenset[str]:
    """A set written as words that are separated by spaces."""
    return frozenset(text.split())


def rewrite(text: str, rules: Iterable[Rule]) -> str:
    """Apply the rules one after the other, each to the whole text."""
    for each in rules:
        if not each.needs or any(character in text for character in each.needs):
            text = each.pattern.sub(each.spoken, text)
    return text


def before(match: Match, width: int = 60) -> str:
    """The text of the same sentence directly before a match, at most `width` characters."""
    window = match.string[max(0, match.start() - width) : match.start()]
    return re.split(r"[.!?]\s", window)[-1]


def after(match: Match, width: int = 60) -> str:
    """The text of the same sentence directly after a match, at most `width` characters."""
    window = match.string[match.end() : match.end() + width]
    return re.split(r"[.!?](?:\s|$)", window)[0]


def word_before(match: Match) -> str:
    """The word directly before a match and its space, or ""."""
    found = re.search(r"([A-Za-z][A-Za-z']*)\.? ?$", before(match, 30))
    return found[1] if found else ""


# Capitalised words that begin a sentence rather than continue a name.
_STARTERS = names(
    "A After All Although An And Are As At Because Before Both But By Can Could Did Do Does "
    "Each Every Finally For From Had Has Have He Her Here His How However I If In Is It Its "
    "Let Many Maybe Most My Next No Nobody Not Now On Once One Or Our Perhaps Please She "
    "Should Since So Some Soon That The Their Then There These They This Those Though Today "
    "Tomorrow Until Was We Were What When Where Which While Who Why Will With Would Yes "
    "Yesterday You Your"
)


def is_starter(word: str) -> bool:
    return word in _STARTERS


def ends_sentence(match: Match) -> bool:
    """Whether the full stop at the end of a match ends a sentence: a new one begins after it."""
    rest = match.string[match.end() : match.end() + 20]
    found = re.match(r"[\"')\]]* ([A-Z][a-z]*)", rest)
    return not rest.strip(" \"')]") or bool(found and found[1] in _STARTERS)
