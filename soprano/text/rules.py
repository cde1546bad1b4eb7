"""Rules of normalisation: a named pattern and its replacement.

The order of rules is part of their meaning, so they are kept in tuples.
Each pattern takes time linear in the text: a pattern that begins with a run of characters matches
only at the head of that run, and its quantifiers are possessive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Rule(NamedTuple):
    """The replacement (a template or a function of the match) of a pattern."""

    name: str
    pattern: re.Pattern[str]
    spoken: str | Callable[[re.Match[str]], str]


def rule(
    name: str,
    pattern: str,
    spoken: str | Callable[[re.Match[str]], str],
    *,
    any_case: bool = False,
) -> Rule:
    """Compile one rule. Character classes are ASCII, because text is folded first."""
    return Rule(name, re.compile(pattern, re.ASCII | (re.IGNORECASE if any_case else 0)), spoken)


def any_of(names: Iterable[str]) -> str:
    """A pattern that matches any of the names, the first that fits."""
    return "|".join(re.escape(name) for name in names)


def rewrite(text: str, rules: Iterable[Rule]) -> str:
    """Apply the rules one after the other, each to the whole text."""
    for each in rules:
        text = each.pattern.sub(each.spoken, text)
    return text
