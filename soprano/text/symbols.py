"""Rules for symbols: folding to ASCII, line ends, brackets, symbols, final punctuation."""

from __future__ import annotations

import re
import unicodedata

from soprano.text.numbers import CURRENCIES, CURRENCY_SIGNS
from soprano.text.rules import any_of, rewrite, rule

# What transliteration would spell badly or lose.
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

# In this order: "<=" before "<".
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

POWERS = {"2": ("squared", "square"), "3": ("cubed", "cubic")}  # of a number, of a unit

# Lengths of areas and volumes: one, several.
LENGTHS = {
    "mm": ("millimeter", "millimeters"),
    "cm": ("centimeter", "centimeters"),
    "m": ("meter", "meters"),
    "km": ("kilometer", "kilometers"),
    "ft": ("foot", "feet"),
    "mi": ("mile", "miles"),
}

SCALES = {None: "", "C": " celsius", "F": " fahrenheit"}

_FOREIGN = re.compile(rf"[^ -~\s{CURRENCY_SIGNS}°]")
_RANGE = re.compile(rf"(?<=\d)–(?=[\d{CURRENCY_SIGNS}])")
_DEGREES = re.compile(r"(?<=\d)( ?)º(?= ?[CF]\b)")  # the ordinal sign in place of the degree sign
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_POWER = re.compile(r"(?:(?<=\d)|(?<=\b[A-Za-z])|(?<=\)))(⁻?)([⁰¹²³⁴-⁹]+)")
_AREA_OR_VOLUME = re.compile(
    rf"(?P<one>(?<![\d.,])1)?(?<=\d) ?(?P<unit>{any_of(LENGTHS)})(?P<power>[²³])"
)
# Unicode categories without a reading: pictographs, private, unassigned, surrogates.
_UNREADABLE = {"So", "Co", "Cn", "Cs"}
_BULLETS = re.compile(r"^(?:[-*]++ )*+(?:--++)?")


def fold(text: str) -> str:
    """Write text in ASCII, except white space and the symbols that later rules replace."""
    text = _DEGREES.sub(r"\1°", _RANGE.sub(" to ", text))
    text = _POWER.sub(_power, _AREA_OR_VOLUME.sub(_area_or_volume, text))
    return _FOREIGN.sub(lambda match: _in_ascii(match[0]), text)


def _power(match: re.Match[str]) -> str:
    """A superscript number after a digit, a single letter or a bracket."""
    number = match[2].translate(_SUPERSCRIPTS)
    if not match[1] and number in POWERS:
        return f" {POWERS[number][0]}"
    return f" to the power of {'minus ' if match[1] else ''}{number}"


def _area_or_volume(match: re.Match[str]) -> str:
    one, many = LENGTHS[match["unit"]]
    name = POWERS[match["power"].translate(_SUPERSCRIPTS)][1]
    return f"1 {name} {one}" if match["one"] else f" {name} {many}"


def _in_ascii(character: str) -> str:
    from anyascii import anyascii  # here, so that this package is imported quickly

    if character in SIGNS:
        return SIGNS[character]
    if unicodedata.category(character) in _UNREADABLE:
        return " "
    folded = anyascii(character) if character > "~" else ""  # else a control character
    return f" {folded}" if "/" in folded else folded  # a fraction after its whole number


def join_lines(text: str) -> str:
    """Join lines with single spaces; a line without a final mark gets a full stop."""
    lines = []
    for line in text.splitlines():
        spaced = " ".join(line.split()) + " "
        words = _BULLETS.sub("", spaced, count=1).rstrip()
        if words:
            lines.append(words if words[-1] in ".!?" else f"{words}.")
    return " ".join(lines)


def unbracket(text: str) -> str:
    """Separate text in brackets by commas; an unmatched bracket stays."""
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
        rf"([{CURRENCY_SIGNS}])(?!\w)",
        lambda match: f" {CURRENCIES[match[1]][1]}",
    ),
    rule("symbol", any_of(SYMBOLS), lambda match: SYMBOLS[match[0]]),
)


def _without_space(match: re.Match[str]) -> str:
    """Marks directly after the word before them; an ellipsis may also begin the next word."""
    marks, word = match.groups()
    return f"{marks} " if word and not marks.endswith("...") else marks


def _strongest_pause(match: re.Match[str]) -> str:
    """The strongest of adjacent marks; the same on either side of an ellipsis."""
    parts = re.split(r"\.{3,}", match[0])
    ranks = "?!.," if len(parts) == 1 else "?!,"
    return "...".join(next((mark for mark in ranks if mark in part), "") for part in parts)


def _two_letters(match: re.Match[str]) -> str:
    """A repeated letter twice; Roman numerals are unchanged, and `www` is read by letters."""
    if match[1]:
        return match[1] * 2
    return "w w w" if match[0] == "www" else match[0]


_FINAL_RULES = (
    rule("quote before a word", r'(?<=[.,!?])["`]++(?=\w)', " "),
    rule("quote", r'["`]', ""),
    rule("other character", r"[^a-z .,!?'-]", " "),
    rule("stray hyphen", r"(?<![\w'-])-++(?!\w)|(?<=-)-", " "),
    rule("spaces", r" ++", " "),
    rule("space before a pause", r"(?:^| )([.,!?]++)(?=(\w)?)", _without_space),
    rule("pauses", r"[.,!?]{2,}+", _strongest_pause),
    rule("stop before a word", r"(?<!\.)\.(?=\w)", ". "),
    rule("repeated letter", r"\b[xvlc]*+iii\b|\bwww(?= dot )|([a-z])\1{2,}+", _two_letters),
)


def finish(text: str) -> str:
    """Reduce text to lower-case letters, apostrophes, hyphens, single spaces and pauses."""
    return rewrite(text.lower(), _FINAL_RULES).strip()
