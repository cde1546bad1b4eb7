"""TX: what holds for every text: its characters, its parts, its length, the time it takes."""

import re
import unicodedata
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.hypothesis_profiles import examples
from conformance.judging.skips import NotDeclared
from conformance.laws.support.text_cases import PROSE

CHARACTERS = re.compile(r"[a-z .,!?'-]*")
BLOCK = 128  # characters; every block of Unicode begins at a multiple of 16 and most at one of 128
PLANES = [range(first, first + 0x4000, BLOCK) for first in range(0, 0x24000, 0x4000)]
REST = [*range(0x30000, 0x31400, 0x400), *range(0xE0000, 0xE0200, BLOCK), 0xF0000, 0x10FF80]
# Between two words, each of these has lost what came after it in some implementation.
SEPARATORS = [
    "\0", "\0\0", "\x1a", "\u200d", "\u200c", "\u200b", "\u2060", "\ufeff", "\u00ad", "\ufe0f",
    "\u0301", "\u20e3", "\U0001f3fd", "\U000e0061", "\U0001f1fa", "\u202e", "\ud800", "\ufffd",
    "\ufffe", "\U0010ffff", " https://a.org\n", " www.a.org\n\n", " me@a.org\r\n", " a.org/b\n",
    "](", "[a](", "<", "<a", "<!--", "&", "&#", "```\n", "$$", "{%", "\\", "%s", "'", '"', "(",
]  # fmt: skip


def characters(block, size=BLOCK):
    return "".join(map(chr, range(block, block + size)))


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


@pytest.mark.requirement("TX-61")
@pytest.mark.parametrize("blocks", [*PLANES, REST], ids=lambda blocks: f"{blocks[0]:05X}")
def test_text_around_any_character_is_read(text_stage, judge, blocks):
    # A port is asked once for each 128 characters, and only where it fails for each of them.
    with judge.together():
        for block in blocks:
            normalised = text_stage.normalize(f"alpha {characters(block)} omega")
            ends = normalised[:5], normalised[-6:]
            judge.equal(f"words around U+{block:04X} and the next", ends, ("alpha", "omega."))


@pytest.mark.requirement("TX-61")
@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_text_after_a_separator_is_read(text_stage, judge, separator):
    normalised = text_stage.normalize(f"alpha{separator}beta. Gamma delta")
    found = re.findall("alpha|beta|gamma|delta", normalised)
    judge.equal("words", found, ["alpha", "beta", "gamma", "delta"])


@pytest.mark.requirement("TX-61")
@pytest.mark.parametrize("count", [400, 4097, 9000])  # 65,536 characters are 8,192 words
def test_text_of_any_length_is_read_to_its_end(text_stage, judge, count):
    words = [f"word{'abcdefghij'[i % 10]}{'klmnopqrst'[i // 10 % 10]}z" for i in range(count)]
    normalised = text_stage.normalize(" ".join(words))
    judge.equal("words", normalised.removesuffix(".").split(" "), words)


@pytest.mark.requirement("TX-61")
def test_lines_after_a_line_that_ends_in_a_link_are_read(text_stage, judge):
    links = ["https://a.org/b", "http://a.org", "www.a.org", "a.org", "me@a.org", "ftp://a.org/"]
    text = "\n".join(f"line {name} {link}" for name, link in zip("uvwxyz", links, strict=True))
    normalised = text_stage.normalize(f"{text}\nomega")
    found = re.findall("line [u-z]|omega", normalised)
    judge.equal("lines", found, [*(f"line {name}" for name in "uvwxyz"), "omega"])


@pytest.mark.requirement("TX-62")
@pytest.mark.parametrize("first", range(0, 0x3000, 0x800))
def test_decomposed_letters_are_read_as_composed_ones(text_stage, judge, first):
    letters_of = [c for c in map(chr, range(first, first + 0x800)) if is_composed(c)]
    if letters_of:
        text = " ".join(f"a{letter}b" for letter in letters_of)
        expected = text_stage.normalize(text)
        judge.equal("NFD", text_stage.normalize(unicodedata.normalize("NFD", text)), expected)
        judge.equal("number of words", expected.count(" ") + 1, len(letters_of))
    judge.equal("e and acute", text_stage.normalize("cafe\u0301"), "cafe.")


def is_composed(character):
    """Whether a letter is the composed form of a letter and its marks."""
    parts = unicodedata.normalize("NFD", character)
    is_letter = unicodedata.category(character)[0] == "L" and len(parts) > 1
    return is_letter and unicodedata.normalize("NFC", parts) == character


@pytest.mark.requirement("TX-64")
def test_the_front_end_of_a_known_package_is_named(text_stage, judge):
    # A port that follows one is judged by its recorded readings, and this is its one failure.
    profile = text_stage.profile
    name = profile.name if profile else "a known package"
    convention = f"the text front end of {name} (--text {name})"
    judge.not_following(convention, [] if profile is None or text_stage.named else [convention])


@pytest.mark.requirement("TX-64")
def test_recorded_texts_are_split_as_recorded(sentence_stage, judge):
    if sentence_stage.profile is None:
        raise NotDeclared("no text profile is named or followed")
    with judge.together():
        for text, sentences in sentence_stage.profile.sentences.items():
            judge.equal(f"sentences of {text[:40]!r}", sentence_stage.sentences(text), sentences)


@pytest.mark.requirement("TX-32")
@examples(100)
@given(text=PROSE)
def test_normalising_normalised_text_changes_nothing(text_stage, judge, text):
    once = text_stage.normalize(text)
    judge.equal("text normalised again", text_stage.normalize(once), once)


@pytest.mark.requirement("TX-33")
@pytest.mark.parametrize(
    "run",
    [
        "(", "a.", "1,", "- ", "\t", "aA", "$", "iii", "1.", "http://", "! ", "*", "x" * 99, "1-",
        "<a ", "[", "](", "<!--", "'", '1"', "1 000 ", "²", "A. ", "a-1-", "&#", "9am-", "€", "é",
    ],
)  # fmt: skip
def test_normalisation_takes_time_in_proportion_to_length(text_stage, judge, run):
    def seconds(length):
        started = process_time()
        text_stage.normalize(run * (length // len(run)))
        return process_time() - started

    seconds(100)  # loads what is loaded on first use
    short = max(0.02, seconds(10_000))  # below 0.02 s the clock is too coarse
    long = seconds(40_000)
    if long > 10 * short:  # perhaps because of another process
        short, long = max(short, seconds(10_000)), min(long, seconds(40_000))
    judge.below("time for four times the text", long / short, 10, wrong=16)  # quadratic: 16
