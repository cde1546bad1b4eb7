"""Rules for abbreviations, each read as the word that it stands for."""

from __future__ import annotations

import re

from soprano.text.dates import DAYS, MONTHS
from soprano.text.numbers import LABELS
from soprano.text.rules import (
    Match,
    any_of,
    before,
    ends_sentence,
    names,
    rule,
    table,
    word_before,
)

# Upper or lower case, with a full stop that is removed.
TITLES = table(
    "capt = captain | col = colonel | dr = doctor | drs = doctors | ft = fort | gen = general | "
    "hon = honorable | lt = lieutenant | maj = major | mr = mister | mrs = misess | ms = miss | "
    "prof = professor | rev = reverend | sgt = sergeant | st = saint"
)
# The same after a name; their full stop may end a sentence.
SUFFIXES = table(
    "bros = brothers | co = company | corp = corporation | esq = esquire | inc = incorporated | "
    "jr = junior | ltd = limited | sr = senior"
)
# Only before a name that is written with a capital.
_BEFORE_NAMES = table(
    "Adm = admiral | Cmdr = commander | Cpl = corporal | Det = detective | Fr = father | "
    "Gov = governor | Insp = inspector | Messrs = messieurs | Mt = mount | Mx = mix | "
    "Pres = president | Pvt = private | Rep = representative | Sen = senator | "
    "Supt = superintendent"
)
# Also without a full stop before a name.
_WITHOUT_STOP = names("Mr Mrs Ms Dr Drs Prof St Lt Sgt Capt Rev Ft Mt Col Maj")
# Only before a number.
_BEFORE_NUMBERS = table(
    "apt = apartment | art = article | bk = book | c = circa | ca = circa | ch = chapter | "
    "chap = chapter | chs = chapters | eq = equation | eqs = equations | est = established | "
    "ext = extension | fig = figure | figs = figures | max = maximum | min = minimum | "
    "no = number | nos = numbers | op = opus | p = page | para = paragraph | pp = pages | "
    "pt = part | rm = room | sec = section | sect = section | ste = suite | tel = telephone | "
    "ver = version | vol = volume | vols = volumes"
)
# Before "no. 5" as a number; after other words it is an answer.
_NUMBERED = LABELS | names(
    "account case concerto invoice issue item its lot model opus order our patent phone "
    "quartet reference registration serial sonata symphony the ticket"
)
_NEED_NO_STOP = names("ch eq ext fig figs pp tel vol vols")
# With a full stop, in any place.
_ANYWHERE = table(
    "approx = approximately | assn = association | assoc = association | dept = department | "
    "et al = et al | govt = government | misc = miscellaneous | univ = university | vs = versus"
)
# Whole words in exactly this spelling.
SHORT_FORMS = {
    **DAYS,
    **MONTHS,
    **table(
        "Ave = avenue | Blvd = boulevard | Hwy = highway | Pkwy = parkway | Rd = road | "
        "etc = et cetera | and/or = and or | Hz = hertz | kHz = kilohertz | "
        "MHz = megahertz | GHz = gigahertz | KB = kilobyte | KBs = kilobytes | MB = megabyte | "
        "MBs = megabytes | GB = gigabyte | GBs = gigabytes | TB = terabyte | TBs = terabytes | "
        "API = a p i | APIs = a p i's | CLI = c l i | CLIs = c l i's | CPU = c p u | "
        "CPUs = c p u's | GPU = g p u | GPUs = g p u's | WWI = world war one | "
        "WWII = world war two"
    ),
}
# After a name.
_STREETS = table("St = street | Dr = drive | Ln = lane | Sq = square")


def final_stop(match: Match) -> str:
    """The stop of an abbreviation remains where a sentence ends."""
    return "." if match[0].endswith(".") and ends_sentence(match) else ""


def last_stop(match: Match) -> str:
    """It remains only at the end of the text."""
    return "." if match[0].endswith(".") and match.end() == len(match.string) else ""


def _title(match: Match) -> str:
    return TITLES[match[1].lower()] + last_stop(match)


def _suffix(match: Match) -> str:
    return SUFFIXES[match[1].lower()] + final_stop(match)


def _rank(match: Match) -> str:
    return _BEFORE_NAMES.get(match[1]) or TITLES[match[1].lower()]


def _anywhere(match: Match) -> str:
    return _ANYWHERE[(match[1] or match[2]).lower()] + last_stop(match)


def _street(match: Match) -> str:
    name = word_before(match)
    if not name[:1].isupper() or name.lower() in _BEFORE_NAMES:
        return match[0]
    return _STREETS[match[1]] + final_stop(match)


def _short_form(match: Match) -> str:
    return SHORT_FORMS[match[1]]


def _before_number(match: Match) -> str:
    name, stop, capital = match[1].lower(), match[2], match[1][0].isupper()
    number = match.string[match.end() : match.end() + 2].rstrip()
    if not stop:
        known = name in _NEED_NO_STOP and match[0].endswith(" ") and number[0].isdigit()
    elif name in ("max", "min"):  # also a unit
        known = not re.search(r"\d ?$", before(match, 3))
    elif name == "no":  # also an answer
        known = number != "I" and (capital or word_before(match).lower() in _NUMBERED)
    else:
        known = not capital or (len(name) > 1 and name != "ca")  # else an initial
    return f"{_BEFORE_NUMBERS[name]} " if known else match[0]


def _degree(match: Match) -> str:
    return f"{match[1]} {match[2]}{final_stop(match)}"


# Before the rules for numbers.
NUMBERED_RULES = (
    rule(
        "before a number",
        rf"(?<![\w.])({any_of(_BEFORE_NUMBERS)})(\.?) ?(?=\d|[IVXL]+\b)",
        _before_number,
        any_case=True,
    ),
    rule("edition", r"(?<=\d(?:st|nd|rd|th) )ed\.", "edition"),
    rule("degree", r"\b([BMD])\.(Sc|Phil|Ed|Eng)\b(\.?)", _degree),
)

RULES = (
    rule("street", rf"\b({any_of(_STREETS)})\b\.?(?! [A-Z])", _street),
    rule("rank", rf"\b({any_of(_BEFORE_NAMES)})\.(?= [A-Z])", _rank),
    rule("rank without a stop", rf"\b({any_of(_WITHOUT_STOP)}|MRS?)(?= [A-Z][A-Za-z])", _rank),
    rule("younger", r"(?<=[a-z]{2})(,? )(Jr|Sr)\b(?!\.)", lambda m: m[1] + SUFFIXES[m[2].lower()]),
    # The full stop of a short form is removed where a lower-case word follows.
    rule(
        "short form", rf"(?<!slash )(?<!/)\b({any_of(SHORT_FORMS)})\b(?:\.(?= [a-z]))?", _short_form
    ),
    rule("anywhere", rf"\b(?:({any_of(_ANYWHERE)})\.|(vs)\b)", _anywhere, any_case=True),
)

# After the words in mixed case are split.
TITLE_RULES = (
    rule("suffix", rf"\b({any_of(SUFFIXES)})(?:\.(?!\.\.)|(?=:))", _suffix, any_case=True),
    rule("title", rf"\b({any_of(TITLES)})(?:\.(?!\.\.)|(?=:))", _title, any_case=True),
)
