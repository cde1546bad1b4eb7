"""Signs: folding to ASCII, lines, brackets, spoken symbols and the final punctuation."""

from __future__ import annotations

import re
import unicodedata

from soprano.text.numbers import CURRENCIES
from soprano.text.rules import rewrite, rule

# What the general folding would spell badly, or would lose.
SIGNS = {
    "—": " -- ",
    "―": " -- ",
    "…": "...",
    "«": '"',
    "»": '"',
    "‹": '"',
    "›": '"',
    "„": '"',
    "→": " -- ",
    "№": "number ",
    "×": "x",
    "≠": " not equal to ",
    "™": "",
    "®": "",
    "©": "",
    "¿": "",
    "¡": "",
}

# In this order: a pair of signs before its first one.
SYMBOLS = {
    "@": " at ",
    "&": " and ",
    "%": " percent ",
    ";": ",",
    "+": " plus ",
    "\\": " backslash ",
    "~": " about ",
    "<=": " less than or equal to ",
    ">=": " greater than or equal to ",
    "<": " less than ",
    ">": " greater than ",
    "=": " equals ",
    "/": " slash ",
}

POWERS = {"2": ("squared", "square"), "3": ("cubed", "cubic")}  # of a figure, of a unit

# Of areas and volumes: one, several.
LENGTHS = {
    "mm": ("millimeter", "millimeters"),
    "cm": ("centimeter", "centimeters"),
    "m": ("meter", "meters"),
    "km": ("kilometer", "kilometers"),
    "ft": ("foot", "feet"),
    "mi": ("mile", "miles"),
}

SCALES = {None: "", "C": " celsius", "F": " fahrenheit"}

_CURRENCY_SIGNS = "".join(CURRENCIES)
_FOREIGN = re.compile(rf"[^ -~\s{_CURRENCY_SIGNS}°]")
_RANGE = re.compile(rf"(?<=\d)–(?=[\d{_CURRENCY_SIGNS}])")
_DEGREES = re.compile(r"(?<=\d)( ?)º(?= ?[CF]\b)")  # the sign of ordinals, on many keyboards
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_POWER = re.compile(r"(?:(?<=\d)|(?<=\b[A-Za-z])|(?<=\)))(⁻?)([⁰¹²³⁴-⁹]+)")
_SPACE_UNIT = re.compile(
    rf"(?P<one>(?<![\d.,])1)?(?<=\d) ?(?P<unit>{'|'.join(LENGTHS)})(?P<power>[²³])"
)
_UNSPOKEN = {"So", "Co", "Cn", "Cs"}  # pictures; private, unassigned and broken code points
_BULLETS = re.compile(r"^(?:[-*]++ )*+(?:--++)?")


def fold(text: str) -> str:
    """Write text in ASCII, apart from white space and the symbols that later rules know."""
    text = _DEGREES.sub(r"\1°", _RANGE.sub(" to ", text))
    text = _POWER.sub(_power, _SPACE_UNIT.sub(_space_unit, text))
    return _FOREIGN.sub(lambda match: _in_ascii(match[0]), text)


def _power(match: re.Match[str]) -> str:
    """What is written above the line after a figure, a lone letter or a bracket."""
    number = match[2].translate(_RAISED)
    if not match[1] and number in POWERS:
        return f" {POWERS[number][0]}"
    return f" to the power of {'minus ' if match[1] else ''}{number}"


def _space_unit(match: re.Match[str]) -> str:
    one, many = LENGTHS[match["unit"]]
    name = POWERS[match["power"].translate(_RAISED)][1]
    return f"1 {name} {one}" if match["one"] else f" {name} {many}"


def _in_ascii(character: str) -> str:
    from anyascii import anyascii  # here, so that importing this package stays quick

    if character in SIGNS:
        return SIGNS[character]
    if unicodedata.category(character) in _UNSPOKEN:
        return " "
    spelt = anyascii(character) if character > "~" else ""  # else a control character
    return f" {spelt}" if "/" in spelt else spelt  # a vulgar fraction after its whole number


