"""Sentence -> prompt ids: `[STOP][TEXT]` + sentence + `[START]`."""

from __future__ import annotations

from pathlib import Path

from soprano.checkpoint.folder import locate
from soprano.config import MAX_PROMPT_IDS
from soprano.errors import ModelError


class Tokenizer:
    """The ids of a model's vocabulary, from its Hugging Face `tokenizer.json`."""

    def __init__(self, path: Path) -> None:
        import tokenizers

        if not path.is_file():
            raise ModelError(f"{path.parent} has no tokenizer.json")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{path} is not a tokenizer: {error}") from None
        # Published files carry settings for training batches; a prompt is never padded or cut.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.text, self.start, self.stop = map(self._control, ("[TEXT]", "[START]", "[STOP]"))
        # What a sentence may not hold: the control tokens and the audio tokens [0], [1], ...
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._reserved = {i for i, token in added if token.content != "[UNK]"}

    def _control(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise ModelError(f"tokenizer.json lacks the control token {token}")
        return int(number)

    @property
    def vocab_size(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The ids of any text; control tokens written in it are taken as such."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt(self, sentence: str) -> list[int]:
        """The prompt ids of one normalised sentence.

        Raises:
            ValueError: the sentence is empty, holds a control or audio token, or makes a prompt of
                more than 512 ids (prompts are never cut: that would remove `[START]`).
        """
        ids = self.encode(sentence)
        if not sentence.strip():
            raise ValueError("sentence is empty: there is nothing to speak")
        if self._reserved & set(ids):
            raise ValueError(f"sentence holds a control or audio token: {sentence!r}")
        if len(ids) + 3 > MAX_PROMPT_IDS:
            raise ValueError(f"prompt of {len(ids) + 3} ids is longer than {MAX_PROMPT_IDS}")
        return [self.stop, self.text, *ids, self.start]


def load_tokenizer(model: str | Path) -> Tokenizer:
    """The tokenizer of a model folder or of an embedded model."""
    return Tokenizer(locate(model) / "tokenizer.json")
