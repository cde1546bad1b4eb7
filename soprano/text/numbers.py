"""Rules for numbers: fractions, arithmetic, decimals, ordinals, decades, integers.

Until the last rule has read them, integers are digits; a comma between digits groups them.
A rule for a larger form puts words between its integers.
"""

from __future__ import annotations

import re
from functools import lru_cache

from soprano.text.rules import DIGITS, Match, names, needing, rule, word_before

LONGEST_NAMED = 36  # digits: up to hundreds of decillions
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAGNITUDES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
INTEGER = r"\d++(?:,\d++)*+"
NUMBER = rf"{INTEGER}(?:\.\d++)?+"
# Words before a letter, or a number with a letter, that names something: "Room 4B", "Plan B".
LABELS = names(
    "apartment appendix apt block building bus category chapter class drive exhibit figure "
    "flat flight form gate grade group hall hepatitis house letter note number option page "
    "part phase plan platform point room route row seat section side size stage step suite "
    "table team terminal track type unit version vitamin ward zone"
)
# The beginnings of words after which "5 300" is two numbers: months and parts of a book.
_BEFORE_A_NUMBER = names("jan feb mar apr may jun jul aug sep oct nov dec cha pag ste roo sec par")


@lru_cache(maxsize=4096)
def cardinal(digits: str) -> str:
    """Words of a decimal integer; one of more than 36 digits is read digit by digit."""
    return _in_words(digits, "cardinal")


@lru_cache(maxsize=4096)
def ordinal(digits: str) -> str:
    return _in_words(digits, "ordinal")


def by_digits(digits: str) -> str:
    return " ".join(DIGIT_NAMES[int(digit)] for digit in digits)


def _in_words(digits: str, form: str) -> str:
    from num2words import num2words  # here: its import takes longer than this package's

    significant = digits.replace(",", "").lstrip("0") or "0"
    if len(significant) > LONGEST_NAMED:
        return f"{by_digits(significant[:-1])} {_in_words(significant[-1], form)}"
    return str(num2words(int(significant), to=form)).replace(" and ", " ")


def integer(digits: str) -> str:
    """Words of an integer as it is written.

    Four digits from 1001 to 2999 without a comma are read in pairs, like a year. An integer that
    begins with zero is read digit by digit.
    """
    grouped = "," in digits
    digits = digits.replace(",", "")
    if digits[0] == "0" and len(digits) > 1:
        return by_digits(digits)
    if len(digits) != 4 or not "1000" < digits < "3000":
        return cardinal(digits)
    century, rest = digits[:2], digits[2:]
    if century == "20" and rest < "10":
        return cardinal(digits)
    if rest == "00":
        return f"{cardinal(century)} hundred"
    if grouped:
        return cardinal(digits)
    return f"{cardinal(century)} {'oh ' if rest < '10' else ''}{cardinal(rest)}"


def _grouped(match: Match) -> str:
    """Thousands grouped by another character than the comma."""
    digits, space, decimals = match.groups()
    if space == " " and word_before(match).lower()[:3] in _BEFORE_A_NUMBER:
        return match[0]
    return digits.replace(space, ",") + (f".{decimals}" if decimals else "")


def _list(match: Match) -> str:
    """A comma groups thousands or lakhs; else it separates numbers."""
    if re.fullmatch(r"\d{1,3}(?:,\d{2,3})*,\d{3}", match[0]):
        return match[0]
    return match[0].replace(",", ", ")


def _mixed(match: Match) -> str:
    """A fraction after its whole number: "2 3/4" is two and three quarters."""
    whole, top, bottom = match.groups()
    if not 0 < int(top) < int(bottom) <= 100:
        return match[0]
    if (top, bottom) == ("1", "2"):
        return f"{whole} and a half"
    part = {"2": "half", "4": "quarter"}.get(bottom) or ordinal(bottom)
    return f"{whole} and {top} {part}{'' if top == '1' else 's'}"


def _power(match: Match) -> str:
    exponent, following = match.groups()
    tail = f" {following}" if following else ""
    if exponent in ("2", "3"):
        return f" {'squared' if exponent == '2' else 'cubed'}{tail}"
    return f" to the power of {exponent.replace('-', 'minus ').replace('+', 'plus ')}{tail}"


def _magnitude(match: Match) -> str:
    amount, letter = match.groups()
    if word_before(match).lower() in LABELS:
        return f"{amount} {letter}"
    return f"{amount} {MAGNITUDES[letter[0].lower()]}"


def _decimal(match: Match) -> str:
    whole, *parts = match[0].split(".")
    return " point ".join([whole, *(" ".join(part) for part in parts)]).lstrip()


def _ordinal(match: Match) -> str:
    return ordinal(match[1])


def _decade(match: Match) -> str:
    """A round number in the plural: "1770s" is seventeen seventies."""
    words = integer(match[1]).removeprefix("one ")
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def _integer(match: Match) -> str:
    return integer(match[0])


GROUPING_RULES = needing(
    DIGITS,
    rule(
        "spaced thousands",
        r"(?<![\w.,:/'+-])(?<!\d )([1-9]\d{0,2}([ '_])\d{3}(?:\2\d{3})*+)(?![\d_]|'\d| \d|[:/-]\d)"
        r"(?:,(\d{1,2})(?![\d,]))?",
        _grouped,
    ),
    rule("number sign", r"#(?=\d)", "number "),
    rule("list", r"(?<!\d)\d++(?:,\d++)++", _list),
)

DECADE_RULES = needing(
    DIGITS,
    rule("decade", r"(?<![\w.,])'?(\d{0,3}0)'?s(?!\w)", _decade),
    rule("short year", r"(?<!\w)'(?:(0)(?=\d\b))?(?=\d\d?\b)", lambda m: "oh " if m[1] else ""),
)

SIZE_RULES = needing(
    DIGITS,
    rule("magnitude", rf"(?<![\w.,])({NUMBER})([Kk]|[MBT]|[mbt]n)\b", _magnitude),
)

POWER_RULES = needing(
    "^*",
    rule("power", r"(?<=[\w)\]]) ?(?:\^|\*\*) ?\{?([+-]?(?:\d++|[A-Za-z](?!\w)))\}?(\w?)", _power),
    rule("power of a bracket", r"(?<=\w)\^(?=[({])", " to the power of "),
    rule("times", r"(?:(?<=[\d)])|(?<=\b[A-Za-z])) ?\* ?(?=-?\d|[A-Za-z]\b|\()", " times "),
)

RULES = needing(
    DIGITS,
    rule("mixed fraction", r"(?<![\w.,/])(\d++)[ -](\d{1,2})/(\d{1,3})(?![\w/])", _mixed),
    rule("over", r"(?<=\d) ?/ ?(?=-?\d)", " over "),
    rule("minus", r" ?- ?(?=\.?\d)", " minus "),
    rule("decimal", rf"(?<![\d,]){INTEGER}(?:\.\d++)++|(?<![\w.)])\.\d++", _decimal),
    rule("ordinal", rf"(?<![\d,])({INTEGER})(?:st|nd|rd|th)(?![a-z])", _ordinal, any_case=True),
    rule("digit beside letter", r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " "),
    rule("integer", INTEGER, _integer),
)
