"""TX: from spoken words to the sentences that are prompts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples
from conformance.laws.text_strategies import PROSE, letters

Stage = Any  # normalize(text) -> str, sentences(text) -> list[str]

EXPLORED = examples(100)
FOX = "the quick brown fox jumps over it"  # 33 characters


@pytest.mark.requirement("TX-34")
@pytest.mark.parametrize("mark", [".", "!", "?", "..."])
def test_a_sentence_ends_at_its_mark(text_stage: Stage, judge: Judge, mark: str) -> None:
    text = f"{FOX}{mark} {FOX}{mark} {FOX}."
    judge.equal("pieces", text_stage.sentences(text), [FOX + mark, FOX + mark, FOX + "."])


@pytest.mark.requirement("TX-34")
def test_commas_and_numbers_end_no_sentence(text_stage: Stage, judge: Judge) -> None:
    text = "Mr. Hill paid $3.50, which is 3.5 times 1, to Dr. Lee on Jan. 5."
    expected = (
        "mister hill paid three dollars, fifty cents, which is three point five times one, "
        "to doctor lee on january five."
    )
    judge.equal("pieces", text_stage.sentences(text), [expected])


@pytest.mark.requirement("TX-35")
def test_a_long_sentence_is_cut_after_the_last_word_that_fits(
    text_stage: Stage, judge: Judge
) -> None:
    text = " ".join(["word"] * 100)  # 499 characters, 500 with the full stop
    first = " ".join(["word"] * 60)  # 299 characters; the space after it is the 300th
    second = " ".join(["word"] * 40) + "."
    judge.equal("pieces", text_stage.sentences(text), [first, second])


@pytest.mark.requirement("TX-35")
@pytest.mark.parametrize("size", [2, 4, 6, 9, 17])
def test_no_word_that_fits_is_cut(text_stage: Stage, judge: Judge, size: int) -> None:
    # Words of several sizes, so that a cut at a fixed length falls inside one of them.
    words = ["abcdefghijklmnopq"[:size]] * (900 // size)
    pieces = text_stage.sentences(" ".join(words))
    judge.equal("words", " ".join(pieces).removesuffix(".").split(" "), words)
    judge.below("characters of the longest", max(map(len, pieces)), 300, wrong=301)


@pytest.mark.requirement("TX-35")
def test_a_word_longer_than_a_piece_is_cut(text_stage: Stage, judge: Judge) -> None:
    word = "ab" * 350
    expected = [word[:300], word[300:600], word[600:] + "."]
    judge.equal("pieces", text_stage.sentences(word), expected)


@pytest.mark.requirement("TX-35")
def test_three_hundred_characters_are_one_piece(text_stage: Stage, judge: Judge) -> None:
    sentence = "abcd " * 58 + "efghi klm."  # 290 and 10
    judge.equal("pieces", text_stage.sentences(sentence), [sentence])


@pytest.mark.requirement("TX-35")
@EXPLORED
@given(text=PROSE)
def test_no_piece_outgrows_a_prompt(text_stage: Stage, judge: Judge, text: str) -> None:
    longest = max(map(len, text_stage.sentences(text * 9)), default=0)
    judge.below("characters of a piece", longest, 390, wrong=391)


@pytest.mark.requirement("TX-36")
@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (f"{FOX}. Yes. {FOX}!", [f"{FOX}. yes.", f"{FOX}!"]),
        (f"Yes. {FOX}. {FOX}.", [f"yes. {FOX}.", f"{FOX}."]),
        (f"Yes. No. {FOX}.", [f"yes. no. {FOX}."]),
        (f"{FOX}. Yes. No.", [f"{FOX}. yes. no."]),
        ("Yes.", ["yes."]),
        ("Yes. No.", ["yes. no."]),
    ],
)
def test_a_short_piece_joins_a_neighbour(
    text_stage: Stage, judge: Judge, text: str, pieces: list[str]
) -> None:
    judge.equal("pieces", text_stage.sentences(text), pieces)


@pytest.mark.requirement("TX-36")
@pytest.mark.parametrize(("length", "count"), [(28, 1), (29, 2)])
def test_thirty_characters_stand_alone(
    text_stage: Stage, judge: Judge, length: int, count: int
) -> None:
    text = f"{FOX}. {'abcdefgh ijklmnop qrstuvwx yzab'[:length]}."
    judge.equal("number of pieces", len(text_stage.sentences(text)), count)


@pytest.mark.requirement("TX-36")
def test_many_short_sentences_are_several_prompts(text_stage: Stage, judge: Judge) -> None:
    pieces = text_stage.sentences(f"{FOX}. " + "Yes. No. " * 100)
    judge.equal("sentences of all pieces", sum(map(len, map(str.split, pieces))), 207)
    judge.below("characters of the longest", max(map(len, pieces)), 390, wrong=391)


@pytest.mark.requirement("TX-37")
@pytest.mark.parametrize(
    "text", ["", " ", "\n\t\n", ".", "?!", "...", "—", "--", "()", '"', "'", "👍"]
)
def test_nothing_to_say_gives_no_piece(text_stage: Stage, judge: Judge, text: str) -> None:
    judge.equal("pieces", text_stage.sentences(text), [])


@pytest.mark.requirement("TX-38")
@EXPLORED
@given(text=PROSE)
def test_pieces_say_what_the_text_says(text_stage: Stage, judge: Judge, text: str) -> None:
    spoken = text_stage.normalize(text * 9)
    judge.equal("letters", letters("".join(text_stage.sentences(text * 9))), letters(spoken))
