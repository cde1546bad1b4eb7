"""Faults of the generation loop and its consumers: which hidden states become sound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from conformance.faults.fault import HIDDEN, STREAMING, SYNTHESIS, fault
from conformance.faults.plant import Plant, Wrapper
from soprano import generate, hallucination, synthesis
from soprano.generate import Token
from soprano.streaming import StreamingDecoder
from soprano.synthesis import SopranoTTS


def offline_states(plant: Plant, change: Any) -> None:
    """What `infer` decodes: `change(voice, piece, states)` instead of a sentence's states."""
    sound = SopranoTTS._sound

    def faulty(voice: Any, piece: Any) -> None:
        if piece.hidden:
            piece.hidden = list(change(voice, piece, piece.hidden))
        sound(voice, piece)

    plant.set(SopranoTTS, "_sound", faulty)


@fault("HS-01", STREAMING, blame=("GE", "ST"))
def stream_shifted_by_one(plant: Plant) -> None:
    """The stream decodes the state after feeding a token, offline the one that predicted it."""
    inner, stream = generate.generate, SopranoTTS._stream

    def shifted(backend: Any, prompts: Any, **options: Any) -> Iterator[Token]:
        held: Token | None = None
        for token in inner(backend, prompts, **options):
            if held is not None:
                state = token.hidden if token.hidden is not None else held.hidden
                yield replace(held, hidden=state)
            held = token
        if held is not None:
            yield held

    def faulty(*args: Any) -> Iterator[Any]:
        plant.set(synthesis, "generate", shifted)
        try:
            yield from stream(*args)
        finally:
            plant.set(synthesis, "generate", inner)

    plant.set(SopranoTTS, "_stream", faulty)


@fault("HS-02", HIDDEN)
def extra_tail_state(plant: Plant) -> None:
    """States are collected before the id is tested: the one that predicts [STOP] is decoded."""
    advance = generate._advance

    def faulty(row: Any, logits: Any, hidden: Any, stop: int) -> Token:
        token = advance(row, logits, hidden, stop)
        return replace(token, id=stop, hidden=hidden) if token.finish == "stop" else token

    plant.set(generate, "_advance", faulty)


@fault("HS-03", HIDDEN)
def first_state_dropped(plant: Plant) -> None:
    """The state that prefill gives is taken for the prompt's and never reaches the decoder."""
    advance = generate._advance

    def faulty(row: Any, logits: Any, hidden: Any, stop: int) -> Token:
        first = not row.generated
        token = advance(row, logits, hidden, stop)
        return replace(token, hidden=None) if first else token

    plant.set(generate, "_advance", faulty)


@fault("HS-04", SYNTHESIS, hard=True, blame=("GE", "SY"))
def last_state_lost_on_length(plant: Plant) -> None:
    """The consumer drops the last token whatever the reason, which is right for a stop only."""
    inner = generate.generate

    def faulty(*args: Any, **options: Any) -> Iterator[Token]:
        for token in inner(*args, **options):
            yield Token(token.prompt, None, None, "length") if token.finish == "length" else token

    plant.set(synthesis, "generate", faulty)


@fault("HS-06", HIDDEN, hard=True)
def one_buffer_for_every_step(plant: Plant) -> None:
    """Each step's states are returned in one array that the next step fills again."""

    class Aliased(Wrapper):
        buffer = None

        def step(self, ids: Any, state: Any) -> Any:
            output = self.inner.step(ids, state)
            if self.buffer is None or self.buffer.shape != output.hidden.shape:
                self.buffer = output.hidden.copy()
            self.buffer[...] = output.hidden
            return output._replace(hidden=self.buffer)

    plant.backend(Aliased)


