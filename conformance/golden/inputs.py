"""The inputs of the suite, chosen so that every id, many lengths and long sequences occur."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from soprano.config import LanguageModelConfig, SamplingOptions
from soprano.generate import pad
from soprano.sampling import uniforms
from soprano.tokenizer import Tokenizer

Arrays = dict[str, npt.NDArray[Any]]

SEED = 7

# One prompt per row, of many lengths. The batch size is above 8 and no power of two.
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

LONG = 720  # ids of the long sequence: more than a table of 512 positions holds
LONG_START = 8  # ids of its prefill; the others are decode steps
# The error of cos and sin grows with the position, so each stretch has its own noise floor.
# Hidden states are compared at every second position, logits at every eighth.
STRETCHES = ((LONG_START, 256), (256, 512), (512, LONG))
HIDDEN_EVERY, LOGITS_EVERY = 2, 8
PREFIXES = (1, 2, 3, 31, 32, 33, 255, 256, 257, 511, 512, 513, 640, 700)  # lengths of a prefill

LIMIT = 1024  # ids of prompt and new tokens together: the family's limit
# Numbers of tokens for the decoder, and lengths of prompts above 0: every one to 127, then every
# seventh. From 64 on, they leave every remainder modulo every number up to 64.
COUNTS = (*range(128), *range(128, 512, 7), 511, 512)
LENGTHS = (*COUNTS[1:], *(n + i for n in (640, 768, 896, 1023) for i in (-1, 0, 1)))

# Utterances for the decoder: the number of tokens, and a factor of their hidden states.
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

# Texts and options of synthesis from end to end. No double equals the seed: the nearest is 2^53.
TEXTS = (
    "Hello there.",
    "One two three, four five six seven. And then another sentence follows it.",
)
OPTIONS: dict[str, Any] = {
    "seed": 2**53 + 1,
    "temperature": 0.8,
    "top_p": 0.95,
    "max_new_tokens": 30,
}


def language_model_inputs(config: LanguageModelConfig, tokenizer: Tokenizer) -> Arrays:
    """Prompts of real sentences, teacher-forced ids that follow them, and random sequences.

    The teacher-forced ids contain each id of the vocabulary at least once, as far as
    `len(SENTENCES) * MOST_STEPS` ids allow; so do the rows of the prefill of the vocabulary.
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
    """Ids in a random order; none is repeated before each has occurred."""
    draws, count = uniforms(SEED, stream), int(np.prod(shape))
    ids: list[int] = []
    while len(ids) < count:
        ids += sorted(range(size), key=lambda _: next(draws))
    return np.array(ids[:count], np.int64).reshape(shape)


def sequence(arrays: Mapping[str, npt.NDArray[Any]], row: int) -> npt.NDArray[np.int64]:
    """A prompt and the teacher-forced ids that follow it, (T,)."""
    prompt = arrays["prompt ids"][row, : arrays["prompt lengths"][row]]
    return np.concatenate([prompt, arrays["step ids"][row]])


def long_sequence(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """The long sequence of ids, which begins again where it ends, to the limit of the family."""
    return np.resize(arrays["long ids"], LIMIT)


def free_uniforms() -> list[float]:
    """One draw for each id of the free-running utterances."""
    return list(islice(uniforms(SEED, 0), FREE))


def free_prompt(arrays: Mapping[str, npt.NDArray[Any]]) -> list[int]:
    """The prompt ids of the free-running utterances."""
    length = arrays["prompt lengths"][FREE_PROMPT]
    ids: list[int] = arrays["prompt ids"][FREE_PROMPT, :length].tolist()
    return ids


def hidden_pool(arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Hidden states (N, H) of the teacher-forced steps, from which utterances are taken."""
    hidden = arrays["step hidden"]
    return hidden.reshape(-1, hidden.shape[-1]).astype(np.float32)


def decoder_inputs(arrays: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[np.float32]]:
    """Hidden states (T, H) of every utterance, each from another part of the pool."""
    pool = hidden_pool(arrays)
    starts = [(29 * i) % (len(pool) - tokens) for i, tokens in enumerate(TOKENS)]
    return [
        pool[start : start + tokens] * np.float32(scale)
        for start, (tokens, scale) in zip(starts, UTTERANCES, strict=True)
    ]


def long_hidden(arrays: Mapping[str, npt.NDArray[Any]], tokens: int) -> npt.NDArray[np.float32]:
    """Hidden states (T, H) of a long utterance: the pool in another order on each pass."""
    pool = hidden_pool(arrays)
    step = next(s for s in (7, 11, 13, 17) if len(pool) % s)
    return pool[(np.arange(tokens) * step + np.arange(tokens) // len(pool)) % len(pool)]
