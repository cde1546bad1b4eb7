"""Faults of the tokenizer: a sentence in, prompt ids out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from conformance.faults.fault import TOKENIZER, fault
from conformance.faults.plant import Plant
from soprano.tokenizer import Tokenizer


def encoded(plant: Plant, change: Callable[[Any, str, list[int]], list[int]]) -> None:
    encode = Tokenizer.encode
    plant.set(Tokenizer, "encode", lambda t, text: change(t, text, encode(t, text)))


def loaded(plant: Plant, change: Callable[[Any], None]) -> None:
    """Change the library's tokenizer as it is loaded."""
    load = Tokenizer.__init__

    def faulty(tokenizer: Any, path: Any) -> None:
        load(tokenizer, path)
        change(tokenizer._tokenizer)

    plant.set(Tokenizer, "__init__", faulty)


@fault("TK-01", TOKENIZER)
def spaces_dropped(plant: Plant) -> None:
    """Spaces are taken for mere separators and get no id."""

    def change(tokenizer: Any, text: str, ids: list[int]) -> list[int]:
        space = tokenizer._tokenizer.token_to_id(" ")
        return [i for i in ids if i != space]

    encoded(plant, change)


@fault("TK-02", TOKENIZER, hard=True)
def white_space_not_folded(plant: Plant) -> None:
    """A run of white space is encoded sign by sign."""
    from tokenizers import normalizers

    loaded(plant, lambda library: setattr(library, "normalizer", normalizers.Lowercase()))


@fault("TK-03", TOKENIZER)
def capitals_not_lowered(plant: Plant) -> None:
    """Capitals are not lowered, and become unknown tokens."""
    from tokenizers import Regex, normalizers

    loaded(
        plant,
        lambda library: setattr(library, "normalizer", normalizers.Replace(Regex(r"\s+"), " ")),
    )


@fault("TK-05", TOKENIZER)
def another_familys_splitter(plant: Plant) -> None:
    """Text is split by the expression of GPT-2, which glues a space to the word after it."""
    from tokenizers import Regex, pre_tokenizers

    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?[a-z]+| ?[0-9]+| ?[^\sa-z0-9]+|\s+(?!\S)|\s+"
    loaded(
        plant,
        lambda library: setattr(
            library, "pre_tokenizer", pre_tokenizers.Split(Regex(pattern), "isolated")
        ),
    )


@fault("TK-07", TOKENIZER, hard=True)
def stop_comes_twice(plant: Plant) -> None:
    """A library adds its own begin-of-sequence token in front of the prompt."""
    prompt = Tokenizer.prompt
    plant.set(Tokenizer, "prompt", lambda t, sentence: [t.stop, *prompt(t, sentence)])


@fault("KV-12", TOKENIZER)
def long_prompt_loses_start(plant: Plant) -> None:
    """A prompt over 512 ids is cut on the right, which removes [START]."""

    def prompt(tokenizer: Any, sentence: str) -> list[int]:
        return [tokenizer.stop, tokenizer.text, *tokenizer.encode(sentence), tokenizer.start][:512]

    plant.set(Tokenizer, "prompt", prompt)


@fault("TK-50", TOKENIZER, hard=True)
def unknown_characters_fused(plant: Plant) -> None:
    """Neighbouring unknown characters become one unknown token."""

    def change(tokenizer: Any, text: str, ids: list[int]) -> list[int]:
        unknown = tokenizer._tokenizer.token_to_id("[UNK]")
        pairs = zip(ids, [None, *ids], strict=False)
        return [i for i, before in pairs if not i == before == unknown]

    encoded(plant, change)


@fault("TK-51", TOKENIZER, hard=True)
def limit_counts_the_sentence_alone(plant: Plant) -> None:
    """The limit of 512 is held against the sentence's ids; the three controls come on top."""

    def prompt(tokenizer: Any, sentence: str) -> list[int]:
        ids = tokenizer.encode(sentence)
        if not sentence.strip() or tokenizer._reserved & set(ids) or len(ids) > 512:
            raise ValueError("sentence is empty, too long, or holds a control token")
        return [tokenizer.stop, tokenizer.text, *ids, tokenizer.start]

    plant.set(Tokenizer, "prompt", prompt)


@fault("TK-52", TOKENIZER, hard=True)
def edges_stripped(plant: Plant) -> None:
    """White space at either end of a sentence is stripped before it is encoded."""
    encode = Tokenizer.encode
    plant.set(Tokenizer, "encode", lambda t, text: encode(t, text.strip()))


@fault("TK-53", TOKENIZER)
def digits_merge(plant: Plant) -> None:
    """Only words and punctuation are split apart, so that digits may merge with each other."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+|\s+"), "isolated")
    loaded(plant, lambda library: setattr(library, "pre_tokenizer", split))


@fault("TK-54", TOKENIZER, hard=True)
def training_settings_kept(plant: Plant) -> None:
    """Padding and truncation that the file carries from training stay on."""
    import tokenizers

    load = Tokenizer.__init__

    def faulty(tokenizer: Any, path: Any) -> None:
        load(tokenizer, path)
        kept = tokenizers.Tokenizer.from_file(str(path))
        if kept.padding or kept.truncation:
            tokenizer._tokenizer = kept

    plant.set(Tokenizer, "__init__", faulty)


@fault("TK-55", TOKENIZER, hard=True)
def post_processor_left_on(plant: Plant) -> None:
    """The library's call adds special tokens by default, as the file's post-processor says."""
    plant.set(Tokenizer, "encode", lambda t, text: list(t._tokenizer.encode(text).ids))


@fault("TK-56", TOKENIZER, hard=True)
def control_ids_assumed(plant: Plant) -> None:
    """[TEXT], [START] and [STOP] are 1, 2 and 3 without a look into the file."""
    load = Tokenizer.__init__

    def faulty(tokenizer: Any, path: Any) -> None:
        load(tokenizer, path)
        tokenizer.text, tokenizer.start, tokenizer.stop = 1, 2, 3

    plant.set(Tokenizer, "__init__", faulty)


@fault("TK-57", TOKENIZER, hard=True)
def control_tokens_in_the_text_obeyed(plant: Plant) -> None:
    """A text that holds "[STOP]" or an audio token reaches the model with that token in it."""
    load = Tokenizer.__init__

    def faulty(tokenizer: Any, path: Any) -> None:
        load(tokenizer, path)
        tokenizer._reserved = set()

    plant.set(Tokenizer, "__init__", faulty)


@fault("TK-58", TOKENIZER, hard=True)
def last_sentence_remembered(plant: Plant) -> None:
    """Ids are kept by the sentence's length and first word: a likely neighbour gets them."""
    kept: dict[Any, list[int]] = {}

    def change(tokenizer: Any, text: str, ids: list[int]) -> list[int]:
        return list(kept.setdefault((id(tokenizer), len(text), text.split(" ")[0]), ids))

    encoded(plant, change)
