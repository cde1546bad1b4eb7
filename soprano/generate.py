"""Prompts -> tokens and hidden states: the generation loop.

The hidden state that predicts an audio token is the decoder's input for that token. The state
that predicts `[STOP]` is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np

from soprano.backends import Backend, Float32, Int64, Output, VerifyingBackend
from soprano.config import SamplingOptions
from soprano.drafting import Agreement, Drafter, Draws
from soprano.stages import Stages


@dataclass(frozen=True)
class Prompt:
    """What the generation of one utterance needs."""

    ids: list[int]
    uniforms: Iterator[float]  # one draw is taken for each sampled id; with a draft, in advance
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
    drafter: Drafter | None = None

    @property
    def known(self) -> list[int]:
        """The ids of the prompt and the new ones."""
        return self.prompt.ids + self.ids


Advance = Callable[[Stages, Generation, Float32, Float32], Token]


def advance(stages: Stages, generation: Generation, logits: Float32, hidden: Float32) -> Token:
    """Sample the next id of one utterance from logits (V,), predicted by hidden (H,)."""
    prompt = generation.prompt
    uniform = next(prompt.uniforms) if prompt.sampling.temperature else None
    chosen = stages.sample(logits, generation.known, prompt.sampling, uniform)
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
    advance: Advance = advance,
    drafter: Callable[..., Drafter] = Drafter,
    drafted_rows: int = 1,
) -> Iterator[Token]:
    """Yield the tokens of all prompts as they come, up to `batch_size` utterances at a time.

    When an utterance ends, the next prompt takes its row of the batch. The tokens of an utterance
    do not depend on the other utterances or on `batch_size`.
    A draft (`stages.draft`) is used while at most `drafted_rows` utterances are in progress.

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
    if stages.draft is not None:
        _add_drafters(stages, waiting, drafter)
    running: list[Generation] = []
    output: Output | None = None
    drafted: list[list[int]] = []  # ids of each row that the output has verified; [] without
    while running or waiting:
        if free := min(batch_size - len(running), len(waiting)):
            entering = [waiting.popleft() for _ in range(free)]
            output = _enter(backend, output, [generation.prompt.ids for generation in entering])
            running += entering
        assert output is not None
        kept = []  # the rows whose utterances go on
        for row, generation in enumerate(running):
            following = drafted[row] if drafted else []
            outputs = np.atleast_2d(output.logits[row]), np.atleast_2d(output.hidden[row])
            finish = None
            for token in _tokens(stages, generation, following, outputs, advance):
                yield token
                finish = token.finish
            if finish is None:
                kept.append(row)
        state = output.state
        if kept and len(kept) < len(running):
            state = backend.select(state, kept)
        running = [running[row] for row in kept]
        if drafted and running:
            read = np.array([len(generation.known) - 1 for generation in running], np.int64)
            state = cast(VerifyingBackend, backend).truncate(state, read)
        complete = not waiting or len(running) == batch_size  # no prompt enters
        drafted = _draft(stages, running) if complete and len(running) <= drafted_rows else []
        output = _read(backend, running, drafted, state) if running else None


def _tokens(
    stages: Stages,
    generation: Generation,
    drafted: list[int],
    outputs: tuple[Float32, Float32],
    advance: Advance,
) -> Iterator[Token]:
    """One utterance's next token, and one more after each drafted id that it chooses too.

    `outputs` are the logits (N, V) and hidden states (N, H) after its last id and the drafted ids.
    """
    for expected, logits, hidden in zip([*drafted, None], *outputs, strict=False):
        token = advance(stages, generation, logits, hidden)
        yield token
        if token.finish is not None or token.id != expected:
            return


def _read(
    backend: Backend, running: list[Generation], drafted: list[list[int]], state: object
) -> Output:
    """The output after the last id of each row; if ids were drafted, and after each of these."""
    last = [generation.ids[-1] for generation in running]
    if not drafted:
        return backend.step(np.array(last, np.int64), state)
    ids = [[first, *following] for first, following in zip(last, drafted, strict=True)]
    return Output(*cast(VerifyingBackend, backend).verify(*pad(ids), state))


def _add_drafters(
    stages: Stages, generations: Iterable[Generation], drafter: Callable[..., Drafter]
) -> None:
    agreement = Agreement()
    for generation in generations:
        draws = Draws(generation.prompt.uniforms)
        generation.prompt = replace(generation.prompt, uniforms=draws)
        generation.drafter = drafter(stages.draft, stages.sample, draws, agreement)


def _draft(stages: Stages, running: list[Generation]) -> list[list[int]]:
    """The ids that a draft expects to follow those of each row; [] if there are none."""
    stop, drafted = stages.config.language_model.eos_token_id, []
    for generation in running:
        if generation.drafter is not None:
            prompt, known = generation.prompt, generation.known
            # The pass that verifies the others gives one id more.
            most = prompt.max_new_tokens - len(generation.ids) - 1
            generation.drafter.settle(len(known))
            drafted.append(generation.drafter.propose(known, prompt.sampling, stop, most))
    return drafted if any(drafted) else []


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
