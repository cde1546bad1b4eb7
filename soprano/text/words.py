"""Written words to spoken ones: abbreviations, initials, links, names in mixed case."""

from __future__ import annotations

import re

from soprano.text.rules import rule

# Followed by a full stop, which they lose; in any case.
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

# Whole words, exactly as written.
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

# After a figure these are units, not the titles they look like.
UNITS = {"ft": "feet", "ms": "milliseconds"}


def _ends_sentence(match: re.Match[str]) -> bool:
    """Whether an abbreviation's full stop is the last thing of the text or before a capital."""
    rest = match.string[match.end() : match.end() + 2]
    return rest.strip() == "" or (rest[0] == " " and rest[1].isupper())


def _last_stop(match: re.Match[str]) -> str:
    return "." if match.end() == len(match.string) else ""


def _unit(match: re.Match[str]) -> str:
    return f" {UNITS[match[1]]}{'.' if match[2] and _ends_sentence(match) else ''}"


def _initials(match: re.Match[str]) -> str:
    """Letters one by one; a stop after a.m. or p.m. stays where it may end a sentence."""
    letters = match[0].replace(".", " ").strip()
    of_day = letters.lower() in ("a m", "p m") and _ends_sentence(match)
    return f"{letters}{'.' if of_day else _last_stop(match)}"


def _title(match: re.Match[str]) -> str:
    return TITLES[match[1].lower()] + _last_stop(match)


def _street(match: re.Match[str]) -> str:
    return "street" + _last_stop(match)


def _short_form(match: re.Match[str]) -> str:
    return SHORT_FORMS[match[1]]


def _mixed_case(match: re.Match[str]) -> str:
    word = match[0]
    humps = re.findall("[A-Z][a-z]*", word)
    if len(humps) in (1, len(word)):
        return word
    if len(humps) == len(word) - 1 and word[-1] == "s":
        return f"{word[:-1]}'s"
    return " ".join(humps)


def _any(names: dict[str, str]) -> str:
    return "|".join(re.escape(name) for name in names)


UNIT_RULES = (rule("unit", rf"(?<=\d) ?({_any(UNITS)})\b(\.?)", _unit),)

LINK_RULES = (
    rule("link", r"http(s?)://", lambda m: f"h t t p {'s ' if m[1] else ''}colon slash slash "),
    rule("doctorate", r"\bPh\.D\b", "P.H.D"),
    rule("initials", r"(?<![\w.])(?:(?:[A-Za-z]\.){2,}|(?:[A-Z]\.)+[A-Z])(?!\.?\w)", _initials),
    rule("dot", r"(?:(?<=[A-Za-z])|(?<![\w.,!?]))\.(?=[A-Za-z])", " dot "),
    rule("spaced hyphen", r"(?<=[^ ]) - (?=[^ ])", ", "),
)

ABBREVIATION_RULES = (
    # The full stop of a short form goes where the sentence visibly goes on.
    rule("short form", rf"\b({_any(SHORT_FORMS)})\b(?:\.(?= [a-z]))?", _short_form),
    rule("mixed case", r"\b[A-Z][A-Za-z]*+\b", _mixed_case),
    rule("street", r"(?<=\w )St\.(?! [A-Z])", _street),
    rule("title", rf"\b({_any(TITLES)})(?:\.(?!\.\.)|(?=:))", _title, any_case=True),
)
