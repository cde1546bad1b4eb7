"""Rules for numbers: money, dates, telephone numbers, times, arithmetic, ordinals, integers.

A rule for a larger form puts words between its integers; the last rule reads the integers.
"""

from __future__ import annotations

import re

from soprano.text.rules import rule

LONGEST_NAMED = 36  # digits: up to hundreds of decillions
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MAGNITUDES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}

# Sign: one unit, several, one hundredth, several.
CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
CURRENCY_SIGNS = "".join(CURRENCIES)


def cardinal(digits: str) -> str:
    """Words of a decimal integer; one of more than 36 digits is read digit by digit."""
    return _in_words(digits, "cardinal")


def _ordinal(match: re.Match[str]) -> str:
    return _in_words(match[1], "ordinal")


def _in_words(digits: str, form: str) -> str:
    from num2words import num2words  # here: its import takes longer than this package's

    significant = digits.lstrip("0") or "0"
    if len(significant) > LONGEST_NAMED:
        read = [DIGITS[int(digit)] for digit in significant[:-1]]
        return " ".join([*read, _in_words(significant[-1], form)])
    return str(num2words(int(significant), to=form)).replace(" and ", " ")


def _integer(match: re.Match[str]) -> str:
    """An integer from 1001 to 2999 is read in pairs of digits, like a year."""
    digits = match[0].lstrip("0")
    if len(digits) != 4 or not "1000" < digits < "3000":
        return cardinal(digits)
    century, rest = digits[:2], digits[2:]
    if century == "20" and rest < "10":
        return cardinal(digits)
    if rest == "00":
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < '10' else ''}{cardinal(rest)}"


def _count(amount: str, one: str, many: str) -> str:
    return f"{amount} {one if amount == '1' else many}"


def _money(match: re.Match[str]) -> str:
    one, many, one_hundredth, hundredths = CURRENCIES[match["symbol"]]
    if match["magnitude"]:
        magnitude = match["magnitude"].strip(" -").lower()
        letter = magnitude.removesuffix("n")
        return f"{match['amount']} {MAGNITUDES.get(letter, magnitude)} {many}"
    whole, _, part = match["amount"].partition(".")
    whole = whole.lstrip("0")
    if len(part) > 2:
        return f"{whole or '0'}.{part} {many}"
    part = part.ljust(2, "0").lstrip("0")
    units = [_count(whole, one, many)] if whole else []
    units += [_count(part, one_hundredth, hundredths)] if part else []
    return ", ".join(units) or f"0 {many}"


def _telephone(match: re.Match[str]) -> str:
    country, *groups = match.groups()
    return (f"{country} " if country else "") + ", ".join(" ".join(group) for group in groups)


def _telephone_in_groups(match: re.Match[str]) -> str:
    """The groups as written, digit by digit; a zero in brackets is not dialled."""
    groups = re.findall(r"\d+", match[0].replace("(0)", " "))
    if not 8 <= sum(map(len, groups)) <= 15:
        return match[0]
    return ("plus " if match[0][0] == "+" else "") + ", ".join(" ".join(g) for g in groups)


def _range(match: re.Match[str]) -> str:
    """An ascending range; before a smaller number the hyphen is a minus or part of a score."""
    symbol, low, high = match["symbol"] or "", match["low"], match["high"]
    if len(low) == 4 and len(high) == 2:
        ascends = low[2:] < high  # years of one century
    else:
        ascends = float(low) < float(high) and (len(low), len(high)) != (3, 4)  # a telephone number
    return f"{low} to {symbol}" if ascends else match[0]


def _clock(digits: str, zero: str) -> str:
    """Two digits of a time: "00" is read as `zero`, "05" as "oh five"."""
    if digits == "00":
        return zero
    return f"oh {digits[1]}" if digits[0] == "0" else digits


def _time(match: re.Match[str]) -> str:
    hours, minutes, seconds = match.groups()
    if seconds is not None:
        if int(hours):
            return f"{hours} {_clock(minutes, 'oh oh')} {_clock(seconds, '')}".rstrip()
        return f"{minutes} {_clock(seconds, 'oh oh')}" if minutes != "00" else seconds
    if minutes != "00":
        return f"{hours} {_clock(minutes, '')}"
    if int(hours) > 12:
        return f"{hours} minutes"
    return f"{hours} o'clock" if int(hours) else "0"


