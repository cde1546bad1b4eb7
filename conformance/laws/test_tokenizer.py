"""TK: sentence to prompt ids, against byte pair encoding written from its definition."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.packs import fixture_models
from conformance.hypothesis_profiles import examples
from conformance.judging.sequences import short

ALPHABET = " !',-.?abcdefghijklmnopqrstuvwxyz0123456789"
FIRST = 44  # id of the alphabet's first character, after 4 control and 40 audio tokens
TEXT, START, STOP = 1, 2, 3


@pytest.fixture(scope="session")
def folder():
    """A fixture model; all of them have the same tokenizer, of the published form."""
    return next(path for path in fixture_models() if path.name == "v11")


@pytest.fixture
def prompt(token_stage, folder):
    """Prompt ids of a sentence."""
    return token_stage(folder).prompt


def letter_ids(text):
    """The ids of text to which no merge applies."""
    return [FIRST + ALPHABET.index(letter) for letter in text]


@pytest.fixture
def edited(folder, tmp_path):
    """`edited(change)`: a model folder with a changed tokenizer file."""

    def edit(change):
        document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        change(document)
        (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
        return tmp_path

    return edit


def byte_pair_encoding(text, folder):
    """Ids by definition: of the adjacent pairs in a word, the merge of lowest rank is next."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    ids = []
    for word in re.findall(r"\s+|\d|[^\W\d]+|[^\w\s]+", re.sub(r"\s+", " ", text.lower())):
        parts = list(word)
        while pairs := [pair for pair in pairwise(parts) if pair in ranks]:
            best, merged = min(pairs, key=lambda pair: ranks[pair]), []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        ids += [model["vocab"].get(part, model["vocab"]["[UNK]"]) for part in parts]
    return ids


@pytest.mark.requirement("TK-01")
def test_prompt_is_stop_text_sentence_start(judge, prompt):
    ids = prompt("go, man.")
    # g o , space m a n .
    judge.equal("ids of 'go, man.'", ids, [STOP, TEXT, 57, 65, 47, 44, 63, 51, 64, 49, START])
    judge.equal("types", {type(i).__name__ for i in ids} == {"int"}, True)


@pytest.mark.requirement("TK-01")
def test_first_id_of_a_prompt_is_the_eos_token_id(judge, prompt, folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    judge.equal("[STOP]", prompt("yes")[0], config["eos_token_id"])


@pytest.mark.requirement("TK-02")
def test_control_ids_are_read_from_the_tokenizer_file(judge, token_stage, edited):
    names = {0: "[STOP]", 1: "[START]", 2: "[UNK]", 3: "[TEXT]"}

    def permute(document):
        document["added_tokens"] = [
            {**token, "content": names.get(token["id"], token["content"])}
            for token in document["added_tokens"]
        ]
        document["model"]["vocab"].update({name: i for i, name in names.items()})

    prompt = token_stage(edited(permute)).prompt("a b")
    judge.equal("ids with permuted controls", prompt, [0, 3, *letter_ids("a b"), 1])


@pytest.mark.requirement("TK-03")
@examples(100)
@given(text=st.text(ALPHABET + "ABTHEOUY\t\nthouye", min_size=1, max_size=60).filter(str.strip))
def test_ids_are_those_of_byte_pair_encoding(judge, prompt, folder, text):
    ids = prompt(text)
    judge.equal(
        f"ids of {short(text)}", ids, [STOP, TEXT, *byte_pair_encoding(text, folder), START]
    )


@pytest.mark.requirement("TK-03")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("the", [88]),
        ("thou", [87, 89]),
        ("you", [90]),
        ("yous", [90, 69]),
        ("oath", [65, 51, 87]),
        ("theth", [88, 87]),
        ("t he", [70, 44, 58, 55]),
    ],
)
def test_merges_are_applied_by_rank(judge, prompt, text, ids):
    judge.equal(f"ids of {short(text)}", prompt(text)[2:-1], ids)


@pytest.mark.requirement("TK-04")
@pytest.mark.parametrize("text", ["GO, MAN.", "Go, Man.", "gO, mAN."])
def test_capital_letters_become_lower_case(judge, prompt, text):
    judge.equal(f"ids of {short(text)}", prompt(text)[2:-1], letter_ids("go, man."))