def join_lines(text: str) -> str:
    """Make one line with single spaces; a line that ends no sentence is given a full stop."""
    lines = []
    for line in text.splitlines():
        spaced = " ".join(line.split()) + " "
        words = _BULLETS.sub("", spaced, count=1).rstrip()
        if words:
            lines.append(words if words[-1] in ".!?" else f"{words}.")
    return " ".join(lines)


def unbracket(text: str) -> str:
    """Set what stands in brackets off by commas; a bracket without a partner is left."""
    opening = re.search(r"[(\[{]", text)
    last = max(map(text.rfind, ")]}"))
    if opening is None or last < opening.start():
        return text
    head, inside, tail = text[: opening.start()], text[opening.start() : last], text[last + 1 :]
    inside = re.sub(r"[(\[{]", ", ", inside)
    inside = re.sub(r"[)\]}]++(?![.,!?])", ", ", inside)
    return f"{head}{inside}{', ' if tail[:1] not in ('', *'.,!?') else ''}{tail}"


def _degrees(match: re.Match[str]) -> str:
    one, scale = match.groups()
    return f"{'1 degree' if one else ' degrees'}{SCALES[scale]} "


def _named(names: dict[str, str]) -> str:
    return "|".join(re.escape(name) for name in names)


SIGN_RULES = (
    rule("underscore", r"_", " "),
    rule("long dash", r" ?-{2,}+ ?", ", "),
    rule("degrees", r"((?<![\d.])1)? ?°(?: ?([CF])\b)?", _degrees),
    rule("optional ending", r"(?<=[A-Za-z]{2})\((e?s)\)", r"\1"),
    rule("optional beginning", r"(?<!\w)\(([A-Za-z]{1,3})\)(?=[a-z])", r"\1"),
)

SYMBOL_RULES = (
    rule("colon", r":(?=\w)", ". "),
    rule("pause", r":", "."),
    rule(
        "currency",
        rf"([{_CURRENCY_SIGNS}])(?!\w)",
        lambda match: f" {CURRENCIES[match[1]][1]}",
    ),
    rule("symbol", _named(SYMBOLS), lambda match: SYMBOLS[match[0]]),
)

_FINAL_RULES = (
    rule("quote before a word", r'(?<=[.,!?])["`]++(?=\w)', " "),
    rule("quote", r'["`]', ""),
    rule("unspoken", r"[^a-z .,!?'-]", " "),
    rule("stray hyphen", r"(?<![\w'-])-++(?!\w)|(?<=-)-", " "),
    rule("spaces", r" ++", " "),
    rule("space before a pause", r"(?:^| )([.,!?]++)(?=(\w)?)", lambda m: _left(m[1], m[2])),
    rule("pauses", r"[.,!?]{2,}+", lambda match: _one_pause(match[0])),
    rule("stop before a word", r"(?<!\.)\.(?=\w)", ". "),
    rule("stretched letter", r"\b[xvlc]*+iii\b|\bwww(?= dot )|([a-z])\1{2,}+", lambda m: _short(m)),
)


def _left(marks: str, word: str | None) -> str:
    """Pauses moved to the word before them; an ellipsis may lead into the next."""
    return f"{marks} " if word and not marks.endswith("...") else marks


def _one_pause(marks: str) -> str:
    """Keep the strongest of neighbouring marks, and on either side of an ellipsis likewise."""
    parts = re.split(r"\.{3,}", marks)
    ranks = "?!.," if len(parts) == 1 else "?!,"
    return "...".join(next((mark for mark in ranks if mark in part), "") for part in parts)


def _short(match: re.Match[str]) -> str:
    """Two letters of a stretched one; a Roman numeral keeps its three, and `www` is spelt."""
    if match[1]:
        return match[1] * 2
    return "w w w" if match[0] == "www" else match[0]


def finish(text: str) -> str:
    """Leave small letters, apostrophes, hyphens, single spaces and one pause at a time."""
    return rewrite(text.lower(), _FINAL_RULES).strip()
