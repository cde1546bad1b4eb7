"""Faults of the generation loop and of its callers: which hidden states are decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import HIDDEN, STREAMING, SYNTHESIS, fault
from conformance.faults.plant import (
    Wrapper,
    with_advance,
    with_backend,
    with_offline_path,
    with_stages,
    with_streamed_path,
    with_voice,
)
from conformance.subject import Subject
from soprano.backends import Output
from soprano.generate import Generation, Prompt, Token, advance
from soprano.hallucination import LONGEST_RUN
from soprano.stages import Stages

ChangeTokens = Callable[[Stages, list[Prompt], Iterator[Token]], Iterator[Token]]


def with_tokens_changed(change: ChangeTokens) -> Callable[[Stages], Stages]:
    """`change(stages, prompts, tokens)` in place of what the generation loop yields."""

    def changed(own: Stages) -> Stages:
        def faulty(stages: Stages, prompts: Iterable[Prompt], **options: int) -> Iterator[Token]:
            prompts = list(prompts)
            return change(stages, prompts, own.generate(stages, prompts, **options))

        return replace(own, generate=faulty)

    return changed


@fault(STREAMING, "ST-01", blame=("GE", "ST"), public=True)
def stream_shifted_by_one(subject: Subject) -> Subject:
    """The stream decodes the state after feeding a token; offline is right."""

    def shifted(stages: Stages, prompts: Any, tokens: Iterator[Token]) -> Iterator[Token]:
        held: Token | None = None
        for token in tokens:
            if held is not None:
                yield held if token.hidden is None else replace(held, hidden=token.hidden)
            held = token
        if held is not None:
            yield held

    return with_streamed_path(subject, with_tokens_changed(shifted))


@fault(HIDDEN, "GE-01", with_advance, public=True)
def extra_tail_state(stages: Stages, generation: Generation, logits: Any, hidden: Any) -> Token:
    """States are collected before the id is tested: the one that predicts [STOP] is decoded."""
    token = advance(stages, generation, logits, hidden)
    if token.finish != "stop":
        return token
    return replace(token, id=stages.config.language_model.eos_token_id, hidden=hidden)


@fault(HIDDEN, "GE-01", with_advance, public=True)
def first_state_dropped(stages: Stages, generation: Generation, logits: Any, hidden: Any) -> Token:
    """The state of prefill is counted as the prompt's and not decoded."""
    first = not generation.ids
    token = advance(stages, generation, logits, hidden)
    return replace(token, hidden=None) if first else token


@fault(SYNTHESIS, "SY-07", hard=True, blame=("GE", "SY"), public=True)
def last_state_lost_on_length(subject: Subject) -> Subject:
    """The last token is dropped for every finish reason, which is right for "stop" only."""

    def dropped(stages: Stages, prompts: Any, tokens: Iterator[Token]) -> Iterator[Token]:
        for token in tokens:
            yield Token(token.prompt, None, None, "length") if token.finish == "length" else token

    return with_voice(subject, with_tokens_changed(dropped))


@fault(HIDDEN, "LM-02", with_backend, hard=True, public=True)
class OneBufferForEveryStep(Wrapper):
    """Each step returns its states in one array, which the next step overwrites."""

    buffer: Any = None

    def step(self, ids: Any, state: Any) -> Output:
        output = self.inner.step(ids, state)
        if self.buffer is None or self.buffer.shape != output.hidden.shape:
            self.buffer = output.hidden.copy()
        self.buffer[...] = output.hidden
        return output._replace(hidden=self.buffer)


@fault(HIDDEN, "DE-01", with_backend, hard=True, blame=("LM", "GE", "DE", "SY"), public=True)
class EveryAxisSqueezed(Wrapper):
    """Axes of size 1 are squeezed, so that one row or one token changes the shape."""

    def decode(self, hidden: Any, lengths: Any) -> Any:
        spectrum = self.inner.decode(hidden, lengths)
        return spectrum.squeeze() if hidden.shape[1] < 2 else spectrum


