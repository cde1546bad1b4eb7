"""Sentence -> prompt ids: `[STOP][TEXT]` + sentence + `[START]`."""

from __future__ import annotations

from pathlib import Path

from soprano.checkpoint.contents import missing, parsing, read_json, read_text
from soprano.checkpoint.folder import locate
from soprano.config import MAX_PROMPT_IDS, LanguageModelConfig
from soprano.errors import ModelError


class Tokenizer:
    """Sentence -> prompt ids, from a Hugging Face `tokenizer.json`.

    `library` is the `tokenizers.Tokenizer` underneath. `reserved` are the ids that a sentence must
    not contain: the control tokens and the audio tokens `[0]`, `[1]`, ...
    """

    def __init__(self, path: Path) -> None:
        import tokenizers

        self._path = path.parent
        if not path.exists():
            raise missing(path.parent, path.name)
        try:
            with parsing("a tokenizer", path):
                self.library = tokenizers.Tokenizer.from_str(read_text(path))
        except ModelError:
            read_json(path)  # its error is clearer where the file is something else
            raise
        # Published files contain padding and truncation settings of training batches.
        self.library.no_padding()
        self.library.no_truncation()
        self.text, self.start, self.stop = map(self._control, ("[TEXT]", "[START]", "[STOP]"))
        added = self.library.get_added_tokens_decoder().items()
        self.reserved = {i for i, token in added if token.content != "[UNK]"}

    def _control(self, token: str) -> int:
        control = self.library.token_to_id(token)
        if control is None:
            raise ModelError(f"{self._path / 'tokenizer.json'} has no control token {token}")
        return int(control)

    def require_match(self, config: LanguageModelConfig) -> None:
        """Raise `ModelError` if the ids cannot be those of a language model with this config."""
        if self.stop != config.eos_token_id:
            raise ModelError(
                f"{self._path}: [STOP] is {self.stop} in tokenizer.json, "
                f"eos_token_id is {config.eos_token_id} in config.json"
            )
        largest = max(self.library.get_vocab().values())
        if largest >= config.vocab_size:
            raise ModelError(
                f"{self._path}: tokenizer.json has the id {largest}, "
                f"vocab_size is {config.vocab_size} in config.json"
            )
        if self.vocab_size > config.vocab_size:
            raise ModelError(
                f"{self._path}: tokenizer.json has {self.vocab_size} ids, "
                f"vocab_size is {config.vocab_size} in config.json"
            )

    @property
    def vocab_size(self) -> int:
        return int(self.library.get_vocab_size(with_added_tokens=True))

    def encode(self, text: str) -> list[int]:
        """The ids of any text. Control tokens written in the text become control ids."""
        with parsing("a tokenizer that can encode", self._path / "tokenizer.json"):
            return list(self.library.encode(text, add_special_tokens=False).ids)

    def prompt(self, sentence: str) -> list[int]:
        """The prompt ids of one normalised sentence.

        Raises:
            ValueError: the sentence is empty, contains a control or audio token, or gives a prompt
                of more than 512 ids (truncation would remove `[START]`).
        """
        ids = self.encode(sentence)
        if not sentence.strip():
            raise ValueError("sentence is empty")
        if self.reserved & set(ids):
            raise ValueError(f"sentence contains a control or audio token: {sentence!r}")
        if len(ids) + 3 > MAX_PROMPT_IDS:
            raise ValueError(f"prompt of {len(ids) + 3} ids is longer than {MAX_PROMPT_IDS}")
        return [self.stop, self.text, *ids, self.start]


def load_tokenizer(model: str | Path) -> Tokenizer:
    """The tokenizer of a model folder or of an embedded model."""
    return Tokenizer(locate(model) / "tokenizer.json")
