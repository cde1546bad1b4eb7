"""Rules for links and e-mail addresses."""

from __future__ import annotations

import re

from soprano.text.rules import Match, needing, rule

# Schemes that are words; others without a vowel, and these, are spelt.
_SPELT = {"https", "imap", "imaps", "ldap", "ldaps", "irc", "sip", "rtsp", "udp", "ipfs", "s3"}
_SIGNS = {
    ".": " dot ", "/": " slash ", ":": " colon ", "?": " question mark ", "!": " ", "=": " equals ",
    "&": " and ", "#": " hash ", "@": " at ", "~": " tilde ", "%": " percent ", "+": " plus ",
    "_": " ", ";": " ", ",": " ", "*": " ", "$": " ", "'": "", "(": " ", ")": " ", "[": " ",
    "]": " ", "{": " ", "}": " ", "|": " ", "\\": " ",
}  # fmt: skip
_TRAILING = re.compile(r"[.,;:!?'\])}*_]*$")


def spell(letters: str) -> str:
    return " ".join(letters)


def _link(match: Match) -> str:
    link = match[0]
    tail = _TRAILING.search(link)
    assert tail is not None
    end = tail.start() + (tail[0].startswith(")") and link[: tail.start()].count("(") > 0)
    link, rest = link[:end], link[end:]
    scheme, separator, address = link.partition("://")
    if not separator:
        scheme, address = "", link
    if scheme and (scheme.lower() in _SPELT or not re.search("[aeiou]", scheme.lower())):
        scheme = spell(scheme)
    spoken = "".join(_SIGNS.get(character, character) for character in address.rstrip("-"))
    spoken = re.sub(r"-(?=\d)|(?<=\d)-", " dash ", spoken)
    return f"{scheme} colon slash slash {spoken}{rest}" if scheme else f"{spoken}{rest}"


_TEXT = r"[^\s<>\"`]"
_DOMAIN = r"(?:[A-Za-z0-9-]++\.)++[A-Za-z]{2,24}+(?![\w.-]*@)"

RULES = needing(
    "/:.",
    rule("mail", r"\bmailto:(?=\S)", "mail to "),
    rule("link", rf"(?<![\w@])[A-Za-z][A-Za-z0-9+.-]{{1,30}}+://{_TEXT}++", _link),
    rule(
        "address",
        rf"(?<![\w.@/-])(?:(?:{_DOMAIN}|localhost|\d{{1,3}}(?:\.\d{{1,3}}){{3}})"
        rf"(?::\d{{2,5}}+(?:/{_TEXT}*+)?|/{_TEXT}*+|\?{_TEXT}++)|www\.{_TEXT}++)",
        _link,
    ),
)

DOT_RULES = needing(
    ".-",
    rule("dot", r"(?:(?<=[A-Za-z])|(?<![\w.,!?]))\.(?=[A-Za-z])", " dot "),
    rule("spaced hyphen", r"(?<=[^ ]) - (?=[^ ])", ", "),
)
