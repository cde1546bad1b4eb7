"""TX: normalisation of text; numbers are in test_text_numbers.py."""

import re
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.hypothesis_profiles import examples
from conformance.laws.text_cases import PROSE, law_from_table

CHARACTERS = re.compile(r"[a-z .,!?'-]*")


test_titles_are_read_as_words = law_from_table(
    "TX-17",
    """
    Dr. Smith → doctor smith. | Mr. and Mrs. Jones → mister and misess jones.
    Ms. Ray → miss ray. | St. Paul → saint paul. | Gen. Lee → general lee.
    Lt. Col. Fox → lieutenant colonel fox. | Capt. Roy → captain roy. | Sgt. Oak → sergeant oak.
    King Jr. spoke → king junior spoke. | Ft. Knox → fort knox. | Ltd. firms → limited firms.
    mr. fox → mister fox.
    """,
)

test_weekdays_months_and_short_forms_are_read_as_words = law_from_table(
    "TX-18",
    """
    Mon, Tues and Wed → monday, tuesday and wednesday.
    Thurs, Fri, Sat → thursday, friday, saturday. | Jan to Mar → january to march.
    Sept and Dec → september and december. | pens, etc, here → pens, et cetera, here.
    and/or → and or. | 5th Ave → fifth avenue. | two APIs and a CPU → two a p i's and a c p u.
    On Jan. 5 we met → on january five we met.
    """,
)

test_full_stop_of_an_abbreviation_ends_a_sentence_only_where_one_can_end = law_from_table(
    "TX-19",
    """
    Baker & Co. → baker and company. | on Main St. today → on main street today.
    tea, etc. were sold → tea, et cetera were sold. | at 5 p.m. We left → at five p m. we left.
    at 5 p.m. we left → at five p m we left.
    """,
)

test_initials_are_read_letter_by_letter = law_from_table(
    "TX-20",
    """
    the U.S. economy → the u s economy. | the U.S. → the u s. | e.g. apples → e g apples.
    J.K. Rowling → j k rowling.
    """,
)

test_links_are_read_as_words = law_from_table(
    "TX-21",
    """
    example.com → example dot com. | info@example.org → info at example dot org.
    https://a1.org/b → h t t p s colon slash slash a one dot org slash b.
    http://example.net → h t t p colon slash slash example dot net.
    www.example.com → w w w dot example dot com. | bbc.co.uk → bbc dot co dot uk.
    """,
)

test_words_in_mixed_case_are_split_at_capitals = law_from_table(
    "TX-22",
    """
    JavaScript → java script. | OpenAI → open a i. | NASA → nasa. | PDFs → pdf's.
    LMDeploy → l m deploy. | iPhone → iphone. | HELLO → hello.
    """,
)

test_symbols_are_read_as_words = law_from_table(
    "TX-24",
    """
    R&D → r and d. | a = b → a equals b. | x <= y → x less than or equal to y.
    x >= y → x greater than or equal to y. | x < y → x less than y. | x > y → x greater than y.
    C++ → c plus plus. | yes/no → yes slash no. | C:\\temp → c. backslash temp.
    my_name → my name. | *big* → big.
    """,
)

test_dashes_become_pauses_and_quotation_marks_are_removed = law_from_table(
    "TX-26",
    """
    one — two → one, two. | one—two → one, two. | one - two → one, two. | one -- two → one, two.
    “So,” he said → so, he said. | it’s → it's. | «Oui» → oui. | Wait: now; go → wait. now, go.
    """,
)

test_adjacent_pauses_become_the_strongest = law_from_table(
    "TX-27",
    """
    Wait... what? → wait... what? | Wait… → wait... | Hm..... → hm... | No!!! → no!
    What?! → what? | What!? → what? | a,, b → a, b. | a , b → a, b. | ...and so → ...and so.
    Well...! → well...!
    """,
)

test_repeated_letters_are_reduced_except_in_roman_numerals = law_from_table(
    "TX-28",
    """
    Soooo good → soo good. | Hmmmm → hmm. | book → book. | Henry III → henry iii.
    XVIII → xviii.
    """,
)

