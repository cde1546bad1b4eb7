"""TX: from written text to the words that are spoken.

Every expected value was written by hand from how English is read aloud and, where several readings
are possible, from the reading that published checkpoints were trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.ledger import Judge
from conformance.profiles import examples
from conformance.prose import PROSE

Stage = Any  # normalize(text) -> str, sentences(text) -> list[str]

EXPLORED = examples(100)
SPOKEN = re.compile(r"[a-z .,!?'-]*")


def readings(identifier: str, table: str) -> Callable[..., None]:
    """Make the test of one law of normalisation from its `written → spoken` pairs."""
    cells = (" ".join(cell.split()) for cell in re.split(r"\n| \| ", table.strip()))
    pairs = [tuple(cell.split(" → ")) for cell in cells]

    @pytest.mark.requirement(identifier)
    @pytest.mark.parametrize(("written", "spoken"), pairs)
    def law(text_stage: Stage, judge: Judge, written: str, spoken: str) -> None:
        judge.equal("normalised text", text_stage.normalize(written), spoken)

    return law


test_integers_are_cardinals_without_and = readings(
    "TX-02",
    """
    0 → zero. | 7 → seven. | 21 → twenty-one. | 99 → ninety-nine. | 110 → one hundred ten.
    1,001 → ten oh one. | 4521 → four thousand, five hundred twenty-one.
    123456 → one hundred twenty-three thousand, four hundred fifty-six. | 1000000 → one million.
    007 → seven. | #12 → number twelve.
    """,
)

test_integers_between_1001_and_2999_are_read_in_pairs = readings(
    "TX-03",
    """
    1000 → one thousand. | 1066 → ten sixty-six. | 1100 → eleven hundred.
    1905 → nineteen oh five. | 1984 → nineteen eighty-four. | 2000 → two thousand.
    2009 → two thousand nine. | 2010 → twenty ten. | 2100 → twenty-one hundred.
    2999 → twenty-nine ninety-nine. | 3000 → three thousand.
    """,
)

test_big_integers_keep_their_value = readings(
    "TX-04",
    """
    10000000000000000000 → ten quintillion. | 100000000000000000000 → one hundred quintillion.
    1000000000000000000000000000000 → one nonillion.
    12345678901234567890 → twelve quintillion, three hundred forty-five quadrillion, six hundred \
    seventy-eight trillion, nine hundred one billion, two hundred thirty-four million, five \
    hundred sixty-seven thousand, eight hundred ninety.
    900000000000000000000000000000000005 → nine hundred decillion five.
    """,
)

test_only_commas_between_thousands_are_part_of_a_number = readings(
    "TX-05",
    """
    4,521 → four thousand, five hundred twenty-one.
    1,234,567 → one million, two hundred thirty-four thousand, five hundred sixty-seven.
    1,00,000 → one hundred thousand. | 1,2,3 → one, two, three.
    4, 8, 15 → four, eight, fifteen.
    """,
)

test_decimals_are_read_digit_by_digit_after_the_point = readings(
    "TX-06",
    """
    3.14159 → three point one four one five nine. | 0.05 → zero point zero five.
    1,234.56 → twelve thirty-four point five six. | a gap of .5 only → a gap of point five only.
    version 3.11.4 → version three point one one point four.
    It is 3.0. → it is three point zero.
    """,
)

test_fractions_and_arithmetic_are_words = readings(
    "TX-07",
    """
    1/2 → one over two. | 3/4 cup → three over four cup. | 2½ → two one over two.
    5 + 3 = 8 → five plus three equals eight. | 2*3 → two times three.
    10 - 4 → ten minus four. | fell to -5 → fell to minus five. | 8 / 2 → eight over two.
    2 * 3 * 4 → two times three times four.
    """,
)

test_ordinals_are_words = readings(
    "TX-08",
    """
    1st → first. | 2nd → second. | 3rd → third. | 12th → twelfth. | 21st → twenty-first.
    100th → one hundredth. | 1,000th → one thousandth. | the 21ST → the twenty-first.
    2nd-floor → second-floor.
    """,
)

test_dates_are_joined_by_dash = readings(
    "TX-09",
    """
    12/31/2024 → twelve dash thirty-one dash twenty twenty-four.
    1/1/2000 → one dash one dash two thousand. | 3/14/15 → three dash fourteen dash fifteen.
    7-4-1976 → seven dash four dash nineteen seventy-six.
    2024-01-15 → twenty twenty-four dash one dash fifteen.
    May 5th, 2025 → may fifth, twenty twenty-five.
    """,
)

test_times_are_read_as_on_a_clock = readings(
    "TX-10",
    """
    8:15 → eight fifteen. | 9:00 → nine o'clock. | 12:00 → twelve o'clock. | 6:05 → six oh five.
    05:00 → five o'clock. | 22:35 → twenty-two thirty-five. | 0:00 → zero.
    13:00 → thirteen minutes. | at 2:15 PM → at two fifteen pm.
    """,
)

test_three_part_times_keep_their_seconds = readings(
    "TX-11",
    """
    1:15:30 → one fifteen thirty. | 2:03:05 → two oh three oh five. | 10:15:00 → ten fifteen.
    1:00:05 → one oh oh oh five. | 1:00:00 → one oh oh. | 0:05:09 → five oh nine.
    0:15:30 → fifteen thirty. | 00:01:00 → one oh oh. | 00:00:42 → forty-two.
    """,
)

test_telephone_numbers_are_read_in_groups = readings(
    "TX-12",
    """
    555-123-4567 → five five five, one two three, four five six seven.
    (555) 123-4567 → five five five, one two three, four five six seven.
    555.010.0199 → five five five, zero one zero, zero one nine nine.
    (555)123-4567 → five five five, one two three, four five six seven.
    1-800-555-0199 → one eight zero zero, five five five, zero one nine nine.
    """,
)

test_dollars_and_cents = readings(
    "TX-13",
    """
    $5 → five dollars. | $1 → one dollar. | $12.50 → twelve dollars, fifty cents.
    $1.01 → one dollar, one cent. | $0.27 → twenty-seven cents. | $100.00 → one hundred dollars.
    $1,500 → fifteen hundred dollars. | $0 → zero dollars. | $2.5 → two dollars, fifty cents.
    $3.459 → three point four five nine dollars.
    $2.5 million → two point five million dollars. | $10M → ten million dollars.
    paid in $ → paid in dollars.
    """,
)

test_every_currency_keeps_its_unit = readings(
    "TX-14",
    """
    £20 → twenty pounds. | £1 → one pound. | £4.50 → four pounds, fifty pence.
    £0.01 → one penny. | £3bn → three billion pounds. | £1,200 → twelve hundred pounds.
    €12 → twelve euros. | 50€ → fifty euros. | €1.20 → one euro, twenty cents.
    ¥900 → nine hundred yen. | ₹5 → five rupees.
    """,
)

test_magnitudes_and_percent_are_words = readings(
    "TX-15",
    """
    10K → ten thousand. | 1.5M users → one point five million users.
    7B people → seven billion people. | 3T → three trillion. | 15% → fifteen percent.
    100 % sure → one hundred percent sure. | ~50 → about fifty.
    """,
)

test_units_are_words = readings(
    "TX-16",
    """
    440 Hz → four hundred forty hertz. | 44.1 kHz → forty-four point one kilohertz.
    3 GHz → three gigahertz. | 5 MB → five megabyte. | 20 GBs → twenty gigabytes.
    20°C → twenty degrees celsius. | 1° more → one degree more. | 6 ft. long → six feet long.
    5 ms. later → five milliseconds later.
    """,
)

test_titles_are_words = readings(
    "TX-17",
    """
    Dr. Smith → doctor smith. | Mr. and Mrs. Jones → mister and misess jones.
    Ms. Ray → miss ray. | St. Paul → saint paul. | Gen. Lee → general lee.
    Lt. Col. Fox → lieutenant colonel fox. | Capt. Roy → captain roy. | Sgt. Oak → sergeant oak.
    King Jr. spoke → king junior spoke. | Ft. Knox → fort knox. | Ltd. firms → limited firms.
    mr. fox → mister fox.
    """,
)

test_weekdays_months_and_short_forms_are_words = readings(
    "TX-18",
    """
    Mon, Tues and Wed → monday, tuesday and wednesday.
    Thurs, Fri, Sat → thursday, friday, saturday. | Jan to Mar → january to march.
    Sept and Dec → september and december. | pens, etc, here → pens, et cetera, here.
    and/or → and or. | 5th Ave → fifth avenue. | two APIs and a CPU → two a p i's and a c p u.
    On Jan. 5 we met → on january five we met.
    """,
)

test_a_stop_of_an_abbreviation_ends_a_sentence_only_where_one_can_end = readings(
    "TX-19",
    """
    Baker & Co. → baker and company. | on Main St. today → on main street today.
    tea, etc. were sold → tea, et cetera were sold. | at 5 p.m. We left → at five p m. we left.
    at 5 p.m. we left → at five p m we left.
    """,
)

test_initials_are_spelt = readings(
    "TX-20",
    """
    the U.S. economy → the u s economy. | the U.S. → the u s. | e.g. apples → e g apples.
    J.K. Rowling → j k rowling.
    """,
)

test_links_are_spelt = readings(
    "TX-21",
    """
    example.com → example dot com. | info@example.org → info at example dot org.
    https://a1.org/b → h t t p s colon slash slash a one dot org slash b.
    http://example.net → h t t p colon slash slash example dot net.
    www.example.com → w w w dot example dot com. | bbc.co.uk → bbc dot co dot uk.
    """,
)

test_words_in_mixed_case_are_parted = readings(
    "TX-22",
    """
    JavaScript → java script. | OpenAI → open a i. | NASA → nasa. | PDFs → pdf's.
    LMDeploy → l m deploy. | iPhone → iphone. | HELLO → hello.
    """,
)

testletters_and_figures_are_parted = readings(
    "TX-23",
    """
    MP3 → mp three. | H2O → h two o. | R2D2 → r two d two. | 23kg → twenty-three kg.
    1990s → nineteen ninety s.
    """,
)

test_symbols_are_words = readings(
    "TX-24",
    """
    R&D → r and d. | a = b → a equals b. | x <= y → x less than or equal to y.
    x >= y → x greater than or equal to y. | x < y → x less than y. | x > y → x greater than y.
    C++ → c plus plus. | yes/no → yes slash no. | C:\\temp → c. backslash temp.
    my_name → my name. | *big* → big.
    """,
)

test_a_hyphen_is_a_minus_only_in_arithmetic = readings(
    "TX-25",
    """
    COVID-19 → covid nineteen. | the F-16 → the f sixteen. | well-known → well-known.
    8-bit → eight-bit. | n-1 → n minus one. | 3-1 → three minus one. | 5–12 → five to twelve.
    2010–2015 → twenty ten to twenty fifteen. | sale - 50% off → sale, fifty percent off.
    I left—2 days later → i left, two days later. | 16:9 → sixteen to nine.
    """,
)

test_dashes_are_pauses_and_quotes_are_silent = readings(
    "TX-26",
    """
    one — two → one, two. | one—two → one, two. | one - two → one, two. | one -- two → one, two.
    “So,” he said → so, he said. | it’s → it's. | «Oui» → oui. | Wait: now; go → wait. now, go.
    """,
)

test_one_pause_at_a_time = readings(
    "TX-27",
    """
    Wait... what? → wait... what? | Wait… → wait... | Hm..... → hm... | No!!! → no!
    What?! → what? | What!? → what? | a,, b → a, b. | a , b → a, b. | ...and so → ...and so.
    Well...! → well...!
    """,
)

test_stretchedletters_are_shortened_and_numerals_are_not = readings(
    "TX-28",
    """
    Soooo good → soo good. | Hmmmm → hmm. | book → book. | Henry III → henry iii.
    XVIII → xviii.
    """,
)

test_brackets_are_pauses = readings(
    "TX-29",
    """
    A dog (brown) ran → a dog, brown, ran. | It works (mostly), yes → it works, mostly, yes.
    See it [here]. → see it, here. | a (b (c) d) e → a, b, c, d, e. | a ) b → a b.
    a ( b → a b. | (s)he → she. | item(s) → items.
    """,
)

test_other_scripts_are_written_in_latinletters = readings(
    "TX-31",
    """
    Café → cafe. | Straße → strasse. | Łódź → lodz. | Привет → privet. | 東京 → dong jing.
    ﬁne → fine. | １２ → twelve. | Hi 👍! → hi! | Cafe\u0301 → cafe. | soft\xadware → software.
    Æsop → aesop. | ¿Qué? → que?
    """,
)


@pytest.mark.requirement("TX-30")
@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Title\nText", "title. text."),
        ("One?\nTwo!", "one? two!"),
        ("One\n\n \nTwo", "one. two."),
        ("- milk\n* eggs", "milk. eggs."),
    ],
)
def test_every_line_ends_a_sentence(
    text_stage: Stage, judge: Judge, written: str, spoken: str
) -> None:
    judge.equal("normalised text", text_stage.normalize(written), spoken)


@pytest.mark.requirement("TX-01")
@EXPLORED
@given(text=st.text())
def test_any_string_gives_speakable_characters(text_stage: Stage, judge: Judge, text: str) -> None:
    spoken = text_stage.normalize(text)
    judge.equal("unspeakable characters", SPOKEN.sub("", spoken), "")


@pytest.mark.requirement("TX-01")
@pytest.mark.parametrize("text", ["\ud800", "\0", "\U0010ffff", "(" * 999, "-" * 999, "9" * 9999])
def test_awkward_strings_give_speakable_characters(
    text_stage: Stage, judge: Judge, text: str
) -> None:
    spoken = text_stage.normalize(text)
    judge.equal("unspeakable characters", SPOKEN.sub("", spoken), "")


@pytest.mark.requirement("TX-04")
@pytest.mark.parametrize("length", [37, 50, 5000])
def test_an_integer_without_a_name_is_read_digit_by_digit(
    text_stage: Stage, judge: Judge, length: int
) -> None:
    spoken = text_stage.normalize("1" + "2" * (length - 1))
    judge.equal("normalised text", spoken, "one" + " two" * (length - 1) + ".")


@pytest.mark.requirement("TX-30")
@pytest.mark.parametrize("space", " \t\xa0\u1680\u2000\u2003\u2007\u2009\u200a\u202f\u205f\u3000")
def test_every_kind_of_space_separates_words(text_stage: Stage, judge: Judge, space: str) -> None:
    judge.equal("normalised text", text_stage.normalize(f"{space}one{space * 2}two"), "one two.")


@pytest.mark.requirement("TX-30")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_every_kind_of_line_end_ends_a_sentence(text_stage: Stage, judge: Judge, end: str) -> None:
    judge.equal("normalised text", text_stage.normalize(f"one{end}two{end}"), "one. two.")


@pytest.mark.requirement("TX-32")
@EXPLORED
@given(text=PROSE)
def test_normalised_text_stays_as_it_is(text_stage: Stage, judge: Judge, text: str) -> None:
    once = text_stage.normalize(text)
    judge.equal("text normalised again", text_stage.normalize(once), once)


@pytest.mark.requirement("TX-33")
@pytest.mark.parametrize(
    "run", ["(", "a.", "1,", "- ", "\t", "aA", "$", "iii", "1.", "http://", "! ", "*", "x" * 99]
)
def test_time_grows_with_length_and_not_its_square(
    text_stage: Stage, judge: Judge, run: str
) -> None:
    def seconds(length: int) -> float:
        started = perf_counter()
        text_stage.normalize(run * (length // len(run)))
        return perf_counter() - started

    seconds(100)  # whatever is loaded on first use
    short = max(0.02, seconds(10_000), seconds(10_000))  # 0.02 s: below it noise is measured
    long = min(seconds(40_000), seconds(40_000))
    judge.below("times as long for four times the text", long / short, 10, wrong=16)  # a square
