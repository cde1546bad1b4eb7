"""Markdown, HTML and SSML -> plain text: what is not spoken is removed."""

from __future__ import annotations

import html
import re

from soprano.text.rules import Match, Rule, names, rewrite, rule

# Elements that begin a new line, and elements that are part of one. Other names are elements if
# they have attributes, a colon, a hyphen or an end tag; else they are words in angle brackets.
_BLOCKS = names(
    "address article aside blockquote body br caption center dd details dialog div dl dt "
    "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 head header hr html legend li "
    "main menu nav ol optgroup option p paragraph pre s section sentence speak summary table "
    "tbody tfoot thead title tr ul"
)
_CELLS = frozenset({"td", "th"})
_INLINE = names(
    "a abbr acronym amazon area audio b base bdi bdo big button canvas cite code col colgroup "
    "data datalist del desc dfn em embed emphasis font i iframe img input ins kbd label lang "
    "lexicon link map mark meta metadata meter noscript object output param phoneme picture "
    "progress prosody q rp rt ruby samp say-as script select slot small source span strike "
    "strong style sub sup svg template textarea time token track tt u var video voice w wbr"
)
_ATTRIBUTE = r"\s++[\w:.@-]++\s*+=\s*+(?:\"[^\"<]*+\"|'[^'<]*+'|[^\s\"'=<>`]++)"
_FLAG = r"\s++(?:checked|controls|defer|disabled|hidden|loop|multiple|open|required|selected)"
_TAG = re.compile(rf"<(/?)([A-Za-z][\w:.-]*+)((?:{_ATTRIBUTE}|{_FLAG})*+)\s*+(/?)>", re.I)
_END_TAG = re.compile(r"</([\w:.-]++)\s*+>")
# Text between these is not spoken.
_HIDDEN = (("<!--", "-->"), ("<script", "</script>"), ("<style", "</style>"), ("<?", "?>"))
_LABEL = r"\[([^\[\]\n]*+)\]"
_TARGET = r"\((?:<[^<>\n]*+>|[^\s()<>]*+(?:\([^\s()]*+\)[^\s()]*+)*+)"
_TITLE = r"(?:[ \t]++(?:\"[^\"\n]*+\"|'[^'\n]*+'))?\)"

RULES: tuple[Rule, ...] = (
    rule("doctype", r"<!(?:DOCTYPE|doctype)[^<>]*+>|<!\[CDATA\[|\]\]>", ""),
    rule("raised element", r"<sup>(-?\d++|[a-z])</sup>", r"^\1"),
    rule("alias", r"<sub\s++alias=\"([^\"<]*+)\"\s*+>[^<]*+</sub>", r"\1"),
    rule("fence", r"^[ \t]*+(?:`{3,}+|~{3,}+)[ \t]*+[\w+#.-]*+[ \t]*+$", ""),
    rule(
        "link definition",
        r"^ {0,3}\[[^\[\]\n]++\]:[ \t]*+<?(?:[a-z]++:|www\.|[./#])\S*+[ \t]*+"
        r"(?:\"[^\"\n]*+\"|'[^'\n]*+'|\([^()\n]*+\))?[ \t]*+$",
        "",
    ),
    rule("footnote", r"\[\^[\w-]++\]:?", ""),
    rule(
        "formula",
        r"\$\$?+(?=[^\s$\d][^$\n]*+\$)(?=[^$\n]*?[\\^_=+])([^$\n]++)\$\$?+",
        r"\1",
    ),
    rule("image", rf"!{_LABEL}{_TARGET}{_TITLE}", r"\1"),
    rule("labelled link", rf"(?<!\w){_LABEL}{_TARGET}{_TITLE}", r"\1"),
    rule("reference link", r"(?<!\w)\[(?!\d++\])([^\[\]\n]++)\]\[[^\[\]\n]*+\]", r"\1"),
    rule("automatic link", r"<((?:[A-Za-z][A-Za-z0-9+.-]*+:|[\w.+-]++@)[^<>\s]++)>", r"\1"),
    rule("quotation", r"^[ \t]*+>(?![=\d])[> \t]*+", ""),
    rule("task", r"^([ \t]*+(?:[-*+]|\d++[.)])[ \t]++)\[[ xX]\][ \t]++", r"\1"),
    rule(
        "ruler", r"^[ \t]*+(?:={2,}+|-{3,}+|\*{3,}+|_{3,}+|([-*_])(?:[ \t]++\1){2,}+)[ \t]*+$", ""
    ),
    rule("table ruler", r"^(?=[^\n|]*+\|)[ \t|:]*+--[-|: \t]*+$", ""),
    rule("heading", r"^[ \t]*+#{1,6}[ \t]++(?=\S)", ""),
    rule("end of a heading", r"(?<=\S)[ \t]++#{1,6}[ \t]*+$", ""),
    rule("short code", r"(?<![\w:]):[a-z][a-z0-9_+-]++:(?![\w:])", ""),
    rule("struck text", r"~~", ""),
    rule("marked text", r"(?<![\w=!<>])==(?=[^\s=])([^=\n]++)(?<=\S)==(?![\w=])", r"\1"),
    rule("escape", r"\\(?=[*_`#\[\](){}~>!|])", ""),
)


def plain(text: str) -> str:
    """The text that markup is about; text without markup is returned unchanged."""
    for start, end in _HIDDEN:
        text = _without(text, start, end)
    text = rewrite(text, RULES)
    elements = {name.lower() for name in _END_TAG.findall(text)}
    text = _TAG.sub(lambda match: _tag(match, elements), text)
    return re.sub(r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});", _entity, text)


def _without(text: str, start: str, end: str) -> str:
    """The text without what is between two marks; a start without an end stays."""
    kept, position = [], 0
    while (begin := text.find(start, position)) >= 0:
        if (stop := text.find(end, begin)) < 0:
            break
        kept.append(text[position:begin])
        position = stop + len(end)
    return "".join([*kept, text[position:]])


def _tag(match: Match, elements: set[str]) -> str:
    closing, name, attributes, empty = match.groups()
    name = name.lower()
    if name in _BLOCKS:
        return "\n"
    if name == "break" or name in _CELLS:
        return ", " if closing or name == "break" else ""
    known = name in _INLINE or name in elements or ":" in name or "-" in name
    return "" if known or closing or attributes or empty else f" {match[2]} "


def _entity(match: Match) -> str:
    return html.unescape(match[0])
