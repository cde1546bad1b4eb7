"""Rules for words: abbreviations, initials, links and words in mixed case."""

from __future__ import annotations

import re

from soprano.text.rules import any_of, rule

# Upper or lower case, with a full stop that is removed.
TITLES = {
    "capt": "captain",
    "co": "company",
    "col": "colonel",
    "dr": "doctor",
    "drs": "doctors",
    "esq": "esquire",
    "ft": "fort",
    "gen": "general",
    "hon": "honorable",
    "jr": "junior",
    "lt": "lieutenant",
    "ltd": "limited",
    "maj": "major",
    "mr": "mister",
    "mrs": "misess",
    "ms": "miss",
    "rev": "reverend",
    "sgt": "sergeant",
    "st": "saint",
}

# Whole words in exactly this spelling.
SHORT_FORMS = {
    "Mon": "monday",
    "Tues": "tuesday",
    "Wed": "wednesday",
    "Thurs": "thursday",
    "Fri": "friday",
    "Sat": "saturday",
    "Jan": "january",
    "Feb": "february",
    "Mar": "march",
    "Apr": "april",
    "Aug": "august",
    "Sept": "september",
    "Oct": "october",
    "Nov": "november",
    "Dec": "december",
    "Ave": "avenue",
    "etc": "et cetera",
    "and/or": "and or",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "KB": "kilobyte",
    "KBs": "kilobytes",
    "MB": "megabyte",
    "MBs": "megabytes",
    "GB": "gigabyte",
    "GBs": "gigabytes",
    "TB": "terabyte",
    "TBs": "terabytes",
    "API": "a p i",
    "APIs": "a p i's",
    "CLI": "c l i",
    "CLIs": "c l i's",
    "CPU": "c p u",
    "CPUs": "c p u's",
    "GPU": "g p u",
    "GPUs": "g p u's",
}

# After a number these are units, not titles.
UNITS = {"ft": "feet", "ms": "milliseconds"}


def _ends_sentence(match: re.Match[str]) -> bool:
    """Whether an abbreviation is followed by the end of the text or by a capital letter."""
    rest = match.string[match.end() : match.end() + 2]
    return rest.strip() == "" or (rest[0] == " " and rest[1].isupper())


def _last_stop(match: re.Match[str]) -> str:
    return "." if match.end() == len(match.string) else ""


def _unit(match: re.Match[str]) -> str:
    return f" {UNITS[match[1]]}{'.' if match[2] and _ends_sentence(match) else ''}"


def _initials(match: re.Match[str]) -> str:
    """Separate letters; the full stop of a.m. and p.m. stays where a sentence can end."""
    letters = match[0].replace(".", " ").strip()
    half_day = letters.lower() in ("a m", "p m") and _ends_sentence(match)
    return f"{letters}{'.' if half_day else _last_stop(match)}"


def _title(match: re.Match[str]) -> str:
    return TITLES[match[1].lower()] + _last_stop(match)


def _street(match: re.Match[str]) -> str:
    return "street" + _last_stop(match)


def _short_form(match: re.Match[str]) -> str:
    return SHORT_FORMS[match[1]]


def _mixed_case(match: re.Match[str]) -> str:
    word = match[0]
    parts = re.findall("[A-Z][a-z]*", word)
    if len(parts) in (1, len(word)):
        return word
    if len(parts) == len(word) - 1 and word[-1] == "s":  # the plural of an acronym
        return f"{word[:-1]}'s"
    return " ".join(parts)


UNIT_RULES = (rule("unit", rf"(?<=\d) ?({any_of(UNITS)})\b(\.?)", _unit),)

LINK_RULES = (
    rule("link", r"http(s?)://", lambda m: f"h t t p {'s ' if m[1] else ''}colon slash slash "),
    rule("doctorate", r"\bPh\.D\b", "P.H.D"),
    rule("initials", r"(?<![\w.])(?:(?:[A-Za-z]\.){2,}|(?:[A-Z]\.)+[A-Z])(?!\.?\w)", _initials),
    rule("dot", r"(?:(?<=[A-Za-z])|(?<![\w.,!?]))\.(?=[A-Za-z])", " dot "),
    rule("spaced hyphen", r"(?<=[^ ]) - (?=[^ ])", ", "),
)

ABBREVIATION_RULES = (
    # The full stop of a short form is removed where a lower-case word follows.
    rule("short form", rf"\b({any_of(SHORT_FORMS)})\b(?:\.(?= [a-z]))?", _short_form),
    rule("mixed case", r"\b[A-Z][A-Za-z]*+\b", _mixed_case),
    rule("street", r"(?<=\w )St\.(?! [A-Z])", _street),
    rule("title", rf"\b({any_of(TITLES)})(?:\.(?!\.\.)|(?=:))", _title, any_case=True),
)
