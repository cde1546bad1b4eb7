"""Rules for the hyphen beside numbers: names, ranges, scores and pairs.

What these rules leave is a minus.
"""

from __future__ import annotations

import re

from soprano.text.dates import DAYS, MONTHS
from soprano.text.money import SIGN
from soprano.text.numbers import NUMBER, by_digits, integer
from soprano.text.rules import Match, after, before, names, needing, rule

_ADJACENT = re.compile(r"[=+*/^<>]$")
_OPERATOR = re.compile(r" ?[=+*/^<>]")
_TASK = re.compile(r"\b(?:what(?:'s| is)|calculate|compute|evaluate|solve|subtract) $", re.I)
_RESULT = re.compile(
    r" (?:equals?|makes|leaves|gives|is (?:\d|zero|one|two|three|four|five|six|seven|eight|nine|ten"
    r"|negative|minus|not))\b"
)
_SCORE = re.compile(
    r"\b(?:won|wins?|winning|beat|beats|beaten|lost|loses?|lead|leads|leading|led|scores?|scored|"
    r"drew|draw|ties?|tied|defeat|defeats|defeated|victory|final|match|game|votes?|voted|trail|"
    r"trails|trailed|down|up|ahead)\b",
    re.I,
)
# Capitalised words before a number that are not the name of what has it.
_NO_NAMES = names(
    "a about above after age aged ages all almost an and are around as at below between but "
    "by day days every for from if in is it just line lines nearly no of off on only open or "
    "over page pages part per room rooms roughly row rows size sizes some step steps than the "
    "then these they this those to under until up was we week weeks when with within year "
    "years you chapter chapters verse verses section sections question questions level levels "
    "grade grades"
) | {name.lower() for name in (*DAYS, *MONTHS, *DAYS.values(), *MONTHS.values(), "sunday", "may")}
# Words before a number with a hyphen that is no range.
_NUMBERED = names(
    "airbus boeing case catalog code example figure id invoice item listing lot model order part "
    "product ref serial sku table ticket"
)
_SPOKEN_ENDING = re.compile(r"(?i)\d++(?:st|nd|rd|th|(?<=0)s|[ap]m)?$")


def _part(text: str) -> str:
    """A part of a name: letters as they are, numbers as words."""
    words = []
    for piece in re.findall(r"\d+(?:\.\d+)*|[A-Za-z]+", text):
        whole, *digits = piece.split(".")
        read = whole if whole.isalpha() else integer(whole)
        words.append(" point ".join([read, *map(by_digits, digits)]))
    return " ".join(words)


def _name(match: Match) -> str:
    """A word with a hyphen before digits: COVID-19, GPT-4-32k; but "n-1" is a difference."""
    first, *rest = match[0].split("-")
    if (first.isdigit() and rest[0][0].islower()) or not any(part[0].isdigit() for part in rest):
        return match[0]
    if len(rest) == 1:
        if (first.islower() and len(first) == 1) or first in ("UTC", "GMT"):
            return match[0]
        if first.isalpha() and _SPOKEN_ENDING.match(rest[0]):
            return f"{first} {rest[0]}"
    joined = _part(first)
    for part in rest:
        hyphen = "-" if part.isalpha() and not first.isdigit() else " "
        ordinary = part[0].isalpha() or (_SPOKEN_ENDING.match(part) and not part[-1].isdigit())
        joined += hyphen + (part if ordinary else _part(part))
    return joined


def _chain(match: Match) -> str:
    """Three numbers or more: a difference only in arithmetic."""
    return match[0] if _in_arithmetic(match) else match[0].replace("-", " ")


def _beside_operator(match: Match) -> bool:
    left = match.string[max(0, match.start() - 2) : match.start()].rstrip(" ")
    return bool(_ADJACENT.search(left) or _OPERATOR.match(match.string, match.end()))


def _in_arithmetic(match: Match) -> bool:
    """Whether an operator is beside a match, or nothing but signs and numbers."""
    left, right = before(match), after(match)
    if _beside_operator(match):
        return True
    return bool(
        _TASK.search(left) or _RESULT.match(right) or not re.search("[A-Za-z]", left + right)
    )