@pytest.mark.requirement("TK-05")
@pytest.mark.parametrize("gap", ["  ", "\t", "\n", "\r\n", " \t \n ", "     "])
def test_run_of_white_space_becomes_one_space(judge, prompt, gap):
    text = gap.join(["a", "b", "c"])
    judge.equal(f"ids of {short(text)}", prompt(text)[2:-1], letter_ids("a b c"))


@pytest.mark.requirement("TK-06")
def test_spaces_are_kept(judge, prompt):
    for text in ("a b c", "a , b", "a 1 2 b", " a", "a ", "a - b ?"):
        judge.equal(f"ids of {short(text)}", prompt(text)[2:-1], letter_ids(text))


@pytest.mark.requirement("TK-07")
def test_every_digit_is_a_token(judge, token_stage, folder, edited):
    def merge_digits(document):
        document["model"]["vocab"].update({"12": 91, "a1": 92, "2b": 93})
        document["model"]["merges"] += [["1", "2"], ["a", "1"], ["2", "b"]]

    for model in (folder, edited(merge_digits)):
        for text in ("12", "a12b", "2b 12", "1212"):
            judge.equal(
                f"ids of {short(text)}", token_stage(model).prompt(text)[2:-1], letter_ids(text)
            )


@pytest.mark.requirement("TK-08")
def test_words_punctuation_and_spaces_are_never_merged(judge, token_stage, edited):
    # A pre-tokeniser that attaches the space to the next word would apply these merges.
    def merge_across(document):
        document["model"]["vocab"].update({" a": 91, "o.": 92, "'s": 93, ". ": 94})
        document["model"]["merges"] += [[" ", "a"], ["o", "."], ["'", "s"], [".", " "]]

    tokenizer = token_stage(edited(merge_across))
    for text in ("no a", "so. a", "man's", "no. so."):
        judge.equal(f"ids of {short(text)}", tokenizer.prompt(text)[2:-1], letter_ids(text))


@pytest.mark.requirement("TK-09")
@pytest.mark.parametrize("direction", ["Left", "Right"])
def test_prompt_is_never_padded(judge, token_stage, edited, direction):
    def pad(document):
        document["padding"] |= {"strategy": {"Fixed": 64}, "direction": direction}

    prompt = token_stage(edited(pad)).prompt("a b")
    judge.equal(f"ids, {direction}", prompt, [STOP, TEXT, *letter_ids("a b"), START])


@pytest.mark.requirement("TK-09")
@pytest.mark.parametrize("direction", ["Left", "Right"])
def test_prompt_is_never_truncated(judge, token_stage, edited, direction):
    def truncate(document):
        document["truncation"] = {
            "direction": direction, "max_length": 4, "strategy": "LongestFirst", "stride": 0,
        }  # fmt: skip

    prompt = token_stage(edited(truncate)).prompt("go, man.")
    judge.equal(f"ids, {direction}", prompt, [STOP, TEXT, *letter_ids("go, man."), START])


@pytest.mark.requirement("TK-10")
def test_post_processor_adds_no_control_token(judge, token_stage, folder, edited):
    def template(document):
        special = {"[STOP]": {"id": "[STOP]", "ids": [STOP], "tokens": ["[STOP]"]}}
        parts = [{"SpecialToken": {"id": "[STOP]", "type_id": 0}}]
        parts.append({"Sequence": {"id": "A", "type_id": 0}})
        document["post_processor"] = {
            "type": "TemplateProcessing", "single": parts, "pair": parts,
            "special_tokens": special,
        }  # fmt: skip

    for model in (folder, edited(template)):
        prompt = token_stage(model).prompt("a b")
        judge.equal("ids of 'a b'", prompt, [STOP, TEXT, *letter_ids("a b"), START])


@pytest.mark.requirement("TK-11")
def test_prompt_of_512_ids_is_whole_and_one_of_513_is_rejected(judge, prompt):
    longest = prompt("ab" * 254 + "c")
    judge.equal("512 ids", longest, [STOP, TEXT, *letter_ids("ab" * 254 + "c"), START])
    for size in (510, 511, 4000):
        judge.refuses(
            f"{size + 3} ids",
            lambda n=size: prompt("b" * n),
            ValueError,
            accepts=lambda: prompt("b" * 509),
        )
    merged = prompt("the " * 250)  # ids are counted, not letters
    judge.equal("1000 letters, 503 ids", merged, [STOP, TEXT, *[88, 44] * 250, START])


