"""TX: from written text to the words that are spoken; figures are in test_figures.py."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from conformance.laws.text_strategies import PROSE
from conformance.laws.text_tables import Stage, readings

EXPLORED = examples(100)
SPOKEN = re.compile(r"[a-z .,!?'-]*")


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

test_symbols_are_words = readings(
    "TX-24",
    """
    R&D → r and d. | a = b → a equals b. | x <= y → x less than or equal to y.
    x >= y → x greater than or equal to y. | x < y → x less than y. | x > y → x greater than y.
    C++ → c plus plus. | yes/no → yes slash no. | C:\\temp → c. backslash temp.
    my_name → my name. | *big* → big.
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

test_stretched_letters_are_shortened_and_numerals_are_not = readings(
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

test_other_scripts_are_written_in_latin_letters = readings(
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
        started = process_time()
        text_stage.normalize(run * (length // len(run)))
        return process_time() - started

    seconds(100)  # whatever is loaded on first use
    short = max(0.02, seconds(10_000), seconds(10_000))  # 0.02 s: below it noise is measured
    long = min(seconds(40_000), seconds(40_000))
    judge.below("times as long for four times the text", long / short, 10, wrong=16)  # a square
