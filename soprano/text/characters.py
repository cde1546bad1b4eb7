"""Unicode -> ASCII: every character is resolved by its Unicode properties, exceptions by tables.

`simplify` removes what is invisible and replaces variants of a character by that character.
`spell` writes what the rules between them have left in ASCII, except white space, currency signs
and `°` and `µ`, which later rules read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from soprano.text.rules import Match, rule

KEPT = "°µ"

# Characters whose reading does not follow from their properties.
SIGNS = {
    "—": " -- ", "―": " -- ", "⸺": " -- ", "⸻": " -- ",
    "…": "...", "⋯": "...", "‥": "...",
    "«": '"', "»": '"', "‹": '"', "›": '"', "《": '"', "》": '"', "〈": '"', "〉": '"',
    "「": '"', "」": '"', "『": '"', "』": '"', "｢": '"', "｣": '"', "„": '"', "‚": "",
    "‘": "", "´": "'", "ʻ": "'", "ʹ": "'",
    "№": "number ", "℅": "care of", "§": " section ", "¶": " paragraph ",
    "×": " times ", "±": " plus or minus ", "÷": "/", "−": "-", "∗": "*", "∙": "*", "⋅": "*",
    "≠": " not equal to ", "≤": "<=", "≥": ">=", "≈": " approximately ", "∼": "~", "¬": " not ",
    "∆": " delta ", "∑": " sum of ", "∏": " product of ", "⊥": " perpendicular to ",
    "⁄": "/", "∕": "/", "∶": ":", "∣": "|", "‖": "|",
    "♯": " sharp", "♭": " flat", "♮": " natural", "‰": " per thousand", "‱": " per ten thousand",
    "・": " ", "･": " ", "•": "* ", "‣": "* ", "※": " ", "†": " ", "‡": " ", "′": "'", "″": '"',
    "™": "", "℠": "", "®": "", "©": "", "¿": "", "¡": "", "ª": "a", "º": "o",
}  # fmt: skip

# Marks that end a sentence in their script (Unicode: Sentence_Terminal), where neither their name
# nor their transliteration is that of a full stop.
_FULL_STOPS = (
    "61D 61E 700 837 839 83D 83E 104A 1735 1736 17D5 1AA8 1AA9 1AAA 1AAB 1B5A 1B5B 1B5E 1B5F "
    "1B7D 1B7E 1C3B 1C3C 1C7E 1C7F A92F A9C8 A9C9 AAF0 AAF1 ABEB 10F55 10F56 10F57 10F58 10F59 "
    "10F86 10F87 10F88 10F89 111CD 1173E 11EF7 16B37 16B38 16B44 E5A E5B"
)
FULL_STOPS = frozenset(chr(int(code, 16)) for code in _FULL_STOPS.split())
_NAMED_STOP = re.compile(
    r"FULL STOP|DANDA\b|\bSHAD\b|SECTION|END OF|PARAGRAPH SEPARATOR|\bKHAN\b|\bKHOMUT\b"
)
_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿⁱˣ"
_LOWERED = str.maketrans(_SUPERSCRIPTS, "0123456789-+nix")
# Decompositions that change nothing about how a character is read.
_VARIANTS = {"<wide>", "<narrow>", "<small>", "<vertical>", "<font>", "<square>", "<circle>"}
_DECORATION = re.compile(r"([^\w\s.!?,'\"()\[\]{}-])\1{3,}")
_UNREADABLE = {"So", "Co", "Cn", "Cs"}  # pictographs, private, unassigned, surrogates
_GREEK = "\u0391-\u03a9\u03b1-\u03c9"
_IN_NUMBERS = {"．": ".", "٫": ".", "，": ",", "٬": ",", "：": ":", "／": "/"}


class Translation(dict[int, str]):
    """A table for `str.translate` that asks a function once for each character."""

    def __init__(self, read: Callable[[str], str]) -> None:
        self.read = read

    def __missing__(self, code: int) -> str:
        self[code] = self.read(chr(code))
        return self[code]


def _simplified(character: str) -> str:
    code, category = ord(character), unicodedata.category(character)
    if character.isascii() and (character.isprintable() or character.isspace()):
        return character
    if (category in ("Cc", "Cf") and not character.isspace()) or _is_selector(code):
        return ""
    if category == "Zs":
        return " "
    if category == "Nd":
        return str(unicodedata.digit(character))
    if character in SIGNS or character in _SUPERSCRIPTS or character in _IN_NUMBERS:
        return character
    if category == "No" and not unicodedata.decomposition(character):
        return _in_digits(character)
    return _decomposed(character, category)


def _is_selector(code: int) -> bool:
    """Variation selectors, enclosing marks, the grapheme joiner and the tones of emoji."""
    return (
        0xFE00 <= code <= 0xFE0F
        or 0xE0100 <= code <= 0xE01EF
        or 0x20DD <= code <= 0x20E4
        or 0x1F3FB <= code <= 0x1F3FF
        or code in (0x034F, 0x180B, 0x180C, 0x180D, 0x180F)
    )


def _in_digits(character: str) -> str:
    value = unicodedata.numeric(character)
    return f" {int(value)} " if value == int(value) else character


def _decomposed(character: str, category: str) -> str:
    """The characters of which a compatibility character is a variant, else itself."""
    tag, *codes = unicodedata.decomposition(character).split() or [""]
    parts = "".join(chr(int(code, 16)) for code in codes) if tag[:1] == "<" else ""
    simple = (parts[:1] != " " and max(map(ord, parts), default=0x400) < 0x400) or "\u2113" in parts
    if tag == "<fraction>":
        return f" {parts}"  # after its whole number
    if not parts or (category[0] == "P" and tag != "<compat>"):
        return "? " if character == "\u037e" else character
    if category == "So" and (ord(character) >= 0x1F200 or (tag == "<circle>" and not simple)):
        return character  # a pictograph
    if tag not in _VARIANTS and not (simple and tag in ("<compat>", "<sub>", "<super>")):
        return character
    inner = "".join(map(_simplified, parts))
    return f" {inner} " if category == "No" and tag == "<circle>" else inner


def _spelled(character: str) -> str:
    from anyascii import anyascii  # here, so that this package is imported quickly

    category = unicodedata.category(character)
    if character.isascii() or character.isspace() or category == "Sc" or character in KEPT:
        return character
    if character in SIGNS:
        return SIGNS[character]
    name = unicodedata.name(character, "")
    if "ARROW" in name and category in ("Sm", "So"):
        return " -- "
    if category in _UNREADABLE:
        return " "
    if category == "Sm":
        return _operator(name, ord(character))
    folded: str = anyascii(character)
    if category[0] == "P":
        return _mark(character, name, folded)
    return "" if folded[:1] == ":" else folded


def _operator(name: str, code: int) -> str:
    """A mathematical sign is read by its Unicode name."""
    if 0x2300 <= code < 0x2600:
        return " "  # parts of brackets, geometric shapes
    words = re.sub(r"^N-ARY |^FULLWIDTH | SIGN$", "", name).lower().replace("-", " ")
    return f" {words} of " if words.endswith("root") else f" {words} "


def _mark(character: str, name: str, folded: str) -> str:
    """A mark of another script is followed by a space: no dot between letters is meant."""
    if character in FULL_STOPS or _NAMED_STOP.search(name):
        return ". "
    if "QUOTATION" in name:
        return "'" if "SINGLE" in name else '"'
    return f"{folded} " if folded[-1:] in tuple(".,!?;:") else folded


SIMPLE = Translation(_simplified)
SPELLED = Translation(_spelled)


def simplify(text: str) -> str:
    """Text without invisible characters and rows of one sign, with composed letters."""
    return _DECORATION.sub(" ", unicodedata.normalize("NFC", text.translate(SIMPLE)))


def spell(text: str) -> str:
    return text.translate(SPELLED)


def _raised(match: Match) -> str:
    """A raised number: "^2" after a short word, a digit or a bracket, elsewhere a number."""
    number = match[2].translate(_LOWERED)
    return f"{match[1]}^{number}" if match[1] else f" {number}"


def _charge(match: Match) -> str:
    number = match[1].translate(_LOWERED)
    return f" {number} {'plus' if match[2] == '⁺' else 'minus'} "


def _greek_letter(match: Match) -> str:
    name = unicodedata.name(match[0]).split()[-1].lower().replace("lamda", "lambda")
    start, end = match.span()
    before, after = match.string[max(start - 1, 0) : start], match.string[end : end + 1]
    return f"{' ' if before.isalnum() else ''}{name}{' ' if after.isalnum() else ''}"


def _en_dash(match: Match) -> str:
    """A range, unless it may be a telephone number or a pair."""
    low, high = match.groups()
    hyphen = low == high or (len(low), len(high)) == (3, 4)
    return f"{low}-{high}" if hyphen else f"{low} to {high}"


_RAISED = "⁰¹²³⁴-⁹"
_FACTOR = rf"(?:(?<=[\d)])|(?<=\b[A-Za-z])|(?<=[{_GREEK}]))"

# Applied between `simplify` and `spell`.
SIGN_RULES = (
    rule("mark inside a number", r"(?<=\d)[．٫，٬：／](?=\d)", lambda match: _IN_NUMBERS[match[0]]),
    rule("en dash between numbers", r"(?<![\d.,–-])(\d++)[–〜～](\d++)(?![\d–〜～-])", _en_dash),
    rule("en dash", r"(?<=[\d%])[–〜～](?=\W?\d)", " to "),
    rule("degrees", r"(?<=\d)( ?)º(?= ?[CF]\b)", r"\1°"),  # the ordinal sign for the degree sign
    rule("unit product", r"(?<=\d)( ?[A-Za-z]{1,3})[·⋅∙](?=[A-Za-z]{1,2}\b)", r"\1"),
    rule("dimensions", r"(?<=\d)×(?=\d++(?![\d.]*+ ?=))", " by "),
    rule("times", rf"{_FACTOR}( ?)[·⋅∙•∗×✕✖⨯・](?= ?\d|\1[A-Za-z{_GREEK}(]\b)", " times "),
    rule("dot in a word", r"(?<=[Ll])·(?=[Ll])|‧", ""),
    rule("dot between words", r"(?<=[A-Za-z])·(?=[A-Za-z])", " "),
    rule("middle dot", r"·", " -- "),
    rule("micro", r"(?<=\d)( ?)μ(?=[A-Za-zΩ]| [a-z]|[.,]|$)", r"\1µ"),
    rule("angstrom", r"(?<=\d) ?Å(?!\w)", " angstroms"),
    rule("ohm", rf"(?<=\d)([ -]?[kKMGmµ]?)Ω(?![{_GREEK}\w])", r"\1ohm"),
    rule("charge", rf"(?<![{_RAISED}])([{_RAISED}]*+)([⁺⁻])(?![{_RAISED}ⁿⁱˣ])", _charge),
    rule(
        "raised number",
        rf"((?:(?<![A-Za-z])[A-Za-z{_GREEK}]{{1,3}}|[{_GREEK}\d)\]])(?=[{_RAISED}⁺⁻ⁿⁱˣ]))?"
        rf"([⁺⁻]?(?:[{_RAISED}]++|[ⁿⁱˣ](?![a-z])))",
        _raised,
    ),
    rule(
        "Greek letter",  # not in a Greek word, nor beside one
        r"(?<![\u0370-\u03ff])(?<![\u0370-\u03ff]{2} )"
        rf"[{_GREEK}](?! ?[\u0370-\u03ff]{{2}})(?![\u0370-\u03ff])",
        _greek_letter,
    ),
)
