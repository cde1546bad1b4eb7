"""Faults of the tokenizer: sentence in, prompt ids out."""

from __future__ import annotations

import re
import unicodedata
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


@fault(TOKENIZER, "TK-01", with_tokenizer, public=True)
class SpacesDropped(Tokenizer):
    """Spaces only separate words and get no id."""

    def encode(self, text: str) -> list[int]:
        space = self.library.token_to_id(" ")
        return [i for i in super().encode(text) if i != space]


@fault(TOKENIZER, "TK-03", hard=True, public=True)
def white_space_not_folded(subject: Subject) -> Subject:
    """A run of white space is encoded character by character."""
    from tokenizers import normalizers

    return with_library(subject, normalizer=normalizers.Lowercase())


@fault(TOKENIZER, "TK-03", public=True)
def capitals_not_lowered(subject: Subject) -> Subject:
    """Capitals are not lowered and become unknown tokens."""
    from tokenizers import Regex, normalizers

    return with_library(subject, normalizer=normalizers.Replace(Regex(r"\s+"), " "))


@fault(TOKENIZER, "TK-07", public=True)
def another_familys_splitter(subject: Subject) -> Subject:
    """Text is split by the expression of GPT-2, which joins a space to the word after it."""
    from tokenizers import Regex, pre_tokenizers

    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?[a-z]+| ?[0-9]+| ?[^\sa-z0-9]+|\s+(?!\S)|\s+"
    return with_library(subject, pre_tokenizer=pre_tokenizers.Split(Regex(pattern), "isolated"))


@fault(TOKENIZER, "TK-01", with_tokenizer, hard=True, public=True)
class StopComesTwice(Tokenizer):
    """A library adds its own begin-of-sequence token in front of the prompt."""

    def prompt(self, sentence: str) -> list[int]:
        return [self.stop, *super().prompt(sentence)]


@fault(TOKENIZER, "TK-11", with_tokenizer, public=True)
class LongPromptLosesStart(Tokenizer):
    """A prompt of more than 512 ids is truncated on the right, which removes [START]."""

    def prompt(self, sentence: str) -> list[int]:
        return [self.stop, self.text, *self.encode(sentence), self.start][:512]


@fault(TOKENIZER, "TK-14", with_tokenizer, hard=True)
class UnknownCharactersFused(Tokenizer):
    """Neighbouring unknown characters become one unknown token."""

    def encode(self, text: str) -> list[int]:
        unknown, ids = self.library.token_to_id("[UNK]"), super().encode(text)
        pairs = zip(ids, [None, *ids], strict=False)
        return [i for i, before in pairs if not i == before == unknown]


@fault(TOKENIZER, "TK-11", with_tokenizer, hard=True)
class LimitCountsTheSentenceAlone(Tokenizer):
    """The limit of 512 is applied to the sentence's ids, without the three control tokens."""

    def prompt(self, sentence: str) -> list[int]:
        ids = self.encode(sentence)
        if not sentence.strip() or self.reserved & set(ids) or len(ids) > 512:
            raise ValueError("sentence is empty, too long, or contains a control token")
        return [self.stop, self.text, *ids, self.start]


@fault(TOKENIZER, "TK-03", with_tokenizer, hard=True)
class EdgesStripped(Tokenizer):
    """White space at both ends of a sentence is stripped before it is encoded."""

    def encode(self, text: str) -> list[int]:
        return super().encode(text.strip())


@fault(TOKENIZER, "TK-07")
def digits_merge(subject: Subject) -> Subject:
    """Text is split into words and punctuation only, so that digits can merge."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+|\s+"), "isolated")
    return with_library(subject, pre_tokenizer=split)


@fault(TOKENIZER, "TK-09", hard=True)
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


@fault(TOKENIZER, "TK-10", with_tokenizer, hard=True)
class PostProcessorLeftOn(Tokenizer):
    """The library's encode adds special tokens by default, as the file's post-processor defines."""

    def encode(self, text: str) -> list[int]:
        return list(self.library.encode(text).ids)


@fault(TOKENIZER, "TK-02", with_tokenizer, hard=True)
class ControlIdsAssumed(Tokenizer):
    """[TEXT], [START] and [STOP] are assumed to be 1, 2 and 3."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.text, self.start, self.stop = 1, 2, 3


@fault(TOKENIZER, "TK-12", with_tokenizer, hard=True)
class ControlTokensInTheTextObeyed(Tokenizer):
    """A sentence that contains "[STOP]" or an audio token gives a prompt with that token."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reserved = set()


@fault(TOKENIZER, "TK-15", with_tokenizer, hard=True)
class LastSentenceRemembered(Tokenizer):
    """Ids are cached by the sentence's length and first word, so that two sentences can collide."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cache: dict[tuple[int, str], list[int]] = {}

    def encode(self, text: str) -> list[int]:
        key = len(text), text.split(" ")[0]
        return list(self.cache.setdefault(key, super().encode(text)))


@fault(TOKENIZER, "TK-15", with_tokenizer, hard=True)
class PromptsKnownByTheirBeginning(Tokenizer):
    """Prompts are kept by the first 64 characters and the length of their sentence."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kept: dict[tuple[str, int], list[int]] = {}

    def prompt(self, sentence: str) -> list[int]:
        key = sentence[:64], len(sentence)
        if key not in self.kept:
            self.kept[key] = super().prompt(sentence)
        return list(self.kept[key])


@fault(TOKENIZER, "TK-15", with_tokenizer, hard=True)
class KeptPromptIsReturned(Tokenizer):
    """Prompts are kept, and the caller gets the list that is kept."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.kept: dict[str, list[int]] = {}

    def prompt(self, sentence: str) -> list[int]:
        if sentence not in self.kept:
            self.kept[sentence] = super().prompt(sentence)
        return self.kept[sentence]


@fault(TOKENIZER, "TK-08", public=True)
def punctuation_stays_with_its_word(subject: Subject) -> Subject:
    """Text is split at spaces and digits only, so that punctuation can merge with its word."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(r"\s+|\d|[^\s\d]+"), "isolated")
    return with_library(subject, pre_tokenizer=split)


@fault(TOKENIZER, "TK-14", with_tokenizer, public=True)
class UnknownBytes(Tokenizer):
    """Text is lowered byte by byte, so that each byte of an unknown character is unknown."""

    def encode(self, text: str) -> list[int]:
        unknown = chr(0xE000)  # a private character
        return super().encode(re.sub(r"[^\x00-\x7f]", lambda m: unknown * len(m[0].encode()), text))


@fault(TOKENIZER, "TK-14", with_tokenizer, hard=True)
class CompatibilityFormsFolded(Tokenizer):
    """The sentence is normalised to NFKC, which turns unknown characters into known ones."""

    def encode(self, text: str) -> list[int]:
        return super().encode(unicodedata.normalize("NFKC", text))
