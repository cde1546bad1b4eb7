"""Faults of the tokenizer: sentence in, prompt ids out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conformance.faults.fault import TOKENIZER, fault
from conformance.faults.plant import with_tokenizer
from conformance.subject import Subject
from soprano.tokenizer import Tokenizer


def with_library(subject: Subject, **attributes: Any) -> Subject:
    """Change attributes of the `tokenizers` object after it is loaded."""

    class Faulty(Tokenizer):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            for name, value in attributes.items():
                setattr(self.library, name, value)

    return with_tokenizer(subject, Faulty)


@fault("TK-01", TOKENIZER)
def spaces_dropped(subject: Subject) -> Subject:
    """Spaces only separate words and get no id."""

    class Faulty(Tokenizer):
        def encode(self, text: str) -> list[int]:
            space = self.library.token_to_id(" ")
            return [i for i in super().encode(text) if i != space]

    return with_tokenizer(subject, Faulty)


@fault("TK-02", TOKENIZER, hard=True)
def white_space_not_folded(subject: Subject) -> Subject:
    """A run of white space is encoded character by character."""
    from tokenizers import normalizers

    return with_library(subject, normalizer=normalizers.Lowercase())


@fault("TK-03", TOKENIZER)
def capitals_not_lowered(subject: Subject) -> Subject:
    """Capitals are not lowered and become unknown tokens."""
    from tokenizers import Regex, normalizers

    return with_library(subject, normalizer=normalizers.Replace(Regex(r"\s+"), " "))


@fault("TK-05", TOKENIZER)
def another_familys_splitter(subject: Subject) -> Subject:
    """Text is split by the expression of GPT-2, which joins a space to the word after it."""
    from tokenizers import Regex, pre_tokenizers

    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?[a-z]+| ?[0-9]+| ?[^\sa-z0-9]+|\s+(?!\S)|\s+"
    return with_library(subject, pre_tokenizer=pre_tokenizers.Split(Regex(pattern), "isolated"))


@fault("TK-07", TOKENIZER, hard=True)
def stop_comes_twice(subject: Subject) -> Subject:
    """A library adds its own begin-of-sequence token in front of the prompt."""

    class Faulty(Tokenizer):
        def prompt(self, sentence: str) -> list[int]:
            return [self.stop, *super().prompt(sentence)]

    return with_tokenizer(subject, Faulty)


@fault("KV-12", TOKENIZER)
def long_prompt_loses_start(subject: Subject) -> Subject:
    """A prompt of more than 512 ids is truncated on the right, which removes [START]."""

    class Faulty(Tokenizer):
        def prompt(self, sentence: str) -> list[int]:
            return [self.stop, self.text, *self.encode(sentence), self.start][:512]

    return with_tokenizer(subject, Faulty)


@fault("TK-50", TOKENIZER, hard=True)
def unknown_characters_fused(subject: Subject) -> Subject:
    """Neighbouring unknown characters become one unknown token."""

    class Faulty(Tokenizer):
        def encode(self, text: str) -> list[int]:
            unknown, ids = self.library.token_to_id("[UNK]"), super().encode(text)
            pairs = zip(ids, [None, *ids], strict=False)
            return [i for i, before in pairs if not i == before == unknown]

    return with_tokenizer(subject, Faulty)


@fault("TK-51", TOKENIZER, hard=True)
def limit_counts_the_sentence_alone(subject: Subject) -> Subject:
    """The limit of 512 is applied to the sentence's ids, without the three control tokens."""

    class Faulty(Tokenizer):
        def prompt(self, sentence: str) -> list[int]:
            ids = self.encode(sentence)
            if not sentence.strip() or self.reserved & set(ids) or len(ids) > 512:
                raise ValueError("sentence is empty, too long, or contains a control token")
            return [self.stop, self.text, *ids, self.start]

    return with_tokenizer(subject, Faulty)


@fault("TK-52", TOKENIZER, hard=True)
def edges_stripped(subject: Subject) -> Subject:
    """White space at both ends of a sentence is stripped before it is encoded."""

    class Faulty(Tokenizer):
        def encode(self, text: str) -> list[int]:
            return super().encode(text.strip())

    return with_tokenizer(subject, Faulty)


@fault("TK-53", TOKENIZER)
def digits_merge(subject: Subject) -> Subject:
    """Text is split into words and punctuation only, so that digits can merge."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+|\s+"), "isolated")
    return with_library(subject, pre_tokenizer=split)


@fault("TK-54", TOKENIZER, hard=True)
def training_settings_kept(subject: Subject) -> Subject:
    """Padding and truncation that the file has from training stay on."""
    import tokenizers

    class Faulty(Tokenizer):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            as_stored = tokenizers.Tokenizer.from_file(str(path))
            if as_stored.padding or as_stored.truncation:
                self.library = as_stored

    return with_tokenizer(subject, Faulty)


@fault("TK-55", TOKENIZER, hard=True)
def post_processor_left_on(subject: Subject) -> Subject:
    """The library's encode adds special tokens by default, as the file's post-processor defines."""

    class Faulty(Tokenizer):
        def encode(self, text: str) -> list[int]:
            return list(self.library.encode(text).ids)

    return with_tokenizer(subject, Faulty)


@fault("TK-56", TOKENIZER, hard=True)
def control_ids_assumed(subject: Subject) -> Subject:
    """[TEXT], [START] and [STOP] are assumed to be 1, 2 and 3."""

    class Faulty(Tokenizer):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.text, self.start, self.stop = 1, 2, 3

    return with_tokenizer(subject, Faulty)


@fault("TK-57", TOKENIZER, hard=True)
def control_tokens_in_the_text_obeyed(subject: Subject) -> Subject:
    """A sentence that contains "[STOP]" or an audio token gives a prompt with that token."""

    class Faulty(Tokenizer):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.reserved = set()

    return with_tokenizer(subject, Faulty)


@fault("TK-58", TOKENIZER, hard=True)
def last_sentence_remembered(subject: Subject) -> Subject:
    """Ids are cached by the sentence's length and first word, so that two sentences can collide."""

    class Faulty(Tokenizer):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            self.cache: dict[tuple[int, str], list[int]] = {}

        def encode(self, text: str) -> list[int]:
            key = len(text), text.split(" ")[0]
            return list(self.cache.setdefault(key, super().encode(text)))

    return with_tokenizer(subject, Faulty)
