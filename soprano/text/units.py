"""Rules for units of measure after a number, from one table."""

from __future__ import annotations

import re

from soprano.text.numbers import NUMBER
from soprano.text.rules import DIGITS, Match, before, ends_sentence, names, needing, rule, table

PREFIXES = table(
    "P = peta | T = tera | G = giga | M = mega | k = kilo | h = hecto | d = deci | c = centi | "
    "m = milli | µ = micro | u = micro | n = nano | p = pico"
)
# Units with the prefixes that they may have. "!" marks those that need one.
_BASES = table("""
m = meter, kdcmµun | g = gram, kmµun | s = second, mµnp | l = liter, hdcmµu | L = liter, hdcmµu
A = amp, kmµun | V = volt, Mkmµun | W = watt, TGMkmµun | Wh = watt hour, TGMk | Ah = amp hour, km
!VA = volt amp, kM | eV = electronvolt, GMkT | J = joule, GMkm | N = newton, kMm | Pa = pascal, GMkh
bar = bar, m | Hz = hertz, TGMkm | !F = farad, mµunp | !H = henry, mµun | ohm = ohm, GMkmµ
mol = mole, kmµun | cal = calorie, k | !B = byte, PTGMk | bit = bit, TGMk | !b = bit, TGM
bps = bit per second, TGMk | !Bps = byte per second, TGMk | Bq = becquerel, TGMk | Gy = gray, mµ
Sv = sievert, mµun
!S = siemens, mµ | T = tesla, mµ | lm = lumen, k | lx = lux, k | !pc = parsec, kMG
!Da = dalton, k | Nm = newton meter, km | K = kelvin, m | !M = molar, mµun
""")
_OTHER = table("""
min = minute | mins = minute | h = hour | hr = hour | hrs = hour | sec = second | secs = second
wk = week | wks = week | mos = month | yr = year | yrs = year | in = inch | ft = foot | yd = yard
yds = yard | mi = mile | nmi = nautical mile | lb = pound | lbs = pound | oz = ounce
floz = fluid ounce | gal = gallon | qt = quart | tsp = teaspoon | tbsp = tablespoon | ha = hectare
t = ton | mph = mile per hour | kph = kilometer per hour | kmh = kilometer per hour
kmph = kilometer per hour | mpg = mile per gallon | kn = knot | kt = knot | kts = knot
rpm = revolution per minute | bpm = beat per minute | fps = frame per second | hp = horsepower
psi = pound per square inch | ppm = part per million | ppb = part per billion | dpi = dot per inch
ppi = pixel per inch | px = pixel | MP = megapixel | dB = decibel | dBA = decibel
mmHg = millimeter of mercury | cc = cubic centimeter | atm = atmosphere | µ = micron
KB = kilobyte | kb = kilobyte | mb = megabyte | gb = gigabyte | tb = terabyte
kbps = kilobit per second | mbps = megabit per second | gbps = gigabit per second
rad = radian | KiB = kibibyte | MiB = mebibyte | GiB = gibibyte | TiB = tebibyte
""")
_PLURALS = table(
    "foot = feet | inch = inches | hertz = hertz | lux = lux | siemens = siemens | bar = bar | "
    "henry = henries | horsepower = horsepower | kelvin = kelvin | molar = molar | tesla = tesla"
)
# Written in any case.
_ANY_CASE = names(
    "cc cm db ft ghz hr hrs hz kb kbps kg khz km kph kwh lb lbs mg mhz mi min mins ml mm mph oz "
    "psi rpm sec secs tbsp tsp yd"
)
# After a slash, besides units.
_PERIODS = table(
    "d = day | day = day | wk = week | week = week | mo = month | month = month | year = year | "
    "hour = hour | minute = minute | second = second | night = night | person = person | "
    "capita = capita | head = head | unit = unit | mile = mile | acre = acre"
)
_LENGTHS = ("meter", "inch", "foot", "yard", "mile")  # ends of their names
_DENOMINATOR = re.compile(r"/(?:(\d+) )?([A-Za-zµ]+)(?:\^?-?(\d))?")
_POWERS = {"2": ("square", "squared"), "3": ("cubic", "cubed")}
SCALES = table("C = celsius | F = fahrenheit | N = north | S = south | E = east | W = west")


def _names() -> dict[str, str]:
    known = {}
    for symbol, entry in _BASES.items():
        name, prefixes = entry.split(", ")
        bare = symbol.strip("!")
        if bare == symbol:
            known[symbol] = name
        known |= {prefix + bare: PREFIXES[prefix] + name for prefix in prefixes}
    known = {symbol: re.sub("[ao]ohm", "ohm", name) for symbol, name in known.items()}
    return {**known, **_OTHER}


UNITS = _names()


def plural(name: str) -> str:
    """The plural of a unit: "mile per hour" is "miles per hour"."""
    head, *rest = re.split("(?= (?:per|of) )", name)
    for one, many in _PLURALS.items():
        if head.endswith(one):
            return "".join([head.removesuffix(one), many, *rest])
    return "".join([f"{head}s", *rest])


