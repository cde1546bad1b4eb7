"""A rule of the text front end: a named pattern and what is said where it occurs.

The order of rules is part of their meaning, so they stand in tuples.
Each pattern takes time linear in the text: one that begins with a run starts only at the head of
that run, and does not give back what it took.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Rule(NamedTuple):
    """What is said (a template, or a function of the match) where a pattern occurs."""

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
    """Compile one rule; its classes are ASCII, because text is folded before a rule sees it."""
    return Rule(name, re.compile(pattern, re.ASCII | (re.IGNORECASE if any_case else 0)), spoken)


def rewrite(text: str, rules: Iterable[Rule]) -> str:
    """Apply the rules one after the other, each to the whole text."""
    for each in rules:
        text = each.pattern.sub(each.spoken, text)
    return text
