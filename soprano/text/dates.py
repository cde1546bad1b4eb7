"""Rules for dates, times and the ranges between them."""

from __future__ import annotations

import re

from soprano.text.rules import Match, any_of, needing, rule, table

# Short forms of days and months, in exactly this spelling.
DAYS = table(
    "Mon = monday | Tue = tuesday | Tues = tuesday | Wed = wednesday | Thu = thursday | "
    "Thur = thursday | Thurs = thursday | Fri = friday | Sat = saturday"
)
MONTHS = table(
    "Jan = january | Feb = february | Mar = march | Apr = april | Jun = june | Jul = july | "
    "Aug = august | Sep = september | Sept = september | Oct = october | Nov = november | "
    "Dec = december"
)
_LONG = [name.capitalize() for name in (*DAYS.values(), *MONTHS.values(), "sunday", "may")]
_NAME = rf"(?:{any_of({*DAYS, *MONTHS, *_LONG, 'Sun'})})"
_MONTH = rf"(?:{any_of({*MONTHS, *MONTHS.values(), *map(str.capitalize, MONTHS.values()), 'May'})})"
_HALF_DAY = r"(?:[ap]m\b|[ap]\.m\.)"
_CLOCK = r"\d{1,2}(?::\d\d)?"


def _date(match: Match) -> str:
    return " dash ".join(part.lstrip("0") or "0" for part in match.groups())


def _clock(digits: str, zero: str) -> str:
    """Two digits of a time: "00" is read as `zero`, "05" as "oh five"."""
    if digits == "00":
        return zero
    return f"oh {digits[1]}" if digits[0] == "0" else digits


def _time(match: Match) -> str:
    hours, minutes, seconds = match.groups()
    hours = hours.lstrip("0") or "0"
    if seconds is not None:
        if hours != "0":
            return f"{hours} {_clock(minutes, 'oh oh')} {_clock(seconds, '')}".rstrip()
        if minutes == "00":
            return seconds.lstrip("0") or "0"
        return f"{minutes.lstrip('0')} {_clock(seconds, 'oh oh')}"
    if minutes != "00":
        return f"{hours} {_clock(minutes, '')}"
    if int(hours) > 12:
        return f"{hours} minutes"
    followed = match.string[match.end() : match.end() + 1].isalpha()
    return f"{hours} o'clock{' ' * followed}" if hours != "0" else "0"


def _times(match: Match) -> str:
    return " to ".join(
        re.sub("^0?([1-9][0-9]?):00$", r"\1 o'clock", time) for time in match.groups()
    )


def _noon(match: Match) -> str:
    return f"{match[1] or ''} to "


def _days(match: Match) -> str:
    first, last = (re.sub("^Sun$", "Sunday", name) for name in match.groups())
    return f"{first} to {last}"


_VERSES = r"(?<=[a-z] )(\d{1,3}):([1-9]\d?\d?)-(?=\d{1,3}(?![\d:]))"
_TO_AN_HOUR = rf"(?<![\w.:-])({_CLOCK}) ?- ?(?={_CLOCK} ?{_HALF_DAY})"

RANGE_RULES = (
    rule("range of days", rf"\b({_NAME})\.? ?- ?({_NAME})\b", _days),
    rule("range of times", r"(?<![\d:])(\d{1,2}:\d\d) ?- ?(\d{1,2}:\d\d)(?![\d:])", _times),
    rule("range of hours", rf"({_CLOCK} ?{_HALF_DAY}) ?- ?(?={_CLOCK})", r"\1 to ", any_case=True),
    rule("range to an hour", _TO_AN_HOUR, r"\1 to ", any_case=True),
    rule("range of verses", _VERSES, r"\1 \2 to "),
    rule("noon", r"\b(noon|midnight)-(?=\d)|(?<=[ap]m)-(?=(?:noon|midnight)\b)", _noon),
    rule("decades", r"(?<=\d0s)-'?(?=\d0s)", " to "),
    rule("day with a zero", rf"\b({_MONTH}\.? )0(?=\d\b)|\b0(?=\d {_MONTH}\b)", r"\1"),
    rule("month of a year", r"\b((?:19|20)\d\d)-0(?=[1-9](?![\d-]))", r"\1 dash "),
    rule("date", r"(?<![\d/.-])(\d{4}|\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d{2})(?![\d/-])", _date),
)

TIME_RULES = needing(
    ":",
    rule("time", r"(?<![\d:])(\d{1,2}):(\d{2})(?::(\d{2}))?(?!:?\d)", _time),
    rule("ratio", r"(?<=\d):(?=\d)", " to "),
)