def unit_name(symbol: str) -> str | None:
    lower = symbol.lower()
    if known := UNITS.get(symbol) or (UNITS.get(lower) if lower in _ANY_CASE else None):
        return known
    return UNITS.get(symbol[:-1]) if len(symbol) > 2 and symbol[-1] == "s" else None


def per(denominators: str) -> str | None:
    """Words of "/h" or "/kg/day"; None if one is no unit."""
    words = ""
    for number, symbol, power in _DENOMINATOR.findall(denominators):
        name = _PERIODS.get(symbol) or unit_name(symbol)
        if name is None or (power and power not in _POWERS):
            return None
        if power:
            square, squared = _POWERS[power]
            name = f"{square} {name}" if name.endswith(_LENGTHS) else f"{name} {squared}"
        words += f" per {number} {plural(name)}" if number else f" per {name}"
    return words


def _fits(match: Match) -> bool:
    """Whether a symbol that may be a word or a letter is a unit here."""
    number, gap, symbol = match.group("number", "gap", "unit")
    if symbol == "in":
        feet = re.search(r"(?:ft|feet|foot)\.? $", before(match, 8))
        return bool(
            feet or (match["stop"] and not ends_sentence(match)) or match["power"] or match["per"]
        )
    if len(symbol) > 1:
        return True
    if number.isalpha():
        return False
    if symbol in "mglLhVWµ":
        return True
    if gap == "-":
        return False
    if "." in number or match["per"] or match["power"]:
        return True
    if symbol == "A":  # beside volts or watts
        return bool(re.search(r"\d ?[kmM]?[VW]\b", before(match)))
    return (gap == " " and symbol in "NJKst") or (
        symbol == "s" and number != "1" and len(number) < 3
    )


def _unit(match: Match) -> str:
    number, gap, symbol, power = match.group("number", "gap", "unit", "power")
    name = unit_name(symbol.replace(" ", "").replace(".", ""))
    denominators = match["per"] or ""
    area = {"s": "2", "c": "3"}.get((match["kind"] or "")[:1])  # square, cubic
    power = area or (power or "").lstrip("^")
    if name is None or (power and not name.endswith(_LENGTHS)) or not _fits(match):
        return match[0]
    words = per(denominators)
    if power:
        name = f"{_POWERS[power][0]} {name}"
    adjective = gap == "-" or re.search(r"(?:^| )[Aa]n? $", before(match, 4))
    if not adjective and number != "1":
        name = plural(name)
    stop = "." if match["stop"] and ends_sentence(match) else ""
    return f"{number}{gap or ' '}{name}{denominators if words is None else words}{stop}"


def _things(match: Match) -> str:
    """A rate of things: "60 beats/min"."""
    words = per(f"/{match[2]}")
    return match[1] + words if words and match[2] not in ("m", "g", "l", "L") else match[0]


def _degrees(match: Match) -> str:
    one, scale = match.groups()
    return f"{'1 degree' if one else ' degrees'}{f' {SCALES[scale]}' if scale else ''} "


def _bare_power(match: Match) -> str:
    """An area or a volume without a number: "per m²", "in km²"."""
    name = f"{_POWERS[match[3]][0]} {UNITS[match[2]]}"
    return f"{match[1]}{name if match[1] in ('per ', 'a ', '/') else plural(name)}"


def _rate(match: Match) -> str:
    name = unit_name(match[1]) if len(match[1]) > 1 or match[1] in "mglLhs" else None
    return f"per {name}" if name else match[0]


_UNIT = (
    r"(?P<gap>[ -]?)(?P<kind>(?:sq\.?|cu\.?|square|cubic) )?(?P<unit>fl\.? ?oz|[A-Za-zµ]{1,5})"
    r"(?P<power>\^?[23](?!\d))?(?P<per>(?:/(?:\d{1,3} )?[A-Za-zµ]++(?:\^-?\d)?)*+)"
    r"(?P<stop>\.(?!\.))?(?!\w)"
)

RULES = needing(
    DIGITS,
    rule("degrees", r"((?<![\d.,])1)? ?°(?: ?([CFNSEW])\b)?", _degrees),
    rule("unit", rf"(?:(?<![\w.,^])|(?<=\d\^)|(?<=\d\^-))(?P<number>{NUMBER}){_UNIT}", _unit),
    rule("unit of many", rf"\b(?P<number>hundred|thousand|(?:m|b|tr)illion)(?<!\d){_UNIT}", _unit),
    rule(
        "area or volume",
        r"(per |in |of |a |/|\(|\b(?!m\b))(mm|cm|m|km|ft|mi)\^([23])(?!\w)",
        _bare_power,
    ),
)

RATE_RULES = (
    rule("rate of things", r"(?<=\d )([a-z]{3,})/([A-Za-z]{1,6})\b", _things),
    rule("rate", r"\bper ([A-Za-zµ]{1,5})\b(?!\^)", _rate),
)