def _is_name(match: Match) -> bool:
    """Whether two numbers belong to the capitalised word before them: "Boeing 737-800"."""
    left = before(match)
    aircraft = re.fullmatch(r"7\d7", match["low"]) and "0" not in match["high"][:1]
    if aircraft or "0" in (match["low"][:-1][:1], match["high"][:-1][:1]):
        return True
    found = re.search(r"(?:^|(?<=[ (]))([A-Za-z][A-Za-z']*)\.? $", left)
    if (
        not found
        or found[1].lower() in _NO_NAMES
        or not (found[1][0].isupper() or found[1] in _NUMBERED)
    ):
        return False
    if found[1].lower() in _NUMBERED or (found[1].isupper() and len(found[1]) > 1):
        return True
    large = len(match["low"]) == 3 and len(match["high"]) == 3
    within = left[: found.start()].strip() != ""
    return large or (within and not found[1].endswith("s"))


def _ascends(low: str, high: str) -> bool:
    if len(low) == 4 and len(high) == 2:
        return low[2:] < high  # years of one century
    return float(low.replace(",", "")) < float(high.replace(",", ""))


def _is_score(match: Match) -> bool:
    """Whether two numbers are a score: a word says so, or they stand between two names."""
    left, right = before(match), after(match)
    between_names = re.search(r"\b[A-Z]\w* $", left) and re.match(r" [A-Z]", right)
    return bool(between_names or _SCORE.search(left + right))


def _between(match: Match) -> str:
    """A hyphen between two numbers."""
    symbol, low, unit, gap, sign, high = match.group("symbol", "low", "unit", "gap", "sign", "high")
    if _beside_operator(match):
        return match[0]
    start, end = f"{low}{unit or ''}", f"{symbol or sign or ''}{high}"
    if symbol or sign or unit:
        return f"{start if symbol or not sign else sign + start} to {end}"
    ascends = _ascends(low, high)
    difference = _in_arithmetic(match)
    if gap and (difference or (not ascends and not _is_score(match))):
        return match[0]
    if difference and not ascends:
        return match[0]
    if low == high or _is_name(match):
        return f"{low} {high}"
    return f"{low} to {high}"


_PART = r"[A-Za-z0-9]++(?:\.\d[A-Za-z0-9]*+)*+"

RULES = needing(
    "-",
    rule(
        "name",
        rf"(?<![\w.@/-])(?:(?=[A-Za-z]){_PART}(?:-{_PART})++|(?=[\d-]*+[A-Z]){_PART}(?:-{_PART}){{2,}}+)"
        r"(?![\w-])",
        _name,
    ),
    rule("version", r"(?<![\w.])(\d++(?:\.\d++){2,})-(?=\d)", r"\1 "),
    rule("compound", r"(?<=\d)-([a-z]++)-(?=\d)", r" \1 "),
    rule("name-number", r"\b(?<![\d.])(?!UTC|GMT)([A-Z]|[A-Za-z]{2,}+)-(?=\d)", r"\1 "),
    rule("unknown minus", r"(?<![A-Za-z'])([a-z]) - (?=[a-z](?![A-Za-z']))", r"\1 minus "),
    rule("negative unknown", r"(?<=[=(+*/<>])( ?)-(?=[A-Za-z]\b)", r" minus "),
    rule("aside", r"(?:(?<=[A-Za-z]{2})|(?<=[.,!?\"'%])) - ", ", "),
    rule("chain", r"(?<![\w.,:/)=+*^<>-])\d++(?:-\d++){2,}+(?![\w-]|\.\d)", _chain),
    rule(
        "between numbers",
        rf"(?<![\w.,:/)=+*^<>-])(?P<symbol>{SIGN})?(?P<low>{NUMBER})"
        rf"(?P<unit>%|°[CF]?|[A-Za-z]{{2,4}}|[kKMBTmglsVW])?(?P<gap> ?)-(?P=gap)(?P<sign>{SIGN})?"
        rf"(?P<high>{NUMBER})(?!-\d|:\d)",
        _between,
    ),
)
