"""TX: division of text into the sentences that are prompts."""

import pytest
from hypothesis import given

from conformance.hypothesis_profiles import examples
from conformance.laws.support.text_cases import PROSE, letters

FOX = "the quick brown fox jumps over it"  # 33 characters


@pytest.mark.requirement("TX-34")
@pytest.mark.parametrize("mark", [".", "!", "?", "..."])
def test_sentence_ends_after_its_mark(sentence_stage, judge, mark):
    text = f"{FOX}{mark} {FOX}{mark} {FOX}."
    judge.equal("sentences", sentence_stage.sentences(text), [FOX + mark, FOX + mark, FOX + "."])


@pytest.mark.requirement("TX-34")
def test_commas_numbers_and_abbreviations_end_no_sentence(sentence_stage, judge):
    text = "Mr. Hill paid $3.50, which is 3.5 times 1, to Dr. Lee on Jan. 5."
    expected = (
        "mister hill paid three dollars, fifty cents, which is three point five times one, "
        "to doctor lee on january five."
    )
    judge.equal("sentences", sentence_stage.sentences(text), [expected])


@pytest.mark.requirement("TX-34")
@pytest.mark.parametrize(
    "text",
    [
        "Yesterday in the hall of the old library I met Prof. Hill, who spoke about the war.",
        "In the evenings the author J. R. R. Tolkien was read aloud to the children by the fire.",
        "It is in Fig. 3 and Vol. 2 of the book, as everybody in the room knew well that day.",
        "The old firm of Baker & Co. was sold to Acme Inc. for less than the price of a house.",
        "Everybody in the office opens http://localhost:8080/a?b=c! every morning at nine.",
        "The price rose to 3.5 and then to $4.50, which is 1.234.567 of what was paid before.",
        "He came at 5 p.m. on Jan. 5 with Mr. and Mrs. Hill vs. the U.S. team in the evening.",
    ],
)
def test_abbreviations_initials_and_links_end_no_sentence(sentence_stage, judge, text):
    judge.equal("number of sentences", len(sentence_stage.sentences(text)), 1)


@pytest.mark.requirement("TX-38")
@pytest.mark.parametrize("count", [500, 9000])
def test_sentences_of_any_text_contain_all_of_it(sentence_stage, judge, count):
    words = ["abcdefg"[: i % 7 + 1] for i in range(count)]
    spoken = "".join(sentence_stage.sentences(" ".join(words)))
    judge.equal("letters", letters(spoken), "".join(words))


@pytest.mark.requirement("TX-35")
def test_a_long_sentence_is_cut_after_the_last_word_that_fits(sentence_stage, judge):
    text = " ".join(["word"] * 100)  # 499 characters, 500 with the full stop
    first = " ".join(["word"] * 60)  # 299 characters; the space after it is the 300th
    second = " ".join(["word"] * 40) + "."
    judge.equal("sentences", sentence_stage.sentences(text), [first, second])


LETTERS = "abcdefghijklmnopq" * 18  # 306


@pytest.mark.requirement("TX-35")
@pytest.mark.parametrize(
    "size", [2, 4, 6, 9, 17, 50, 75, 99, 100, 101, 128, 149, 150, 151, 199, 200, 255, 256, 299]
)
def test_no_word_that_fits_is_cut(sentence_stage, judge, size):
    # Words of several sizes, so that a cut at a fixed length falls inside one of them.
    words = [LETTERS[:size]] * max(900 // size, 3)
    sentences = sentence_stage.sentences(" ".join(words))
    judge.equal("words", " ".join(sentences).removesuffix(".").split(" "), words)
    judge.below("characters of the longest", max(map(len, sentences)), 300, wrong=301)


@pytest.mark.requirement("TX-35")
@pytest.mark.parametrize("size", [120, 150, 180, 201, 240, 260, 280, 299])
@pytest.mark.parametrize("before", [1, 7, 30])
def test_a_long_word_among_short_ones_is_not_cut(sentence_stage, judge, size, before):
    words = ["word"] * before + [LETTERS[:size]] + ["word"] * 40 + [LETTERS[:size]]
    spoken = sentence_stage.sentences(" ".join(words))
    judge.equal("words", " ".join(spoken).removesuffix(".").split(" "), words)


@pytest.mark.requirement("TX-35")
def test_word_over_300_characters_is_cut_at_300(sentence_stage, judge):
    word = "ab" * 350
    expected = [word[:300], word[300:600], word[600:] + "."]
    judge.equal("sentences", sentence_stage.sentences(word), expected)


@pytest.mark.requirement("TX-35")
def test_sentence_of_300_characters_is_not_cut(sentence_stage, judge):
    sentence = "abcd " * 58 + "efghi klm."  # 290 and 10
    judge.equal("sentences", sentence_stage.sentences(sentence), [sentence])


@pytest.mark.requirement("TX-35")
@examples(100)
@given(text=PROSE)
def test_no_sentence_exceeds_390_characters(sentence_stage, judge, text):
    longest = max(map(len, sentence_stage.sentences(text * 9)), default=0)
    judge.below("characters of a sentence", longest, 390, wrong=391)


@pytest.mark.requirement("TX-36")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{FOX}. Yes. {FOX}!", [f"{FOX}. yes.", f"{FOX}!"]),
        (f"Yes. {FOX}. {FOX}.", [f"yes. {FOX}.", f"{FOX}."]),
        (f"Yes. No. {FOX}.", [f"yes. no. {FOX}."]),
        (f"{FOX}. Yes. No.", [f"{FOX}. yes. no."]),
        ("Yes.", ["yes."]),
        ("Yes. No.", ["yes. no."]),
    ],
)
def test_short_sentence_is_merged_with_the_one_before_or_the_next(
    sentence_stage, judge, text, expected
):
    judge.equal("sentences", sentence_stage.sentences(text), expected)


@pytest.mark.requirement("TX-36")
@pytest.mark.parametrize(("length", "count"), [(28, 1), (29, 2)])
def test_sentence_of_30_characters_is_not_merged(sentence_stage, judge, length, count):
    text = f"{FOX}. {'abcdefgh ijklmnop qrstuvwx yzab'[:length]}."
    judge.equal("number of sentences", len(sentence_stage.sentences(text)), count)


@pytest.mark.requirement("TX-36")
def test_merged_sentences_do_not_exceed_390_characters(sentence_stage, judge):
    sentences = sentence_stage.sentences(f"{FOX}. " + "Yes. No. " * 100)
    judge.equal("words of all sentences", sum(map(len, map(str.split, sentences))), 207)
    judge.below("characters of the longest", max(map(len, sentences)), 390, wrong=391)


@pytest.mark.requirement("TX-37")
@pytest.mark.parametrize(
    "text", ["", " ", "\n\t\n", ".", "?!", "...", "—", "--", "()", '"', "'", "👍"]
)
def test_text_without_letter_or_digit_gives_no_sentences(sentence_stage, judge, text):
    judge.equal("sentences", sentence_stage.sentences(text), [])


@pytest.mark.requirement("TX-38")
@examples(100)
@given(text=PROSE)
def test_sentences_contain_exactly_the_letters_of_the_text(sentence_stage, judge, text):
    normalised = sentence_stage.normalize(text * 9)
    judge.equal(
        "letters", letters("".join(sentence_stage.sentences(text * 9))), letters(normalised)
    )