test_brackets_become_commas = law_from_table(
    "TX-29",
    """
    A dog (brown) ran → a dog, brown, ran. | It works (mostly), yes → it works, mostly, yes.
    See it [here]. → see it, here. | a (b (c) d) e → a, b, c, d, e. | a ) b → a b.
    a ( b → a b. | (s)he → she. | item(s) → items.
    """,
)

test_other_scripts_are_transliterated = law_from_table(
    "TX-31",
    """
    Café → cafe. | Straße → strasse. | Łódź → lodz. | Привет → privet. | 東京 → dong jing.
    ﬁne → fine. | １２ → twelve. | Hi 👍! → hi! | Cafe\u0301 → cafe. | soft\xadware → software.
    Æsop → aesop. | ¿Qué? → que?
    """,
)


@pytest.mark.requirement("TX-30")
@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("Title\nText", "title. text."),
        ("One?\nTwo!", "one? two!"),
        ("One\n\n \nTwo", "one. two."),
        ("- milk\n* eggs", "milk. eggs."),
    ],
)
def test_every_line_ends_a_sentence(text_stage, judge, text, normalised):
    judge.equal("normalised text", text_stage.normalize(text), normalised)


@pytest.mark.requirement("TX-01")
@examples(100)
@given(text=st.text())
def test_any_string_becomes_letters_spaces_and_punctuation(text_stage, judge, text):
    normalised = text_stage.normalize(text)
    judge.equal("other characters", CHARACTERS.sub("", normalised), "")


@pytest.mark.requirement("TX-01")
@pytest.mark.parametrize("text", ["\ud800", "\0", "\U0010ffff", "(" * 999, "-" * 999, "9" * 9999])
def test_extreme_strings_become_letters_spaces_and_punctuation(text_stage, judge, text):
    normalised = text_stage.normalize(text)
    judge.equal("other characters", CHARACTERS.sub("", normalised), "")


@pytest.mark.requirement("TX-04")
@pytest.mark.parametrize("length", [37, 50, 5000])
def test_integer_of_more_than_36_digits_is_read_digit_by_digit(text_stage, judge, length):
    normalised = text_stage.normalize("1" + "2" * (length - 1))
    judge.equal("normalised text", normalised, "one" + " two" * (length - 1) + ".")


@pytest.mark.requirement("TX-30")
@pytest.mark.parametrize("space", " \t\xa0\u1680\u2000\u2003\u2007\u2009\u200a\u202f\u205f\u3000")
def test_every_kind_of_space_separates_words(text_stage, judge, space):
    judge.equal("normalised text", text_stage.normalize(f"{space}one{space * 2}two"), "one two.")


@pytest.mark.requirement("TX-30")
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\v", "\f", "\x85", "\u2028", "\u2029"])
def test_every_kind_of_line_end_ends_a_sentence(text_stage, judge, end):
    judge.equal("normalised text", text_stage.normalize(f"one{end}two{end}"), "one. two.")


@pytest.mark.requirement("TX-32")
@examples(100)
@given(text=PROSE)
def test_normalising_normalised_text_changes_nothing(text_stage, judge, text):
    once = text_stage.normalize(text)
    judge.equal("text normalised again", text_stage.normalize(once), once)


@pytest.mark.requirement("TX-33")
@pytest.mark.parametrize(
    "run", ["(", "a.", "1,", "- ", "\t", "aA", "$", "iii", "1.", "http://", "! ", "*", "x" * 99]
)
def test_normalisation_takes_time_in_proportion_to_length(text_stage, judge, run):
    def seconds(length):
        started = process_time()
        text_stage.normalize(run * (length // len(run)))
        return process_time() - started

    seconds(100)  # loads what is loaded on first use
    short = max(0.02, seconds(10_000), seconds(10_000))  # below 0.02 s the clock is too coarse
    long = min(seconds(40_000), seconds(40_000))
    judge.below("time for four times the text", long / short, 10, wrong=16)  # quadratic: 16