@pytest.mark.requirement("TK-12")
@pytest.mark.parametrize(
    "text", ["[STOP]", "[TEXT]", "[START]", "a [STOP] b", "a[START]", "[STOP][TEXT]a[START]"]
)
def test_control_token_in_a_sentence_is_rejected(judge, prompt, text):
    judge.refuses(
        text,
        lambda: prompt(text),
        ValueError,
        accepts=lambda: prompt("stop, text [start"),
    )


@pytest.mark.requirement("TK-13")
def test_empty_sentence_is_rejected(judge, prompt):
    judge.refuses(
        "empty",
        lambda: prompt(""),
        ValueError,
        accepts=lambda: prompt("a"),
    )


@pytest.mark.requirement("TK-14")
def test_each_unknown_character_is_one_unk(judge, prompt):
    for text, ids in (
        ("é", [0]),
        ("aéb", [51, 0, 52]),
        ("éü", [0, 0]),
        ("a 漢 b", [51, 44, 0, 44, 52]),
        # Not replaced by characters that are known: compatibility forms, and parts of letters.
        ("ﬁa²①bａ½", [0, 51, 0, 0, 52, 0, 0]),
        ("e\u0301", [55, 0]),
        ("a\u200bb", [51, 0, 52]),
    ):
        judge.equal(f"ids of {short(text)}", prompt(text)[2:-1], ids)


@pytest.mark.requirement("TK-15")
def test_ids_do_not_depend_on_earlier_sentences(judge, prompt):
    texts = ["a", "go, man.", "b " * 100, "a"]
    forwards = [prompt(text) for text in texts]
    backwards = [prompt(text) for text in reversed(texts)]
    judge.equal("in reverse order", backwards[::-1], forwards)


@pytest.mark.requirement("TK-15")
def test_similar_sentences_are_not_confused(judge, prompt, folder):
    # Texts that differ in one character: a cache with an incomplete key would mix them up.
    text = "go, man. a b c."
    for index in range(len(text)):
        for letter in "ax7":
            other = text[:index] + letter + text[index + 1 :]
            judge.equal(
                f"ids of {short(other)}", prompt(other)[2:-1], byte_pair_encoding(other, folder)
            )


# 294 characters, to which no merge applies.
LONG = "man, can a cab bang a gang? bad cad. jam dim bin " * 6


def similar(text):
    """Texts that differ from a text in one letter, in the order of two letters, or at its end."""
    for index in range(len(text)):
        yield text[:index] + "x" + text[index + 1 :]
    for index in range(0, len(text) - 1, 7):
        yield text[:index] + text[index + 1] + text[index] + text[index + 2 :]
    yield from (text[:count] for count in range(1, len(text), 5))
    yield text + "x"


@pytest.mark.requirement("TK-15")
@pytest.mark.parametrize("first", ["the sentence", "similar sentences"])
def test_a_long_sentence_is_not_confused_with_a_similar_one(judge, prompt, first):
    # Each order has letters of its own: nothing is known from the other.
    text = LONG if first == "the sentence" else LONG.replace("b", "g").replace("a", "i")
    sentences = [text, *similar(text)]
    for sentence in sentences if first == "the sentence" else sentences[::-1]:
        judge.equal(f"ids of {short(sentence)}", prompt(sentence)[2:-1], letter_ids(sentence))


@pytest.mark.requirement("TK-15")
def test_changing_the_ids_that_were_returned_has_no_effect(judge, prompt):
    for text in ("go, man.", "a", "b " * 100):
        expected = [STOP, TEXT, *letter_ids(text), START]
        for change in (lambda ids: ids.clear(), lambda ids: ids.reverse(), lambda ids: ids.pop()):
            returned = prompt(text)
            judge.equal(f"ids of {short(text)}", list(returned), expected)
            if isinstance(returned, list):
                change(returned)
        judge.equal(f"ids of {short(text)} at last", list(prompt(text)), expected)


def without_stop(document):
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] != "[STOP]"]
    del document["model"]["vocab"]["[STOP]"]


@pytest.mark.requirement("TK-16")
def test_missing_damaged_or_foreign_tokenizer_file_is_rejected(
    judge, token_stage, folder, tmp_path, edited
):
    def valid():
        return token_stage(folder)

    judge.refuses("no file", lambda: token_stage(tmp_path), ValueError, accepts=valid)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    judge.refuses("damaged", lambda: token_stage(tmp_path), ValueError, accepts=valid)
    lacking = edited(without_stop)
    message = judge.refuses("no [STOP]", lambda: token_stage(lacking), ValueError, accepts=valid)
    judge.equal("the message names it", "[STOP]" in message, True)
