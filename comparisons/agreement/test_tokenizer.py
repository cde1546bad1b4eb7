"""Prompt ids are those of the fast tokenizer of `transformers`, on random strings.

CONFORMANCE_TOKENIZER names a `tokenizer.json` to compare on, beside those of the fixtures.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from conformance.golden.packs import fixture_models
from soprano.tokenizer import Tokenizer

STRINGS = 1000
# Letters and digits, punctuation, white space, letters with accents and without case, combining
# marks, right-to-left, wide and astral characters, joiners and emoji.
RANGES = (
    (0x20, 0x7E), (0x20, 0x7E), (0x20, 0x7E), (0x09, 0x0D), (0xA0, 0x24F), (0x300, 0x36F),
    (0x370, 0x52F), (0x590, 0x6FF), (0x900, 0x97F), (0x1E00, 0x1EFF), (0x2000, 0x206F),
    (0x20A0, 0x20BF), (0x3040, 0x30FF), (0x4E00, 0x4FFF), (0xAC00, 0xACFF), (0xFE00, 0xFF9F),
    (0x10400, 0x1044F), (0x1F300, 0x1F6FF), (0xE0000, 0xE007F),
)  # fmt: skip
WORDS = ("the", "[STOP]", "[START", "[12]", "[UNK]", "  ", "İstanbul", "ﬁne", "e\u0301", "1,234.5")


def strings():
    """Strings of up to 60 characters of every range and words, the same in every run."""
    generator = random.Random(7)

    def character_or_word():
        if generator.random() < 0.1:
            return generator.choice(WORDS)
        return chr(generator.randint(*generator.choice(RANGES)))

    return [
        "".join(character_or_word() for _ in range(generator.randint(0, 60)))
        for _ in range(STRINGS)
    ]


@pytest.fixture(params=["fixture", "named"])
def file(request):
    if request.param == "fixture":
        return next(path for path in fixture_models() if path.name == "v11") / "tokenizer.json"
    named = os.environ.get("CONFORMANCE_TOKENIZER")
    if not named:
        pytest.skip("CONFORMANCE_TOKENIZER names no tokenizer.json")
    return Path(named)


def test_ids_are_those_of_the_fast_tokenizer(file, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    shutil.copyfile(file, tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"))
    ours = Tokenizer(tmp_path / "tokenizer.json")
    given = strings()
    ids = [ours.encode(text) for text in given]
    assert ids == [theirs(text, add_special_tokens=False)["input_ids"] for text in given]
    # The strings use many tokens of the vocabulary.
    assert len({number for own in ids for number in own}) > 40
    assert sum(map(len, ids)) > 10 * STRINGS


def test_the_comparison_can_fail(tmp_path):
    """Without the lower-casing of the tokenizer, some of these strings have other ids."""
    from tokenizers import Tokenizer as Library

    source = next(path for path in fixture_models() if path.name == "v11") / "tokenizer.json"
    library = Library.from_file(str(source))
    library.normalizer = None
    library.save(str(tmp_path / "tokenizer.json"))
    plain, changed = Tokenizer(source), Tokenizer(tmp_path / "tokenizer.json")
    assert any(plain.encode(text) != changed.encode(text) for text in strings())
