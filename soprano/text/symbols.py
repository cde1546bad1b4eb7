"""Rules for symbols: operators of code, brackets, remaining symbols, final punctuation."""

from __future__ import annotations

import re

from soprano.text.rules import Match, rewrite, rule

# In this order: "<=" before "<".
SYMBOLS = {
    "<=": " less than or equal to ",
    ">=": " greater than or equal to ",
    "@": " at ",
    "&": " and ",
    "%": " percent ",
    ";": ",",
    "+": " plus ",
    "\\": " backslash ",
    "~": " about ",
    "<": " less than ",
    ">": " greater than ",
    "=": " equals ",
    "/": " slash ",
    "µ": " micro",
}

CODE_RULES = (
    rule("not equal", r" ?(?:!={1,2}|=/=|<>) ?", " not equal to "),
    rule("arrow", r"<?(?:-++|={1,2}|~)>|(?<= )<-+(?= )|\|>", " -- "),
    rule("equal", r"(?<![=!<>])={2,3}(?!=)|(?<=[\w ]):=", " = "),
    rule("and", r" ?&& ?", " and "),
    rule("or", r"(?<=[\w)\]]) ?\|\| ?", " or "),
    rule("not", r"(?:(?<=[(|])|(?<= or )|(?<= and ))!(?=[A-Za-z_(])", "not "),
    rule("scope", r"(?<=\w)::(?=\w)", " "),
    rule("sharp", r"\b([A-Z])#(?!\w)", r"\1 sharp"),
    rule("hash", r"(?<=[a-z]) #(?= [a-z])", " hash"),
    rule("plus or minus", r"\+/-+", " plus or minus "),
    rule(
        "grade", r"(?<![\w.'-])(A|AB|B|C|D|E|F|O)-(?=[.,;!?)]|$| (?!and\b|or\b|[-\d]))", r"\1 minus"
    ),
)

SIGN_RULES = (
    rule("underscore", r"_", " "),
    rule("long dash", r" ?-{2,}+ ?", ", "),
    rule("optional ending", r"(?<=[A-Za-z]{2})\((e?s)\)", r"\1"),
    rule("optional beginning", r"(?<!\w)\(([A-Za-z]{1,3})\)(?=[a-z])", r"\1"),
)

SYMBOL_RULES = (
    rule("colon", r":(?=\w)", ". "),
    rule("pause", r":", "."),
    rule("symbol", "|".join(map(re.escape, SYMBOLS)), lambda match: SYMBOLS[match[0]]),
)


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


def _without_space(match: Match) -> str:
    """Marks directly after the word before them; an ellipsis may also begin the next word."""
    marks, word = match.groups()
    return f"{marks} " if word and not marks.endswith("...") else marks


def _strongest_pause(match: Match) -> str:
    """The strongest of adjacent marks; the same on either side of an ellipsis."""
    parts = re.split(r"\.{3,}", match[0])
    ranks = "?!.," if len(parts) == 1 else "?!,"
    return "...".join(next((mark for mark in ranks if mark in part), "") for part in parts)


def _two_letters(match: Match) -> str:
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
    rule("space before a pause", r"(?:\A| )([.,!?]++)(?=(\w)?)", _without_space),
    rule("pauses", r"[.,!?]{2,}+", _strongest_pause),
    rule("stop before a word", r"(?<!\.)\.(?=\w)", ". "),
    rule("repeated letter", r"\b[xvlc]*+iii\b|\bwww(?= dot )|([a-z])\1{2,}+", _two_letters),
)


def finish(text: str) -> str:
    """Reduce text to lower-case letters, apostrophes, hyphens, single spaces and pauses."""
    return rewrite(text.lower(), _FINAL_RULES).strip()