@fault("HS-08", HIDDEN, hard=True, blame=("LM", "GE", "DE", "SY"))
def every_axis_squeezed(plant: Plant) -> None:
    """Axes of one are squeezed away, so that one row or one token has another shape."""

    class Squeezed(Wrapper):
        def decode(self, hidden: Any, lengths: Any) -> Any:
            spectrum = self.inner.decode(hidden, lengths)
            return spectrum.squeeze() if hidden.shape[1] < 2 else spectrum

    plant.backend(Squeezed)


@fault("HS-10", SYNTHESIS, blame=("GE", "SY"))
def prompt_states_become_sound(plant: Plant) -> None:
    """States of the prompt's own ids are decoded in front of the utterance."""

    def change(voice: Any, piece: Any, states: Any) -> Any:
        ids = np.array([voice.tokenizer.prompt(piece.sentence)[:-1]])
        return [voice.backend.prefill(ids, np.array([ids.shape[1]])).hidden[0], *states]

    offline_states(plant, change)


@fault("ST-08", HIDDEN, hard=True)
def run_reset_instead_of_lowered(plant: Plant) -> None:
    """One far step forgets the whole run of near ones."""

    def looks_stuck(hidden: Any, distance: float) -> bool:
        run = 0
        for step in np.abs(np.diff(hidden.astype(np.float64), axis=0)).sum(axis=1):
            run = run + 1 if step < distance else 0
            if run > hallucination.LONGEST_RUN:
                return True
        return False

    plant.replace(hallucination.looks_stuck, looks_stuck)


@fault("HS-50", HIDDEN, hard=True)
def limit_met_one_token_late(plant: Plant) -> None:
    """The limit of new tokens is tested before the token is counted."""
    advance = generate._advance

    def faulty(row: Any, logits: Any, hidden: Any, stop: int) -> Token:
        known = row.prompt.max_new_tokens
        late = replace(row.prompt, max_new_tokens=known + 1)
        row.prompt = late
        token = advance(row, logits, hidden, stop)
        row.prompt = replace(late, max_new_tokens=known)
        return token

    plant.set(generate, "_advance", faulty)


@fault("HS-51", SYNTHESIS, hard=True, blame=("SY",))
def states_of_a_sentence_in_another_type(plant: Plant) -> None:
    """States wait for the decoder in half precision to save memory."""
    offline_states(
        plant,
        lambda voice, piece, states: [s.astype(np.float16).astype(np.float32) for s in states],
    )


@fault("HS-52", SYNTHESIS, hard=True, blame=("SY", "ST"))
def last_state_said_twice(plant: Plant) -> None:
    """At the end of an utterance the last state is repeated, so that it is not cut off."""
    offline_states(plant, lambda voice, piece, states: [*states, states[-1]])
    add, flush = StreamingDecoder.add, StreamingDecoder.flush

    def faulty(decoder: Any, *, last: bool = False) -> Any:
        if last and decoder._hidden:
            add(decoder, decoder._hidden[-1])
        return flush(decoder, last=last)

    plant.set(StreamingDecoder, "flush", faulty)


@fault("HS-53", HIDDEN, hard=True)
def euclidean_distance_between_states(plant: Plant) -> None:
    """The check for stuck utterances measures L2 distances against a threshold meant for L1."""

    def looks_stuck(hidden: Any, distance: float) -> bool:
        run = 0
        for step in np.sqrt(np.square(np.diff(hidden.astype(np.float64), axis=0)).sum(axis=1)):
            run = run + 1 if step < distance else max(run - 1, 0)
            if run > hallucination.LONGEST_RUN:
                return True
        return False

    plant.replace(hallucination.looks_stuck, looks_stuck)


@fault("HS-54", SYNTHESIS, hard=True, blame=("SY",))
def retries_keep_the_first_attempt(plant: Plant) -> None:
    """A stuck utterance is generated again, and the first attempt's draws are used again."""
    prompt = SopranoTTS._prompt
    plant.set(
        SopranoTTS,
        "_prompt",
        lambda voice, piece, settings, attempt: prompt(voice, piece, settings, 0),
    )
