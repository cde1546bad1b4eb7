"""What backends are asked: inputs that a fault of one place, length or id cannot hide from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.config import LanguageModelConfig, SamplingOptions
from soprano.generate import pad
from soprano.sampling import uniforms
from soprano.tokenizer import Tokenizer

Arrays = dict[str, npt.NDArray[Any]]

SEED = 7

# One prompt a row, of many lengths: a batch larger than four, eight and any power of two.
SENTENCES = (
    "yes",
    "hello there",
    "one two three four",
    "a",
    "it is half past nine.",
    "the quick brown fox jumps over the lazy dog",
    "no!",
    "why not, then?",
    "sound comes before the sentence ends, and nobody waits for it to be over.",
    "go on",
    "seven, eight, 9, 10",
    "what was said first was said last, and what was said last was hardly ever heard at all.",
)
MOST_STEPS = 64  # teacher-forced ids after each prompt: enough for every id once, up to this
ROWS, LONGEST_ROW = 16, 128  # prefill of the whole vocabulary, or of as much of it as fits

LONG = 720  # ids of the long sequence: beyond every table of 512 positions
LONG_START = 8  # ids read at once before its steps
# Rotations err in proportion to the position, so each stretch has a floor of its own. Hidden
# states are compared at every second position, logits at every eighth.
STRETCHES = ((LONG_START, 256), (256, 512), (512, LONG))
HIDDEN_EVERY, LOGITS_EVERY = 2, 8
PREFIXES = (1, 2, 3, 31, 32, 33, 255, 256, 257, 511, 512, 513, 640, 700)  # read at once

# Utterances of the decoder: tokens, and what their hidden states are multiplied by.
UTTERANCES = (
    *((tokens, 1.0) for tokens in (1, 2, 3, 5, 9, 16)),
    (2, 0.0),
    (2, 1e-3),
    (3, 1e3),
)
TOKENS = tuple(tokens for tokens, _ in UTTERANCES)

FREE = 64  # ids of the free-running utterances
FREE_PROMPT = 4
FREE_RUNS = {
    "greedy": SamplingOptions(temperature=0.0, top_p=1.0, repetition_penalty=1.2),
    "sampled": SamplingOptions(temperature=1.0, top_p=0.95, repetition_penalty=1.2),
}


def language_model_inputs(config: LanguageModelConfig, tokenizer: Tokenizer) -> Arrays:
    """Prompts of real sentences and ids that go on from them, and ids without any sense.

    The teacher-forced steps hold each id of the vocabulary at least once where it has at most
    `len(SENTENCES) * MOST_STEPS`; so do the rows that are read at once.
    """
    size = config.vocab_size
    prompts, lengths = pad([tokenizer.prompt(sentence) for sentence in SENTENCES])
    steps = min(max(-(-size // len(SENTENCES)), 24), MOST_STEPS)
    width = min(-(-size // ROWS), LONGEST_ROW)
    return {
        "prompt ids": prompts,
        "prompt lengths": lengths,
        "step ids": _every_id(size, (len(SENTENCES), steps), stream=0),
        "vocabulary ids": _every_id(size, (ROWS, width), stream=1),
        "long ids": _every_id(size, (LONG,), stream=2),
    }


def _every_id(size: int, shape: tuple[int, ...], stream: int) -> npt.NDArray[np.int64]:
    """Ids in a random order, each once before any comes again."""
    draws, count = uniforms(SEED, stream), int(np.prod(shape))
    found: list[int] = []
    while len(found) < count:
        found += sorted(range(size), key=lambda _: next(draws))
    return np.array(found[:count], np.int64).reshape(shape)


def free_prompt(arrays: Mapping[str, npt.NDArray[Any]]) -> list[int]:
    """The prompt ids that the free-running utterances answer."""
    length = arrays["prompt lengths"][FREE_PROMPT]
    ids: list[int] = arrays["prompt ids"][FREE_PROMPT, :length].tolist()
    return ids


def states(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Hidden states (N, H) such as the decoder sees: those of the teacher-forced steps."""
    hidden = arrays["step hidden"]
    return hidden.reshape(-1, hidden.shape[-1]).astype(np.float32)


def decoder_inputs(arrays: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """Hidden states (T, H) of every utterance, each from another place."""
    pool = states(arrays)
    places = [(29 * i) % (len(pool) - tokens) for i, tokens in enumerate(TOKENS)]
    return [
        pool[place : place + tokens] * np.float32(scale)
        for place, (tokens, scale) in zip(places, UTTERANCES, strict=True)
    ]


def long_states(arrays: Mapping[str, npt.NDArray[Any]], tokens: int) -> npt.NDArray[np.float32]:
    """Hidden states (T, H) of a long utterance: those at hand in an order that does not repeat."""
    pool = states(arrays)
    step = next(s for s in (7, 11, 13, 17) if len(pool) % s)
    return pool[(np.arange(tokens) * step + np.arange(tokens) // len(pool)) % len(pool)]
