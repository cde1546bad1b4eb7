"""Prompts -> hidden states: the generation loop.

The hidden state that predicts an audio token is the decoder's input for that token; the state
that predicts `[STOP]` is dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from soprano.backends import Backend, Float32, Int64, Output
from soprano.config import SamplingOptions
from soprano.sampling import sample


@dataclass(frozen=True)
class Prompt:
    """What one utterance needs: its ids, its draws, and its limit."""

    ids: list[int]
    uniforms: Iterator[float]
    sampling: SamplingOptions
    max_new_tokens: int


@dataclass(frozen=True)
class Token:
    """One step of one utterance; the last one has a finish reason and may have no token.

    `finish` is None, "stop" (the id was `[STOP]`, so `id` and `hidden` are None) or "length".
    """

    prompt: int  # index into the prompts
    id: int | None
    hidden: Float32 | None  # (H,)
    finish: str | None


@dataclass
class _Row:
    index: int
    prompt: Prompt
    generated: list[int] = field(default_factory=list)

    def choose(self, logits: Float32) -> int:
        draw = next(self.prompt.uniforms) if self.prompt.sampling.temperature else None
        history = self.prompt.ids + self.generated
        return sample(logits, history, self.prompt.sampling, draw)


def generate(
    backend: Backend, prompts: Iterable[Prompt], *, batch_size: int = 1
) -> Iterator[Token]:
    """Yield the tokens of all prompts as they come, several utterances at a time.

    A row that finishes leaves the batch and the next prompt takes its place.
    What an utterance says never depends on its neighbours or on `batch_size`.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    able = backend.capabilities
    if not (able.batch and able.select and able.join):
        batch_size = 1  # rows that come and go need all three
    stop = backend.config.language_model.eos_token_id
    waiting = deque(enumerate(prompts))
    rows: list[_Row] = []
    output: Output | None = None
    while rows or waiting:
        if waiting and len(rows) < batch_size:
            arrived = [
                _Row(*waiting.popleft()) for _ in range(min(batch_size - len(rows), len(waiting)))
            ]
            output = _enter(backend, output, [row.prompt.ids for row in arrived])
            rows += arrived
        assert output is not None
        chosen: list[int] = []
        staying: list[int] = []
        for place, row in enumerate(rows):
            token = _advance(row, output.logits[place], output.hidden[place], stop)
            yield token
            if token.finish is None:
                staying.append(place)
                chosen.append(row.generated[-1])
        state = output.state
        if staying and len(staying) < len(rows):
            state = backend.select(state, staying)
        output = backend.step(np.array(chosen, np.int64), state) if staying else None
        rows = [rows[place] for place in staying]


def _advance(row: _Row, logits: Float32, hidden: Float32, stop: int) -> Token:
    chosen = row.choose(logits)
    if chosen == stop:
        return Token(row.index, None, None, "stop")
    row.generated.append(chosen)
    full = len(row.generated) == row.prompt.max_new_tokens
    return Token(row.index, chosen, hidden, "length" if full else None)


def _enter(backend: Backend, running: Output | None, prompts: list[list[int]]) -> Output:
    """The running rows with those of new prompts after them."""
    entered = backend.prefill(*pad(prompts))
    if running is None:
        return entered
    return Output(
        np.concatenate([running.logits, entered.logits]),
        np.concatenate([running.hidden, entered.hidden]),
        backend.join(running.state, entered.state),
    )


def pad(rows: list[list[int]]) -> tuple[Int64, Int64]:
    """Right-padded ids (B, T) and lengths (B,)."""
    lengths = np.array([len(row) for row in rows], np.int64)
    ids = np.zeros((len(rows), lengths.max(initial=0)), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return ids, lengths