def _decimal(match: re.Match[str]) -> str:
    whole, *parts = match[0].split(".")
    return " point ".join([whole, *(" ".join(part) for part in parts)]).lstrip()


_SYMBOL = f"(?P<symbol>[{CURRENCY_SIGNS}])"
_MAGNITUDE = r"(?P<magnitude>[kmbt]n?\b|[ -]?(?:hundred|thousand|(?:m|b|tr)illion)\b)?"

_NUMBER = r"\d++(?:\.\d++)?+"
_SIGN = f"[{CURRENCY_SIGNS}]"
_OPERATOR = "[=+*/^<>-]"

RULES = (
    rule(
        "international telephone",
        r"(?<![\w+])\+(?!1[-. ])\d{1,3}(?:[-. ](?:\(0\))?\(?\d{1,6}\)?+){2,6}(?!\w)",
        _telephone_in_groups,
    ),
    rule(
        "national telephone",
        r"(?<![\w.,+-])0\d{1,4}(?:[- ]\d{3,6}){1,2}(?![\w-])",
        _telephone_in_groups,
    ),
    rule("number sign", r"#(?=\d)", "number "),
    rule(
        "thousands",
        r"(?<![\d,])\d{1,3}(?:,\d{2,3})*,\d{3}(?!,?\d)",
        lambda match: match[0].replace(",", ""),
    ),
    rule("list", r"(?<=\d),(?=\d)", ", "),
    # A hyphen joins a name and its number; after a single lower-case letter it is a minus.
    rule("name-number", r"\b(?<![\d.])([A-Z]|[A-Za-z]{2,}+)-(?=\d)", r"\1 "),
    rule("aside", r"(?:(?<=[A-Za-z]{2})|(?<=[.,!?\"'%])) - ", ", "),
    rule("range of times", r"(?<=\d:\d\d)-(?=\d{1,2}:\d\d)", " to "),
    rule(
        "range",
        rf"(?<![\w.,:/)=+*^<>-])(?<!{_OPERATOR} ){_SYMBOL}?(?P<low>{_NUMBER})"
        rf"-(?={_SIGN}?(?P<high>{_NUMBER})(?! ?{_OPERATOR}|:\d)){_SIGN}?",
        _range,
    ),
    rule("money", rf"{_SYMBOL} ?(?P<amount>\d*+\.\d++|\d++){_MAGNITUDE}", _money, any_case=True),
    rule(
        "money, symbol last",
        rf"(?<![\d.])(?P<amount>\d++(?:\.\d++)?+){_MAGNITUDE} ?{_SYMBOL}",
        _money,
        any_case=True,
    ),
    rule(
        "magnitude",
        r"\b(\d++)([KMBT])\b",
        lambda match: f"{match[1]} {MAGNITUDES[match[2].lower()]}",
        any_case=True,
    ),
    rule(
        "date",
        r"(?<![\d/])(\d{1,4})[/-](\d{1,2})[/-](\d{4}|\d{2})(?![\d/])",
        r"\1 dash \2 dash \3",
    ),
    rule(
        "telephone",
        r"(?<![\d.])(?:(1)[-. ])?\(?(\d{3})(?:\)[-. ]?|[-. ])(\d{3})[-. ]?(\d{4})(?!\d)",
        _telephone,
    ),
    rule("time", r"(?<![\d:])(\d{1,2}):(\d{2})(?::(\d{2}))?(?!:?\d)", _time),
    rule("ratio", r"(?<=\d):(?=\d)", " to "),
    rule("minus", r" ?- ?(?=\.?\d)", " minus "),
    rule("times", r"(?<=\d) ?\* ?(?=\d)", " times "),
    rule("over", r"(?<=\d) ?/ ?(?=\d)", " over "),
    rule("power", r"(?<=\w)\^(?=\w)", " to the power of "),
    rule("decimal", r"(?<!\d)\d++(?:\.\d++)++|(?<![\w.)])\.\d++", _decimal),
    rule("ordinal", r"(?<!\d)(\d++)(?:st|nd|rd|th)(?![a-z])", _ordinal, any_case=True),
    rule("digit beside letter", r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " "),
    rule("integer", r"\d++", _integer),
)
