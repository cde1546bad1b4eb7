"""Rules for money: every currency sign of Unicode, and the codes of common currencies."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from soprano.text.numbers import MAGNITUDES, NUMBER
from soprano.text.rules import DIGITS, Match, any_of, needing, rule, table
from soprano.text.units import per


class Currency(NamedTuple):
    one: str
    many: str
    hundredth: str = ""  # none: amounts are read with "point"
    hundredths: str = ""


# Sign or code = one unit, several, one hundredth, several.
_TABLE = """
$ = dollar, dollars, cent, cents | £ = pound, pounds, penny, pence | € = euro, euros, cent, cents
¥ = yen, yen, sen, sen | ₹ = rupee, rupees, paisa, paise | ₽ = ruble, rubles, kopek, kopeks
₩ = won, won | ₿ = bitcoin, bitcoins | ₺ = lira, lira, kurush, kurush | ฿ = baht, baht
₴ = hryvnia, hryvnias, kopek, kopeks | ₦ = naira, naira, kobo, kobo | ₫ = dong, dong
₱ = peso, pesos, centavo, centavos | ₪ = shekel, shekels, agora, agorot | ₡ = colon, colones
₲ = guarani, guaranies | ₵ = cedi, cedis, pesewa, pesewas | ₸ = tenge, tenge | ₾ = lari, lari
₼ = manat, manat | ₭ = kip, kip | ₮ = tugrik, tugriks | ₣ = franc, francs, centime, centimes
₤ = lira, lire | ₧ = peseta, pesetas | ₨ = rupee, rupees, paisa, paise | ﷼ = rial, rials
¢ = cent, cents | ₥ = mill, mills | ¤ = unit, units | ₠ = euro, euros | ៛ = riel, riels
৳ = taka, taka
USD = US dollar, US dollars, cent, cents | EUR = euro, euros, cent, cents
GBP = pound, pounds, penny, pence | JPY = yen, yen, sen, sen | CNY = yuan, yuan
RMB = yuan, yuan | INR = rupee, rupees, paisa, paise | RUB = ruble, rubles, kopek, kopeks
CHF = swiss franc, swiss francs, centime, centimes | KRW = won, won
CAD = canadian dollar, canadian dollars, cent, cents
AUD = australian dollar, australian dollars, cent, cents
NZD = new zealand dollar, new zealand dollars, cent, cents
HKD = hong kong dollar, hong kong dollars, cent, cents
SGD = singapore dollar, singapore dollars, cent, cents
TWD = taiwan dollar, taiwan dollars, cent, cents
SEK = swedish krona, swedish kronor, ore, ore | NOK = norwegian krone, norwegian kroner, ore, ore
DKK = danish krone, danish kroner, ore, ore | PLN = zloty, zlotys, grosz, groszy
CZK = czech crown, czech crowns | HUF = forint, forints | TRY = lira, lira, kurush, kurush
BRL = real, reais, centavo, centavos | MXN = mexican peso, mexican pesos, centavo, centavos
ZAR = rand, rand, cent, cents | THB = baht, baht | IDR = rupiah, rupiah | MYR = ringgit, ringgit
PHP = peso, pesos, centavo, centavos | VND = dong, dong | ILS = shekel, shekels, agora, agorot
AED = dirham, dirhams | SAR = riyal, riyals | NGN = naira, naira, kobo, kobo
Rs = rupee, rupees, paisa, paise | kr = krone, kroner | zl = zloty, zlotys, grosz, groszy
UAH = hryvnia, hryvnias, kopek, kopeks | BTC = bitcoin, bitcoins | ETH = ether, ether
"""
_DOLLARS = {
    "A": "AUD", "AU": "AUD", "C": "CAD", "CA": "CAD", "HK": "HKD", "NZ": "NZD", "NT": "TWD",
    "S": "SGD", "R": "BRL", "MX": "MXN",
}  # fmt: skip


def _currencies() -> dict[str, Currency]:
    entries = table(_TABLE).items()
    known = {key: Currency(*map(str.strip, names.split(","))) for key, names in entries}
    for sign in map(chr, range(0x80, 0x20D0)):
        if unicodedata.category(sign) == "Sc" and sign not in known:
            name = re.sub(" (SIGN|MARK)$|^.* SYMBOL ", "", unicodedata.name(sign)).lower()
            known[sign] = Currency(name, f"{name}s")
    return known


CURRENCIES = _currencies()
SIGNS = "".join(name for name in CURRENCIES if len(name) == 1)
SIGN = f"[{SIGNS}]"
_CODE = rf"(?:{any_of(name for name in CURRENCIES if len(name) > 1)})"
_SYMBOL = f"(?P<symbol>{SIGN})"
_AMOUNT = rf"(?P<amount>\.\d++|{NUMBER})"
_MAGNITUDE = (
    r"(?P<magnitude>(?i:[kmbt]n?\b| [mbt]n\b|[ -]?(?:hundred|thousand|(?:m|b|tr)illion)\b))?"
)
_PER = r"(?P<per>/[A-Za-zµ]++)?"


def _count(amount: str, one: str, many: str) -> str:
    return f"{amount} {one if amount == '1' else many}"


def amount(number: str, magnitude: str | None, currency: Currency) -> str:
    """Words around the digits of a sum."""
    one, many, one_hundredth, hundredths = currency
    if magnitude:
        magnitude = magnitude.strip(" -").lower()
        return f"{number} {MAGNITUDES.get(magnitude.removesuffix('n'), magnitude)} {many}"
    whole, _, part = number.partition(".")
    whole = whole.lstrip("0")
    if part and (len(part) > 2 or not hundredths):
        return f"{whole or '0'}.{part} {many}"
    part = part.ljust(2, "0").lstrip("0")
    units = [_count(whole, one, many)] if whole else []
    units += [_count(part, one_hundredth, hundredths)] if part else []
    return ", ".join(units) or f"0 {many}"


def _money(match: Match) -> str:
    parts = match.groupdict()
    code = parts.get("after") or _DOLLARS.get(parts.get("country") or "")
    spoken = amount(match["amount"], match["magnitude"], CURRENCIES[code or match["symbol"]])
    return spoken + _rate(match["per"] or "")


def _foreign(match: Match) -> str:
    spoken = amount(match["amount"], match["magnitude"], CURRENCIES[match["code"]])
    return spoken + _rate(match["per"] or "")


def _rate(denominators: str) -> str:
    words = per(denominators)
    return denominators if words is None else words


def _lone(match: Match) -> str:
    return f" {CURRENCIES[match[1]].many}"


RULES = needing(
    DIGITS,
    rule("sign before a sum", rf"({SIGN})-(?=\.?\d)", r"-\1"),
    rule(
        "money",
        rf"(?:(?<![A-Za-z])(?P<country>{any_of(_DOLLARS)})(?=\$))?{_SYMBOL} ?{_AMOUNT}{_MAGNITUDE}"
        rf"(?: ?(?P<after>{_CODE})\b)?{_PER}",
        _money,
    ),
    rule(
        "money, symbol last",
        rf"(?<![\d.,])(?P<amount>{NUMBER}){_MAGNITUDE} ?{_SYMBOL}{_PER}",
        _money,
    ),
    rule("code before a sum", rf"\b(?P<code>{_CODE})\.? ?{_AMOUNT}{_MAGNITUDE}{_PER}", _foreign),
    rule(
        "code after a sum",
        rf"(?<![\w.,])(?P<amount>{NUMBER}){_MAGNITUDE} ?(?P<code>{_CODE})\b{_PER}",
        _foreign,
    ),
)

# After all rules for numbers.
LONE_RULES = (rule("currency", rf"({SIGN})(?!\w)", _lone),)
