"""What depends on a whole line: quotation marks, inches, line ends."""

from __future__ import annotations

import re

from soprano.text.rules import Match

_CUT_WORD = re.compile(r"(?<=[A-Za-z])[-\u2010\xad][ \t]*+\r?\n[ \t]*+(?=[a-z])")
_BLANK = re.compile(r"\n\s*?\n|[\u2029\f]")
_BULLETS = re.compile(r"^(?:(?:[-*]++|\+) )*+(?:--++)?")
_FINAL = (".", "!", "?")

# Words that begin with an apostrophe.
_ELISION = re.compile(
    r"\d\d(?!\d)|(?:twas|tis|em|til|till|cause|cos|bout|round|n|nuff|tween|neath|twere|twill)\b",
    re.I,
)
_SINGLE = re.compile(r"[‘’‚‛'`]")
_DOUBLE = re.compile(r"[\"“”″]")
_FEET_AND_INCHES = re.compile(
    r"(?<![\w.,])(\d{1,2}) ?['’′] ?(\d{1,2}(?!\d)(?:\.\d++)?+)"
    r"(?: ?[\"”″“]|(?![\w\"'’′]|[.,]\d))"
)
_FEET = re.compile(
    r"(?:(?<![\w.,])|(?<=['’′\d]x))(\d++(?:\.\d++)?+)"
    r"(?:′|['’](?= ?(?:x(?![a-z])|×|(?:by|tall|long|wide|high|deep)\b))"
    r"|(?:(?<=\b[ax] \d)|(?<=x\d))['’](?= [a-z]|$))"
)
_LAST_FEET = re.compile(
    r"\b((?:is|was|are|were|of|to|at|by|over|under|about|than|nearly|almost) \d++)['’]"
    r"(?=[.,;!?)]|$)",
    re.M,
)
_INCHES = re.compile(r"(\d++)$")
_MINUTES = re.compile(r"° ?(\d++)′(?: ?(\d++(?:\.\d++)?+)[″\"”])?(?: ?([NSEW])\b)?")
_DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west"}
# After a length these show that it is no adjective: "is 6 feet tall", but "a 6 foot fence".
_NO_NOUN = re.compile(
    r"(?! [A-Za-z])| (?:tall|long|wide|high|deep|thick|across|apart|away|by|x|in|on|at|of|or|and|"
    r"to|from|per|is|are|was|were|with|above|below|off|up|down)\b"
)


def join_words(text: str) -> str:
    """Join words that a hyphen cuts at the end of a line."""
    return _CUT_WORD.sub("", text)


def resolve_quotes(text: str) -> str:
    """Remove pairs of single quotation marks, and write lengths in feet and inches as words."""
    if not re.search(r"[‘’‚‛'\"“”′″`´]", text):
        return text
    text = _MINUTES.sub(_minutes, re.sub(r"(?<=[A-Za-z])[`´](?=[a-z])", "'", text))
    text = re.sub("''|’’|′′", '"', text)
    text = _FEET.sub(_feet, _FEET_AND_INCHES.sub(_feet_and_inches, text))
    text = _LAST_FEET.sub(r"\1 feet", text)
    lines = re.split(r"(\n)", text)
    return "".join(_inches(_without_single_quotes(line)) for line in lines)


def _minutes(match: Match) -> str:
    minutes, seconds, direction = match.groups()
    words = f"° {minutes} minutes" + (f" {seconds} seconds" if seconds else "")
    return f"{words} {_DIRECTIONS[direction]}" if direction else words


def _feet_and_inches(match: Match) -> str:
    feet, inches = match.groups()
    if float(inches) >= 12:
        return match[0]
    foot, inch = "foot" if feet == "1" else "feet", "inch" if inches == "1" else "inches"
    return f"{feet} {foot} {inches} {inch}"


def _feet(match: Match) -> str:
    plural = match[1] != "1" and _NO_NOUN.match(match.string, match.end())
    space = " " if match.string[match.end() : match.end() + 1].isalnum() else ""
    return f"{match[1]} {'feet' if plural else 'foot'}{space}"


def _without_single_quotes(line: str) -> str:
    """A line without the pairs of single quotation marks; apostrophes stay."""
    removed = set[int]()
    opening = None
    for mark in _SINGLE.finditer(line):
        start, end = mark.span()
        before, after = line[start - 1 : start], line[end : end + 1]
        word_before, word_after = before.isalnum(), after.isalnum()
        if not word_before and before not in _FINAL and word_after:
            if not _ELISION.match(line, end):
                opening = start
        elif opening is not None and not before.isspace() and not word_after:
            removed |= {opening, start}
            opening = None
    return "".join(c for i, c in enumerate(line) if i not in removed) if removed else line


def _inches(line: str) -> str:
    """A double quotation mark after a number means inches, unless it ends a quotation."""
    parts: list[str] = []
    start, quoted = 0, False
    for mark in _DOUBLE.finditer(line):
        before = line[max(start, mark.start() - 20) : mark.start()]
        number = _INCHES.search(before)
        if number and (mark[0] == "″" or not quoted):
            plural = number[1] != "1" and _NO_NOUN.match(line, mark.end())
            parts += [line[start : mark.start()], " inches" if plural else " inch"]
            start = mark.end()
        else:
            quoted = not quoted
    return "".join([*parts, line[start:]])


def join_lines(text: str, paragraphs: bool = False) -> str:
    """Join lines with single spaces; a line without a final mark gets a full stop.

    With `paragraphs` only a blank line ends a sentence, and other line ends are spaces.
    """
    lines = []
    for line in _BLANK.split(text) if paragraphs else text.splitlines():
        spaced = " ".join(line.split()) + " "
        words = _BULLETS.sub("", spaced, count=1).rstrip()
        if words:
            lines.append(words if words[-1] in _FINAL else f"{words}.")
    return " ".join(lines)
