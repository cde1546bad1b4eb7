"""Rules for what is read digit by digit: telephone numbers and codes in groups."""

from __future__ import annotations

import re

from soprano.text.numbers import by_digits
from soprano.text.rules import DIGITS, Match, names, needing, rule, word_before

_CALLS = names("call dial fax number phone ring tel telephone text")
_CARDS = names("account card code iban id imei isbn serial tracking")
_LISTED = names("between from line lines p page pages pp verse verses")


def _groups(groups: list[str]) -> str:
    return ", ".join(map(by_digits, groups))


def _telephone(match: Match) -> str:
    country, *groups = match.groups()
    return (f"{by_digits(country)} " if country else "") + _groups(groups)


def _as_written(match: Match) -> str:
    """The groups as written, digit by digit; a zero in brackets is not dialled."""
    groups = re.findall(r"\d+", match[0].replace("(0)", " "))
    if not 8 <= sum(map(len, groups)) <= 15:
        return match[0]
    return ("plus " if match[0][0] == "+" else "") + _groups(groups)


def _local(match: Match) -> str:
    """Seven digits; after "pages" and the like they are a range."""
    first, separator, second = match.groups()
    word = word_before(match).lower()
    known = word in _CALLS if separator == " " else word not in _LISTED
    return _groups([first, second]) if known else match[0]


def _called(match: Match) -> str:
    """An integer of seven digits or more after "call", "card" and the like."""
    return by_digits(match[1]) if word_before(match).lower() in _CALLS | _CARDS else match[0]


def _code(match: Match) -> str:
    """Groups of four digits; of two groups the first may be a year."""
    groups = re.findall(r"\d+", match[0])
    if len(groups) == 2 and "1800" <= groups[0] < "2100":
        return match[0]
    return _groups(groups)


def _long_code(match: Match) -> str:
    groups = re.findall(r"\d+|X", match[0])
    if sum(map(len, groups)) < 7:
        return match[0]
    return ", ".join(by_digits(group) if group != "X" else "X" for group in groups)


RULES = needing(
    DIGITS,
    rule(
        "international telephone",
        r"(?<![\w+])\+(?!1[-. ])\d{1,3}(?:[-. ](?:\(0\))?\(?\d{1,6}\)?+){2,6}(?!\w)",
        _as_written,
    ),
    rule(
        "national telephone",
        r"(?<![\w.,+-])(?<!\d )0\d{1,4}(?:[- ]\d{3,8}){1,2}(?![\w-])",
        _as_written,
    ),
    rule(
        "telephone",
        r"(?<![\d.])(?:(1)[-. ])?\(?(\d{3})(?:\)[-. ]?|[-. ])(\d{3})[-. ]?(\d{4})(?!\d)",
        _telephone,
    ),
    rule("long number", r"(?<![\w.,:/-])(\d{7,19})(?![\w-]|[.,]\d)", _called),
    rule("local telephone", r"(?<![\w.,:/-])(\d{3})([ -])(\d{4})(?![\w/-]|[ .]\d)", _local),
    rule(
        "groups of four",
        r"(?<![\w.,-])(?<!\d{4} )\d{4}(?:(?: \d{4}(?![\w,-]|\.\d))++(?: \d{1,3}(?![\w.,-]))?"
        r"|(?:-\d{4}){2,}+(?:-\d{1,3})?(?![\w,-]|\.\d))",
        _code,
    ),
    rule("card of fifteen", r"(?<![\w.,-])\d{4}([ -])\d{6}\1\d{5}(?!\w)", _code),
    rule("postal code", r"(?<![\w.,-])\d{5}-\d{4}(?![\w-])", _code),
    rule("long code", r"(?<![\w.,:/-])\d++(?:-\d++){2,}+(?:-X)?(?![\w-])", _long_code),
)
