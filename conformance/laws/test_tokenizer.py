"""TK: sentence to prompt ids, judged by the tokenizer file's own words, spelt out here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.golden.packs import fixture_models
from conformance.judging.judge import Judge
from conformance.laws.hypothesis_profiles import examples

Load = Any  # (model folder) -> tokenizer
Edit = Callable[[dict[str, Any]], None]

EXPLORED = examples(100)
ALPHABET = " !',-.?abcdefghijklmnopqrstuvwxyz0123456789"
FIRST = 44  # id of the alphabet's first character, after 4 controls and 40 audio tokens
TEXT, START, STOP = 1, 2, 3


@pytest.fixture(scope="session")
def folder() -> Path:
    """A fixture model; all of them have the same tokenizer, of the published form."""
    return next(path for path in fixture_models() if path.name == "v11")


def letters(text: str) -> list[int]:
    """The ids of text that no merge touches."""
    return [FIRST + ALPHABET.index(letter) for letter in text]


def edited(folder: Path, place: Path, edit: Edit) -> Path:
    """A model folder with a changed tokenizer file."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    edit(document)
    (place / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    return place


def defined(text: str, folder: Path) -> list[int]:
    """Byte pair encoding by definition: of the pairs in a word, the merge listed first is next."""
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
def test_a_prompt_is_stop_text_sentence_start(
    judge: Judge, token_stage: Load, folder: Path
) -> None:
    prompt = token_stage(folder).prompt("go, man.")
    # g o , space m a n .
    judge.equal("go, man.", prompt, [STOP, TEXT, 57, 65, 47, 44, 63, 51, 64, 49, START])
    judge.equal("types", {type(number).__name__ for number in prompt} == {"int"}, True)


@pytest.mark.requirement("TK-01")
def test_the_first_id_is_the_models_end_of_sequence(
    judge: Judge, token_stage: Load, folder: Path
) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    judge.equal("[STOP]", token_stage(folder).prompt("yes")[0], config["eos_token_id"])


@pytest.mark.requirement("TK-02")
def test_control_ids_are_read_from_the_file(
    judge: Judge, token_stage: Load, folder: Path, tmp_path: Path
) -> None:
    names = {0: "[STOP]", 1: "[START]", 2: "[UNK]", 3: "[TEXT]"}

    def permute(document: dict[str, Any]) -> None:
        document["added_tokens"] = [
            {**token, "content": names.get(token["id"], token["content"])}
            for token in document["added_tokens"]
        ]
        document["model"]["vocab"].update({name: number for number, name in names.items()})

    prompt = token_stage(edited(folder, tmp_path, permute)).prompt("a b")
    judge.equal("permuted controls", prompt, [0, 3, *letters("a b"), 1])


@pytest.mark.requirement("TK-03")
@EXPLORED
@given(text=st.text(ALPHABET + "ABTHEOUY\t\nthouye", min_size=1, max_size=60).filter(str.strip))
def test_ids_are_those_of_byte_pair_encoding(
    judge: Judge, token_stage: Load, folder: Path, text: str
) -> None:
    prompt = token_stage(folder).prompt(text)
    judge.equal(repr(text), prompt, [STOP, TEXT, *defined(text, folder), START])


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
def test_merges_are_made_by_rank(
    judge: Judge, token_stage: Load, folder: Path, text: str, ids: list[int]
) -> None:
    judge.equal(text, token_stage(folder).prompt(text)[2:-1], ids)


@pytest.mark.requirement("TK-04")
@pytest.mark.parametrize("text", ["GO, MAN.", "Go, Man.", "gO, mAN."])
def test_capitals_are_lowered(judge: Judge, token_stage: Load, folder: Path, text: str) -> None:
    judge.equal(text, token_stage(folder).prompt(text)[2:-1], letters("go, man."))


@pytest.mark.requirement("TK-05")
@pytest.mark.parametrize("gap", ["  ", "\t", "\n", "\r\n", " \t \n ", "     "])
def test_white_space_is_folded(judge: Judge, token_stage: Load, folder: Path, gap: str) -> None:
    text = gap.join(["a", "b", "c"])
    judge.equal(repr(text), token_stage(folder).prompt(text)[2:-1], letters("a b c"))


@pytest.mark.requirement("TK-06")
def test_spaces_are_kept(judge: Judge, token_stage: Load, folder: Path) -> None:
    for text in ("a b c", "a , b", "a 1 2 b", " a", "a ", "a - b ?"):
        judge.equal(repr(text), token_stage(folder).prompt(text)[2:-1], letters(text))


@pytest.mark.requirement("TK-07")
def test_digits_stand_alone(judge: Judge, token_stage: Load, folder: Path, tmp_path: Path) -> None:
    def merge_digits(document: dict[str, Any]) -> None:
        document["model"]["vocab"].update({"12": 91, "a1": 92, "2b": 93})
        document["model"]["merges"] += [["1", "2"], ["a", "1"], ["2", "b"]]

    for model in (folder, edited(folder, tmp_path, merge_digits)):
        for text in ("12", "a12b", "2b 12", "1212"):
            judge.equal(text, token_stage(model).prompt(text)[2:-1], letters(text))


@pytest.mark.requirement("TK-08")
def test_words_punctuation_and_spaces_do_not_merge(
    judge: Judge, token_stage: Load, folder: Path, tmp_path: Path
) -> None:
    # A splitter that glues the space to the word after it would make these merges.
    def merge_across(document: dict[str, Any]) -> None:
        document["model"]["vocab"].update({" a": 91, "o.": 92, "'s": 93, ". ": 94})
        document["model"]["merges"] += [[" ", "a"], ["o", "."], ["'", "s"], [".", " "]]

    tokenizer = token_stage(edited(folder, tmp_path, merge_across))
    for text in ("no a", "so. a", "man's", "no. so."):
        judge.equal(text, tokenizer.prompt(text)[2:-1], letters(text))


@pytest.mark.requirement("TK-09")
@pytest.mark.parametrize("direction", ["Left", "Right"])
def test_a_prompt_is_never_padded(
    judge: Judge, token_stage: Load, folder: Path, tmp_path: Path, direction: str
) -> None:
    def pad(document: dict[str, Any]) -> None:
        document["padding"] |= {"strategy": {"Fixed": 64}, "direction": direction}

    prompt = token_stage(edited(folder, tmp_path, pad)).prompt("a b")
    judge.equal(direction, prompt, [STOP, TEXT, *letters("a b"), START])


@pytest.mark.requirement("TK-09")
@pytest.mark.parametrize("direction", ["Left", "Right"])
def test_a_prompt_is_never_cut(
    judge: Judge, token_stage: Load, folder: Path, tmp_path: Path, direction: str
) -> None:
    def cut(document: dict[str, Any]) -> None:
        document["truncation"] = {
            "direction": direction, "max_length": 4, "strategy": "LongestFirst", "stride": 0,
        }  # fmt: skip

    prompt = token_stage(edited(folder, tmp_path, cut)).prompt("go, man.")
    judge.equal(direction, prompt, [STOP, TEXT, *letters("go, man."), START])


@pytest.mark.requirement("TK-10")
def test_no_control_token_comes_twice(
    judge: Judge, token_stage: Load, folder: Path, tmp_path: Path
) -> None:
    def template(document: dict[str, Any]) -> None:
        special = {"[STOP]": {"id": "[STOP]", "ids": [STOP], "tokens": ["[STOP]"]}}
        pieces = [{"SpecialToken": {"id": "[STOP]", "type_id": 0}}]
        pieces.append({"Sequence": {"id": "A", "type_id": 0}})
        document["post_processor"] = {
            "type": "TemplateProcessing", "single": pieces, "pair": pieces,
            "special_tokens": special,
        }  # fmt: skip

    for model in (folder, edited(folder, tmp_path, template)):
        prompt = token_stage(model).prompt("a b")
        judge.equal("prompt", prompt, [STOP, TEXT, *letters("a b"), START])


@pytest.mark.requirement("TK-11")
def test_a_prompt_of_512_ids_is_whole_and_one_of_513_is_refused(
    judge: Judge, token_stage: Load, folder: Path
) -> None:
    tokenizer = token_stage(folder)
    longest = tokenizer.prompt("ab" * 254 + "c")
    judge.equal("512 ids", longest, [STOP, TEXT, *letters("ab" * 254 + "c"), START])
    for size in (510, 511, 4000):
        judge.refuses(
            f"{size + 3} ids",
            lambda n=size: tokenizer.prompt("b" * n),
            ValueError,
            accepts=lambda: tokenizer.prompt("b" * 509),
        )
    merged = tokenizer.prompt("the " * 250)  # ids are counted, not letters
    judge.equal("1000 letters, 503 ids", merged, [STOP, TEXT, *[88, 44] * 250, START])


@pytest.mark.requirement("TK-12")
@pytest.mark.parametrize(
    "text", ["[STOP]", "[TEXT]", "[START]", "a [STOP] b", "a[START]", "[STOP][TEXT]a[START]"]
)
def test_a_control_token_in_a_sentence_is_refused(
    judge: Judge, token_stage: Load, folder: Path, text: str
) -> None:
    judge.refuses(
        text,
        lambda: token_stage(folder).prompt(text),
        ValueError,
        accepts=lambda: token_stage(folder).prompt("stop, text [start"),
    )


@pytest.mark.requirement("TK-13")
def test_a_sentence_of_nothing_is_refused(judge: Judge, token_stage: Load, folder: Path) -> None:
    judge.refuses(
        "empty",
        lambda: token_stage(folder).prompt(""),
        ValueError,
        accepts=lambda: token_stage(folder).prompt("a"),
    )


@pytest.mark.requirement("TK-14")
def test_each_unknown_character_is_one_unknown_token(
    judge: Judge, token_stage: Load, folder: Path
) -> None:
    for text, ids in (
        ("é", [0]),
        ("aéb", [51, 0, 52]),
        ("éü", [0, 0]),
        ("a 漢 b", [51, 44, 0, 44, 52]),
    ):
        judge.equal(text, token_stage(folder).prompt(text)[2:-1], ids)


@pytest.mark.requirement("TK-15")
def test_one_sentence_does_not_change_the_next(
    judge: Judge, token_stage: Load, folder: Path
) -> None:
    tokenizer, texts = token_stage(folder), ["a", "go, man.", "b " * 100, "a"]
    forth = [tokenizer.prompt(text) for text in texts]
    back = [tokenizer.prompt(text) for text in reversed(texts)]
    judge.equal("backwards", back[::-1], forth)


@pytest.mark.requirement("TK-15")
def test_neighbours_are_not_confused(judge: Judge, token_stage: Load, folder: Path) -> None:
    # Texts that differ in one place only: at the beginning, in the middle, at the end.
    tokenizer, text = token_stage(folder), "go, man. a b c."
    for place in range(len(text)):
        for letter in "ax7":
            other = text[:place] + letter + text[place + 1 :]
            judge.equal(other, tokenizer.prompt(other)[2:-1], defined(other, folder))


def _without_stop(document: dict[str, Any]) -> None:
    document["added_tokens"] = [t for t in document["added_tokens"] if t["content"] != "[STOP]"]
    del document["model"]["vocab"]["[STOP]"]


@pytest.mark.requirement("TK-16")
def test_a_file_that_is_no_tokenizer_of_the_family_is_refused(
    judge: Judge, token_stage: Load, folder: Path, tmp_path: Path
) -> None:
    def whole() -> object:
        return token_stage(folder)

    judge.refuses("no file", lambda: token_stage(tmp_path), ValueError, accepts=whole)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    judge.refuses("damaged", lambda: token_stage(tmp_path), ValueError, accepts=whole)
    lacking = edited(folder, tmp_path, _without_stop)
    message = judge.refuses("no [STOP]", lambda: token_stage(lacking), ValueError, accepts=whole)
    judge.equal("the message names it", "[STOP]" in message, True)
