"""Prompts -> tokens and hidden states: the generation loop.

The hidden state that predicts an audio token is the decoder's input for that token. The state
that predicts `[STOP]` is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from soprano.backends import Backend, Float32, Int64, Output
from soprano.config import SamplingOptions
from soprano.stages import Stages


@dataclass(frozen=True)
class Prompt:
    """What the generation of one utterance needs."""

    ids: list[int]
    uniforms: Iterator[float]  # one draw is taken for each sampled id
    sampling: SamplingOptions
    max_new_tokens: int


@dataclass(frozen=True)
class Token:
    """One generated id of one utterance.

    `finish` is None except on the last token: "stop" (the id was `[STOP]`; `id` and `hidden` are
    None) or "length".
    """

    prompt: int  # index into the prompts
    id: int | None
    hidden: Float32 | None  # (H,)
    finish: str | None


@dataclass
class Generation:
    """One utterance while its ids are generated."""

    index: int  # of its prompt
    prompt: Prompt
    ids: list[int] = field(default_factory=list)


def advance(stages: Stages, generation: Generation, logits: Float32, hidden: Float32) -> Token:
    """Sample the next id of one utterance from logits (V,), predicted by hidden (H,)."""
    prompt = generation.prompt
    uniform = next(prompt.uniforms) if prompt.sampling.temperature else None
    chosen = stages.sample(logits, prompt.ids + generation.ids, prompt.sampling, uniform)
    if chosen == stages.config.language_model.eos_token_id:
        return Token(generation.index, None, None, "stop")
    generation.ids.append(chosen)
    complete = len(generation.ids) == prompt.max_new_tokens
    return Token(generation.index, chosen, hidden, "length" if complete else None)


def generate(
    stages: Stages,
    prompts: Iterable[Prompt],
    *,
    batch_size: int = 1,
    advance: Callable[[Stages, Generation, Float32, Float32], Token] = advance,
) -> Iterator[Token]:
    """Yield the tokens of all prompts as they come, up to `batch_size` utterances at a time.

    When an utterance ends, the next prompt takes its row of the batch. The tokens of an utterance
    do not depend on the other utterances or on `batch_size`.

    Raises:
        ValueError: `batch_size` is below 1, or a prompt leaves no room for a new token within the
            backend's maximum length.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    backend = stages.language_model
    able = backend.capabilities
    if not (able.batch and able.select and able.join):
        batch_size = 1  # replacing a finished row needs all three
    waiting = deque(
        Generation(index, _limited(prompt, able.max_length)) for index, prompt in enumerate(prompts)
    )
    running: list[Generation] = []
    output: Output | None = None
    while running or waiting:
        if free := min(batch_size - len(running), len(waiting)):
            entering = [waiting.popleft() for _ in range(free)]
            output = _enter(backend, output, [generation.prompt.ids for generation in entering])
            running += entering
        assert output is not None
        kept = []  # the rows whose utterances go on
        for row, generation in enumerate(running):
            token = advance(stages, generation, output.logits[row], output.hidden[row])
            yield token
            if token.finish is None:
                kept.append(row)
        state = output.state
        if kept and len(kept) < len(running):
            state = backend.select(state, kept)
        running = [running[row] for row in kept]
        last = np.array([generation.ids[-1] for generation in running], np.int64)
        output = backend.step(last, state) if running else None


def _limited(prompt: Prompt, max_length: int | None) -> Prompt:
    """The prompt with no more new tokens than the backend has room for."""
    if max_length is None or len(prompt.ids) + prompt.max_new_tokens <= max_length:
        return prompt
    if len(prompt.ids) >= max_length:
        raise ValueError(
            f"a prompt of {len(prompt.ids)} ids leaves no room for a new token: the backend's "
            f"maximum length is {max_length}"
        )
    return replace(prompt, max_new_tokens=max_length - len(prompt.ids))


def _enter(backend: Backend, running: Output | None, prompts: list[list[int]]) -> Output:
    """The running rows, followed by those of new prompts."""
    entering = backend.prefill(*pad(prompts))
    if running is None:
        return entering
    return Output(
        np.concatenate([running.logits, entering.logits]),
        np.concatenate([running.hidden, entering.hidden]),
        backend.join(running.state, entering.state),
    )


def pad(sequences: list[list[int]]) -> tuple[Int64, Int64]:
    """Right-padded ids (B, T) and lengths (B,)."""
    lengths = np.array([len(ids) for ids in sequences], np.int64)
    padded = np.zeros((len(sequences), lengths.max(initial=0)), np.int64)
    for row, ids in enumerate(sequences):
        padded[row, : len(ids)] = ids
    return padded, lengths