@fault(SYNTHESIS, "SY-06", blame=("GE", "SY"), public=True)
def prompt_states_become_sound(subject: Subject) -> Subject:
    """A state of the prompt is decoded before those of the utterance."""

    def preceded(stages: Stages, prompts: list[Prompt], tokens: Iterator[Token]) -> Iterator[Token]:
        begun = set()
        for token in tokens:
            if token.prompt not in begun and token.hidden is not None:
                begun.add(token.prompt)
                ids = np.array([prompts[token.prompt].ids[:-1]])
                output = stages.language_model.prefill(ids, np.array([ids.shape[1]]))
                yield Token(token.prompt, None, output.hidden[0], None)
            yield token

    return with_offline_path(subject, with_tokens_changed(preceded))


def stuck_by(subject: Subject, norm: int, far: Callable[[int], int]) -> Subject:
    """Another check for stuck utterances: a norm, and what a far step makes of the run."""

    def is_stuck(hidden: Any, distance: float) -> bool:
        run = 0
        steps = np.diff(hidden.astype(np.float64), axis=0)
        for step in np.linalg.norm(steps, norm, axis=1) if len(steps) else ():
            run = run + 1 if step < distance else far(run)
            if run > LONGEST_RUN:
                return True
        return False

    return with_stages(subject, is_stuck=is_stuck)


@fault(HIDDEN, "GE-13", hard=True, public=True)
def run_reset_instead_of_lowered(subject: Subject) -> Subject:
    """One far step resets the run of near steps to 0 instead of subtracting 1."""
    return stuck_by(subject, 1, lambda run: 0)


@fault(HIDDEN, "GE-13", hard=True)
def euclidean_distance_between_states(subject: Subject) -> Subject:
    """Steps are measured as L2 distances, but the threshold is for L1."""
    return stuck_by(subject, 2, lambda run: max(run - 1, 0))


@fault(HIDDEN, "GE-03", with_advance, hard=True)
def limit_met_one_token_late(
    stages: Stages, generation: Generation, logits: Any, hidden: Any
) -> Token:
    """The limit of new tokens is tested before the token is counted."""
    later = replace(generation.prompt, max_new_tokens=generation.prompt.max_new_tokens + 1)
    return advance(stages, replace(generation, prompt=later), logits, hidden)


@fault(SYNTHESIS, "SY-09", with_offline_path, hard=True, blame=("SY",))
def states_of_a_sentence_in_another_type(stages: Stages) -> Stages:
    """States are stored in half precision until they are decoded."""

    def decode(hidden: Any, lengths: Any) -> Any:
        return stages.decode(hidden.astype(np.float16).astype(np.float32), lengths)

    return replace(stages, decode=decode)


@fault(SYNTHESIS, "SY-06", hard=True, blame=("SY", "ST"))
def last_state_said_twice(subject: Subject) -> Subject:
    """The last state of an utterance is decoded twice, so that its end is not cut off."""

    def repeated(stages: Stages, prompts: Any, tokens: Iterator[Token]) -> Iterator[Token]:
        last: dict[int, Any] = {}
        for token in tokens:
            if token.hidden is not None:
                last[token.prompt] = token.hidden
            if token.finish is None or token.prompt not in last:
                yield token
                continue
            if token.finish == "length":
                yield replace(token, finish=None)
            yield Token(token.prompt, None, last[token.prompt], token.finish)

    return with_voice(subject, with_tokens_changed(repeated))


@fault(SYNTHESIS, "SY-13", with_voice, hard=True, blame=("SY",))
def retries_keep_the_first_attempt(stages: Stages) -> Stages:
    """A stuck utterance is generated again with the uniforms of its first attempt."""
    return replace(
        stages, uniforms=lambda seed, sentence, attempt: stages.uniforms(seed, sentence, 0)
    )
